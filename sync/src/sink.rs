//! What a sink is: one small trait. A new central sink is one file that implements [`Outlet`] and one line in
//! [`crate::Sync::start`]; the loop, the back-off, the wake-up and the status are the same for all.

use std::future::Future;
use std::time::Duration;

use gatehouse_central::error::SyncError;

/// One way out of the appliance.
///
/// `push` delivers one bounded portion and keeps its own connection and cursor. It may be cancelled at any await
/// (stop under a deadline), and it may be called again after any error: what it delivers twice must count once.
/// It puts a deadline on every call that leaves the machine.
pub(crate) trait Outlet: Send + 'static {
    /// Delivers the next portion.
    ///
    /// An `Err` makes the loop wait (back-off) before the next call. Failures of one item that do not concern the
    /// others are no `Err`: they are set aside and reported in [`Progress::set_aside`].
    fn push(&mut self) -> impl Future<Output = Result<Progress, SyncError>> + Send;

    /// Forgets the connection; called after every `Err`.
    fn reset(&mut self);

    /// Resolves when the central side has something to say, and the next push is to look. Called while the sink
    /// waits for news, may be cut off at any time.
    fn woken(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// What one push did.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Items delivered for good.
    pub(crate) delivered: u64,
    /// Items taken in from the central side.
    pub(crate) taken: u64,
    /// Pictures that were looked at, whether their thumbnails are delivered or there can be none. They count nowhere.
    pub(crate) previewed: u64,
    /// Whether more is known to wait: the loop pushes again at once.
    pub(crate) more: bool,
    /// Items set aside in this push, each in words for the log and the status.
    pub(crate) set_aside: Vec<String>,
    /// When to push again although nothing new has arrived (items set aside that are tried again rarely).
    pub(crate) again_in: Option<Duration>,
}

impl Progress {
    /// Steps forward, of whatever kind.
    pub(crate) fn moved(&self) -> u64 {
        self.delivered + self.taken + self.previewed
    }
}
