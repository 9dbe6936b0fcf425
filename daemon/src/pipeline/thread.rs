//! One thread for the way of an event, with a runtime of its own.
//!
//! Input, events, answers and acknowledgements hand each event on, several times. Between the threads of a runtime each of
//! these wakes a processor, which costs more than what is done there; on one thread they are calls. Nothing else runs here:
//! media, delivery and orders have the runtime of the daemon, and what blocks has threads for that.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The thread; it ends when this is dropped, and its tasks with it.
pub(crate) struct EventThread {
    handle: Handle,
    _until: oneshot::Sender<()>,
}

impl EventThread {
    /// Starts it.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (until, dropped) = oneshot::channel();
        std::thread::Builder::new().name("events".to_owned()).spawn(move || {
            // The word is that nobody speaks any more.
            let _ = runtime.block_on(dropped);
            // What blocks there, a settings file that is read, holds up no end.
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _until: until })
    }

    /// Where tasks of it are started.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}
