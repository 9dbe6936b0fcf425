//! The trait of a sink. A sink is one file that implements [`SinkDriver`] and one line in [`crate::Sync::start`]. Loop,
//! back-off, wake-up and status are shared. `ARCHITECTURE.md` lists what an additional sink needs elsewhere.

use std::future::Future;
use std::time::Duration;

use gatehouse_central::error::SyncError;

/// A destination of delivery.
///
/// `push` delivers one bounded portion and keeps its own connection and cursor. It may be cancelled at any await, and
/// it may be called again after any error. What it delivers twice must count once. Every call that leaves the machine
/// must have a deadline.
pub(crate) trait SinkDriver: Send + 'static {
    /// Delivers the next portion.
    ///
    /// After an `Err` the loop waits (back-off) before the next call. A failure of one item that does not affect the
    /// others is no `Err`: the item is set aside and reported in [`Progress::set_aside`].
    fn push(&mut self) -> impl Future<Output = Result<Progress, SyncError>> + Send;

    /// Drops the connection. Called after every `Err`.
    fn reset(&mut self);

    /// Resolves when the central services have changes to download. Called while the sink is idle, may be cancelled at
    /// any time.
    fn woken(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// Result of one push.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Items delivered.
    pub(crate) delivered: u64,
    /// Items downloaded.
    pub(crate) taken: u64,
    /// Pictures whose thumbnails were delivered or cannot be made. They are in no other count.
    pub(crate) previewed: u64,
    /// Whether more is pending. The loop then pushes again at once.
    pub(crate) more: bool,
    /// Items set aside in this push, each as a text for log and status.
    pub(crate) set_aside: Vec<String>,
    /// When to push again without new records, to retry items set aside.
    pub(crate) again_in: Option<Duration>,
}

impl Progress {
    /// Steps of progress of any kind.
    pub(crate) fn moved(&self) -> u64 {
        self.delivered + self.taken + self.previewed
    }
}
