//! The watchdog notifies systemd only after a probe passed through the pipeline and the journal writer.
//!
//! A probe that answers in time notifies systemd. A late one does not; if this continues, systemd restarts the daemon. An
//! error means that the journal failed permanently, and [`run`] returns it at once.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::warn;

use super::{stopped, systemd};

/// Interval without a watchdog of systemd: a failed journal is detected within it.
const DEFAULT_PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// Shortest interval: each probe costs a round trip through the journal writer.
const PROBE_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Time between two probes: half of the period of systemd, so that one may be late.
pub fn probe_interval(period: Option<Duration>) -> Duration {
    period.map_or(DEFAULT_PROBE_INTERVAL, |period| (period / 2).max(PROBE_INTERVAL_MIN))
}

/// Probes at every `probe_interval` and notifies systemd. Ends when `stop` is true.
///
/// # Errors
/// The first error of a probe, which is permanent.
pub async fn run<F, E>(
    probe_interval: Duration,
    mut stop: watch::Receiver<bool>,
    mut probe: impl FnMut() -> F,
) -> Result<(), E>
where
    F: Future<Output = Result<(), E>>,
{
    let mut ticks = interval(probe_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return Ok(()),
            _ = ticks.tick() => {}
        }
        tokio::select! {
            () = stopped(&mut stop) => return Ok(()),
            answer = timeout(probe_interval, probe()) => match answer {
                Ok(Ok(())) => systemd::keep_alive(),
                Ok(Err(error)) => return Err(error),
                Err(_) => warn!(seconds = probe_interval.as_secs_f32(), "pipeline and journal did not answer in time"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn the_pulse_is_half_of_what_systemd_allows() {
        assert_eq!(probe_interval(Some(Duration::from_secs(30))), Duration::from_secs(15));
        assert_eq!(probe_interval(None), DEFAULT_PROBE_INTERVAL);
    }

    #[tokio::test]
    async fn a_late_answer_is_waited_for_again_and_an_error_ends_the_watch() {
        let (_keep, stop) = watch::channel(false);
        let asked = Cell::new(0);
        let result = run(Duration::from_millis(20), stop, || {
            asked.set(asked.get() + 1);
            let first = asked.get() == 1;
            async move { if first { std::future::pending().await } else { Err("poisoned") } }
        });
        assert_eq!(result.await, Err("poisoned"));
        assert_eq!(asked.get(), 2);
    }
}
