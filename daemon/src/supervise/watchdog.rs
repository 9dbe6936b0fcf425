//! The pulse: systemd is told that the daemon lives only after a message made its way through the pipeline and
//! the journal's writer and back.
//!
//! Three answers are possible. In time: systemd is petted. Late: nothing is said, and if it stays so systemd
//! restarts the daemon. An error: the journal has failed for good, and [`run`] returns it at once.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::warn;

use super::{stopped, systemd};

/// Pulse without a watchdog of systemd: a journal that has failed is noticed within this time.
const PULSE_ALONE: Duration = Duration::from_secs(5);
/// Shortest pulse: each costs a round trip through the journal's writer.
const PULSE_MIN: Duration = Duration::from_millis(100);

/// Time between two pulses: half of what systemd allows, so that one may come late.
pub fn pulse(period: Option<Duration>) -> Duration {
    period.map_or(PULSE_ALONE, |period| (period / 2).max(PULSE_MIN))
}

/// Probes every `pulse` and pets systemd; ends when `stop` turns true.
///
/// # Errors
/// The first error of a probe: it will not get better by waiting.
pub async fn run<F, E>(
    pulse: Duration,
    mut stop: watch::Receiver<bool>,
    mut probe: impl FnMut() -> F,
) -> Result<(), E>
where
    F: Future<Output = Result<(), E>>,
{
    let mut ticks = interval(pulse);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return Ok(()),
            _ = ticks.tick() => {}
        }
        tokio::select! {
            () = stopped(&mut stop) => return Ok(()),
            answer = timeout(pulse, probe()) => match answer {
                Ok(Ok(())) => systemd::pet(),
                Ok(Err(error)) => return Err(error),
                Err(_) => warn!(seconds = pulse.as_secs_f32(), "pipeline and journal gave no sign of life in time"),
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
        assert_eq!(pulse(Some(Duration::from_secs(30))), Duration::from_secs(15));
        assert_eq!(pulse(None), PULSE_ALONE);
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
