//! The loop of one sink: push, wait for new records or for the back-off, push again.
//!
//! Constraints: each sink has its own loop and task, so that a failing one never delays another. The head of the
//! journal, `sync now` and the back-off wake it. It never polls. While it is paused, or outside its hours, it does
//! nothing. Every failure waits, also a push that reports more work without progress
//! ([`PUSHES_WITHOUT_PROGRESS_MAX`]), so there is no hot loop. The delay is the circuit breaker of the sink: a failure
//! opens it, one bounded push tests it, and only a success closes it. `sync now` and `doctor` ask for the present
//! state of the central services, so they reconnect.
//!
//! After a crash: the loop has no state. The central cursor and the journal record what was delivered. An interrupted
//! push is repeated and counts once (see [`SinkDriver`]).

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::Timelike as _;
use futures_util::FutureExt as _;
use gatehouse_central::error::SyncError;
use gatehouse_config::Hours;
use gatehouse_journal::Position;
use gatehouse_model::SinkState;
use gatehouse_store::record::Sink;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::backoff::Backoff;
use crate::sink::{Progress, SinkDriver};
use crate::status::Gauge;

/// Delay between a new record and the push, so that records that arrive together are sent together. It allows at most
/// 50 transactions per second, each with a journal record of its own, and no event is noticeably later.
const COALESCE_DELAY: Duration = Duration::from_millis(20);
/// Consecutive pushes without progress. Halving a batch of a million rows down to one takes 20. Beyond that the loop
/// waits as after a failure.
const PUSHES_WITHOUT_PROGRESS_MAX: u32 = 32;

/// Interval at which the clock is read again while a sink waits for its hours: the clock may be set, and summer time
/// ends.
const CLOCK_RECHECK_INTERVAL: Duration = Duration::from_secs(60);

/// When a sink may push.
pub(crate) struct DeliveryHours {
    /// At any time if none.
    pub(crate) hours: Option<Hours>,
    /// Seconds since midnight, by the local clock.
    pub(crate) clock: fn() -> u32,
    /// How long a reading of the clock is used.
    pub(crate) recheck_interval: Duration,
}

impl DeliveryHours {
    /// By the clock of this machine.
    pub(crate) fn at(hours: Option<Hours>) -> Self {
        let clock = || chrono::Local::now().time().num_seconds_from_midnight();
        Self { hours, clock, recheck_interval: CLOCK_RECHECK_INTERVAL }
    }

    fn begins_in(&self) -> Option<Duration> {
        self.hours.and_then(|hours| hours.begin_in((self.clock)()))
    }
}

/// What wakes or ends a loop.
pub(crate) struct Wake {
    /// The durable head of the journal.
    pub(crate) head: watch::Receiver<Position>,
    /// `sync now`.
    pub(crate) now: Arc<Notify>,
    /// True: end after the current push.
    pub(crate) stop: watch::Receiver<bool>,
    /// Nothing is pushed before this moment.
    pub(crate) paused: watch::Receiver<Option<Instant>>,
    /// Nothing is pushed outside these hours.
    pub(crate) hours_open: DeliveryHours,
}

/// Why the loop waits.
enum Pause {
    /// Not at all: there is more to push.
    None,
    /// For a new record, or this long.
    News(Option<Duration>),
    /// This long. Only `sync now` ends it earlier.
    Retry(Duration),
}

/// How a wait ended.
enum WaitEnd {
    /// The loop must end.
    End,
    /// There is a new record, or a retry is due.
    Push,
    /// `sync now` was called.
    Look,
}

impl WaitEnd {
    fn push_unless(stop: bool) -> Self {
        if stop { Self::End } else { Self::Push }
    }
}

/// Runs one sink until it is stopped or the store is closed.
pub(crate) async fn run<O: SinkDriver>(
    mut driver: O,
    sink: Sink,
    gauge: Gauge,
    mut backoff: Backoff,
    mut wake: Wake,
) {
    let mut idle_pushes = 0;
    while wake.may_push(&gauge).await {
        // Marked as seen before the push, so that a record that arrives during the push causes another one.
        wake.head.borrow_and_update();
        gauge.working();
        let pause = match guarded(&mut driver).await {
            Ok(progress) => {
                report(sink, &gauge, &progress);
                idle_pushes = if progress.moved() == 0 && progress.more { idle_pushes + 1 } else { 0 };
                if idle_pushes > PUSHES_WITHOUT_PROGRESS_MAX {
                    Pause::Retry(backoff.next())
                } else {
                    backoff.reset();
                    if progress.more { Pause::None } else { Pause::News(progress.again_in) }
                }
            }
            Err(failure) => {
                driver.reset();
                let delay = if failure.stops_sink() { backoff.rare() } else { backoff.next() };
                log_failure(sink, &failure, delay, gauge.failed(&failure, delay));
                Pause::Retry(delay)
            }
        };
        match wake.wait(&gauge, pause, &mut driver).await {
            WaitEnd::End => break,
            WaitEnd::Push => {}
            // An idle connection does not detect that the peer is gone.
            WaitEnd::Look => driver.reset(),
        }
    }
    gauge.stopped();
}

/// A push whose panic becomes an error: a defect in one sink must not end delivery silently.
async fn guarded<O: SinkDriver>(driver: &mut O) -> Result<Progress, SyncError> {
    AssertUnwindSafe(driver.push()).catch_unwind().await.unwrap_or_else(|_| {
        Err(SyncError::Store {
            doing: "deliver",
            source: "a defect of the program (panic): please report it".into(),
        })
    })
}

fn report(sink: Sink, gauge: &Gauge, progress: &Progress) {
    if gauge.read().error.is_some() {
        info!(?sink, "delivery works again");
    }
    gauge.delivered(progress.delivered, progress.taken, &progress.set_aside);
    for message in &progress.set_aside {
        error!(?sink, "set aside: {message}");
    }
}

fn log_failure(sink: Sink, failure: &SyncError, delay: Duration, news: bool) {
    let retry_in_s = delay.as_secs();
    match (news, failure.stops_sink()) {
        (true, true) => error!(?sink, retry_in_s, "delivery stopped: {failure}"),
        (true, false) => warn!(?sink, retry_in_s, "delivery waits: {failure}"),
        (false, _) => debug!(?sink, retry_in_s, "delivery still waits: {failure}"),
    }
}

impl Wake {
    /// Waits until a pause is over and the hours have begun. False if the loop must end.
    async fn may_push(&mut self, gauge: &Gauge) -> bool {
        while !*self.stop.borrow() {
            let until = (*self.paused.borrow_and_update()).filter(|until| *until > Instant::now());
            let until = match (until, self.hours_open.begins_in()) {
                (Some(until), _) => {
                    gauge.held(SinkState::Paused, until.saturating_duration_since(Instant::now()));
                    until
                }
                (None, Some(left)) => {
                    gauge.held(SinkState::Scheduled, left);
                    Instant::now() + left.min(self.hours_open.recheck_interval)
                }
                (None, None) => return true,
            };
            tokio::select! {
                stop = self.stop.wait_for(|stop| *stop) => { let _ = stop; }
                // An error means that the sender was dropped, so the pause can never end.
                changed = self.paused.changed() => if changed.is_err() { return false; },
                () = tokio::time::sleep_until(until) => {}
            }
        }
        false
    }

    async fn wait(&mut self, gauge: &Gauge, pause: Pause, driver: &mut impl SinkDriver) -> WaitEnd {
        match pause {
            Pause::None => WaitEnd::push_unless(*self.stop.borrow()),
            Pause::Retry(delay) => tokio::select! {
                stop = self.stop.wait_for(|stop| *stop) => { let _ = stop; WaitEnd::End }
                () = self.now.notified() => WaitEnd::Look,
                _ = self.paused.changed() => WaitEnd::Push,
                () = tokio::time::sleep(delay) => WaitEnd::Push,
            },
            Pause::News(again_in) => {
                gauge.idle();
                tokio::select! {
                    stop = self.stop.wait_for(|stop| *stop) => { let _ = stop; return WaitEnd::End; }
                    () = self.now.notified() => return WaitEnd::Look,
                    _ = self.paused.changed() => return WaitEnd::Push,
                    () = sleep_or_for_ever(again_in) => return WaitEnd::Push,
                    () = driver.woken() => {}
                    // An error means that the store is closed: there will be no more records.
                    news = self.head.changed() => if news.is_err() { return WaitEnd::End; },
                }
                tokio::select! {
                    stop = self.stop.wait_for(|stop| *stop) => { let _ = stop; WaitEnd::End }
                    () = tokio::time::sleep(COALESCE_DELAY) => WaitEnd::Push,
                }
            }
        }
    }
}

async fn sleep_or_for_ever(delay: Option<Duration>) {
    match delay {
        Some(delay) => tokio::time::sleep(delay).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
