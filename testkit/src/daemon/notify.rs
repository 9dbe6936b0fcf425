//! The socket on which a daemon notifies its service manager of its state.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

/// Longer than any notification.
const MESSAGE_MAX: usize = 8192;

/// All notifications, collected by a thread: a full socket would make the daemon wait.
#[derive(Debug)]
pub(super) struct Notifications {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Notifications {
    pub(super) fn listen(path: &Path) -> Result<Self> {
        let socket = UnixDatagram::bind(path)?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        // The thread ends with the process: a socket cannot be closed from the other side.
        std::thread::Builder::new().name("notify".into()).spawn(move || {
            let mut buffer = [0; MESSAGE_MAX];
            while let Ok(length) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let mut lines = sink.lock().unwrap_or_else(PoisonError::into_inner);
                lines.extend(text.lines().map(str::to_owned));
            }
        })?;
        Ok(Self { lines })
    }

    pub(super) fn clear(&self) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn contain(&self, line: &str) -> bool {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|l| l == line)
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
