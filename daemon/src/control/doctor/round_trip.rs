//! The round trip to the broker, and whether the broker delays small packets.

use std::time::Duration;

use gatehouse_config::Config;

use gatehouse_control::answers::Finding;
use gatehouse_mqtt::{ProbeError, RoundTrip, measure};

const WHAT: &str = "round trip";
/// Linux delays an acknowledgement by at least 40 ms. A second packet that is later than this waited for one.
const STALL_DELAY_MIN: Duration = Duration::from_millis(30);

/// Measures it at the connected broker.
pub(super) async fn finding(config: &Config) -> Finding {
    judge(measure(config).await)
}

fn judge(measured: Result<RoundTrip, ProbeError>) -> Finding {
    let milliseconds = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    match measured {
        Ok(RoundTrip { first, stall }) if stall >= STALL_DELAY_MIN => Finding::note(
            WHAT,
            format!(
                "{} round trip, but the second of two packets arrives {} later: answers to cameras have the same delay",
                milliseconds(first),
                milliseconds(stall)
            ),
            "set `set_tcp_nodelay true` in the broker's mosquitto.conf and restart it: it uses Nagle's algorithm",
        ),
        Ok(RoundTrip { first, .. }) => {
            Finding::ok(WHAT, format!("{} round trip, no packet is delayed", milliseconds(first)))
        }
        Err(error @ ProbeError::Denied(_)) => Finding::note(
            WHAT,
            format!("not measured: {error}"),
            "nothing else needs this topic; the access list shipped for mosquitto has the line for it",
        ),
        Err(error) => Finding::note(
            WHAT,
            format!("not measured: {error}"),
            "see the finding on the broker, and ask again",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatehouse_control::answers::Grade;

    fn trip(first: u64, stall: u64) -> Finding {
        let (first, stall) = (Duration::from_millis(first), Duration::from_millis(stall));
        judge(Ok(RoundTrip { first, stall }))
    }

    #[test]
    fn a_broker_that_holds_packets_back_is_a_note_with_the_setting_and_a_far_one_is_not() {
        let held = trip(1, 43);
        assert_eq!(held.grade, Grade::Note);
        assert!(held.advice.unwrap_or_default().contains("set_tcp_nodelay true"));
        assert_eq!(trip(180, 2).grade, Grade::Ok);
    }

    #[test]
    fn a_broker_that_denies_the_topic_is_no_fault() {
        let denied = judge(Err(ProbeError::Denied("gatehouse/status/probe/x".into())));
        assert_eq!(denied.grade, Grade::Note);
        assert!(denied.words.contains("gatehouse/status/probe/x"), "{}", denied.words);
    }
}
