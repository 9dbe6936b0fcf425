//! The loop of one sink: push, wait for news or for the back-off, push again.
//!
//! Constraints: each sink has a loop and a task of its own, so that one that is down never holds up another. It is
//! woken by the journal's head, by `sync now` and by its back-off; it never polls. While it is paused, or outside its hours,
//! it does nothing. Every failure waits, also one that claims that more is to do while nothing moves
//! ([`TURNS_WITHOUT_PROGRESS_MAX`]): there is no hot loop. The wait is the sink's circuit breaker: it opens with a failure,
//! one bounded push tries after it, and only its success closes it. Who asks (`sync now`, `doctor`) wants to know how the
//! central side is, not how it was: then the connection is made anew.
//! Crash story: the loop keeps nothing. What was delivered is known by the cursor at the central side and in the
//! journal; a push that was cut off is made again and counts once (see [`Outlet`]).

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::Timelike as _;
use futures_util::FutureExt as _;
use gatehouse_central::error::SyncError;
use gatehouse_config::Hours;
use gatehouse_journal::Position;
use gatehouse_store::record::Sink;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::backoff::Backoff;
use crate::sink::{Outlet, Progress};
use crate::status::{Gauge, SinkState};

/// After news the loop waits this long before it pushes, so that what arrives together leaves together: at most 50
/// transactions (each with a journal record of its own) per second, and no visit is noticeably later.
const GATHER: Duration = Duration::from_millis(20);
/// Pushes in a row that deliver nothing although more is said to wait. Halving a batch of a million rows down to one
/// takes 20; beyond that something is wrong, and it waits like after a failure.
const TURNS_WITHOUT_PROGRESS_MAX: u32 = 32;

/// Longest time for which the clock is believed while a sink waits for its hours: it may be set, and summer ends.
const CLOCK_TRUST: Duration = Duration::from_secs(60);

/// When a sink may push.
pub(crate) struct Opening {
    /// At any time, where there are none.
    pub(crate) hours: Option<Hours>,
    /// Seconds since midnight, by the local clock.
    pub(crate) clock: fn() -> u32,
    /// How long the clock is believed.
    pub(crate) trust: Duration,
}

impl Opening {
    /// By the clock of this machine.
    pub(crate) fn at(hours: Option<Hours>) -> Self {
        let clock = || chrono::Local::now().time().num_seconds_from_midnight();
        Self { hours, clock, trust: CLOCK_TRUST }
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
    /// True: end after the present push.
    pub(crate) stop: watch::Receiver<bool>,
    /// Nothing is pushed before this moment.
    pub(crate) paused: watch::Receiver<Option<Instant>>,
    /// Nothing is pushed outside of it.
    pub(crate) opening: Opening,
}

/// Why the loop waits.
enum Pause {
    /// More is there: not at all.
    None,
    /// For news, or this long.
    News(Option<Duration>),
    /// This long, whatever happens, except `sync now`.
    Retry(Duration),
}

/// How a wait ended.
enum Next {
    /// It is time to stop.
    End,
    /// There is news, or a retry is due.
    Push,
    /// Somebody asked.
    Look,
}

impl Next {
    fn push_unless(stop: bool) -> Self {
        if stop { Self::End } else { Self::Push }
    }
}

/// Runs one sink until it is told to stop or the store is closed.
pub(crate) async fn run<O: Outlet>(
    mut outlet: O,
    sink: Sink,
    gauge: Gauge,
    mut backoff: Backoff,
    mut wake: Wake,
) {
    let mut idle_turns = 0;
    while wake.may_push(&gauge).await {
        // Seen before the push: what arrives during the push is news after it.
        wake.head.borrow_and_update();
        gauge.working();
        let pause = match guarded(&mut outlet).await {
            Ok(progress) => {
                report(sink, &gauge, &progress);
                idle_turns = if progress.moved() == 0 && progress.more { idle_turns + 1 } else { 0 };
                if idle_turns > TURNS_WITHOUT_PROGRESS_MAX {
                    Pause::Retry(backoff.next())
                } else {
                    backoff.reset();
                    if progress.more { Pause::None } else { Pause::News(progress.again_in) }
                }
            }
            Err(failure) => {
                outlet.reset();
                let delay = if failure.stops_sink() { backoff.rare() } else { backoff.next() };
                log_failure(sink, &failure, delay, gauge.failed(&failure, delay));
                Pause::Retry(delay)
            }
        };
        match wake.wait(&gauge, pause, &mut outlet).await {
            Next::End => break,
            Next::Push => {}
            // An idle connection does not notice that the other side is gone.
            Next::Look => outlet.reset(),
        }
    }
    gauge.stopped();
}

/// A push whose panic is an error like another: a fault in one sink must not end delivery unseen.
async fn guarded<O: Outlet>(outlet: &mut O) -> Result<Progress, SyncError> {
    AssertUnwindSafe(outlet.push()).catch_unwind().await.unwrap_or_else(|_| {
        Err(SyncError::Store {
            doing: "deliver",
            source: "a fault of the program (panic), please report it".into(),
        })
    })
}

fn report(sink: Sink, gauge: &Gauge, progress: &Progress) {
    if gauge.read().error.is_some() {
        info!(?sink, "delivery works again");
    }
    gauge.delivered(progress.delivered, progress.taken, &progress.set_aside);
    for words in &progress.set_aside {
        error!(?sink, "set aside: {words}");
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
    /// Waits until a pause is over and the hours have begun; false where it is time to stop.
    async fn may_push(&mut self, gauge: &Gauge) -> bool {
        while !*self.stop.borrow() {
            let until = (*self.paused.borrow_and_update()).filter(|until| *until > Instant::now());
            let until = match (until, self.opening.begins_in()) {
                (Some(until), _) => {
                    gauge.held(SinkState::Paused, until.saturating_duration_since(Instant::now()));
                    until
                }
                (None, Some(left)) => {
                    gauge.held(SinkState::Scheduled, left);
                    Instant::now() + left.min(self.opening.trust)
                }
                (None, None) => return true,
            };
            tokio::select! {
                stop = self.stop.wait_for(|stop| *stop) => { let _ = stop; }
                // An error means that nobody is left who could end it.
                changed = self.paused.changed() => if changed.is_err() { return false; },
                () = tokio::time::sleep_until(until) => {}
            }
        }
        false
    }

    async fn wait(&mut self, gauge: &Gauge, pause: Pause, outlet: &mut impl Outlet) -> Next {
        match pause {
            Pause::None => Next::push_unless(*self.stop.borrow()),
            Pause::Retry(delay) => tokio::select! {
                stop = self.stop.wait_for(|stop| *stop) => { let _ = stop; Next::End }
                () = self.now.notified() => Next::Look,
                _ = self.paused.changed() => Next::Push,
                () = tokio::time::sleep(delay) => Next::Push,
            },
            Pause::News(again_in) => {
                gauge.idle();
                tokio::select! {
                    stop = self.stop.wait_for(|stop| *stop) => { let _ = stop; return Next::End; }
                    () = self.now.notified() => return Next::Look,
                    _ = self.paused.changed() => return Next::Push,
                    () = sleep_or_for_ever(again_in) => return Next::Push,
                    () = outlet.woken() => {}
                    // An error means that the store is closed: there will be no news.
                    news = self.head.changed() => if news.is_err() { return Next::End; },
                }
                tokio::select! {
                    stop = self.stop.wait_for(|stop| *stop) => { let _ = stop; Next::End }
                    () = tokio::time::sleep(GATHER) => Next::Push,
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
