//! One thread with its own runtime for the path of an event.
//!
//! Input, events, answers and acknowledgements pass each event on several times. Between threads each of these steps wakes a
//! processor, which costs more than the step itself. On one thread they are calls. Media, delivery and requests run on the
//! runtime of the daemon, and blocking work on its blocking threads.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The thread. It ends with its tasks when this is dropped.
pub(crate) struct EventThread {
    handle: Handle,
    _until: oneshot::Sender<()>,
}

impl EventThread {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (until, dropped) = oneshot::channel();
        std::thread::Builder::new().name("events".to_owned()).spawn(move || {
            // The sender was dropped: shut down.
            let _ = runtime.block_on(dropped);
            // Does not wait for blocking work, such as reading a file.
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _until: until })
    }

    /// Starts tasks on the thread.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}
