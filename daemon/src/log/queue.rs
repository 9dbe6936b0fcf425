//! The queue between the callers of the log and the thread that writes.
//!
//! A reader that does not read (a pipe, journald) must not block the caller, which may be the event thread. So only the
//! writer thread blocks. Lines beyond the bound are dropped and counted. The next written line reports their number.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use thiserror::Error;
use tracing_subscriber::util::TryInitError;

/// Most queued lines: a start or a burst of errors, and well below a megabyte.
const QUEUE_LINES: usize = 1024;

/// Interval of the check whether all lines are written, only at the end.
const FLUSH_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Why the log does not start.
#[derive(Debug, Error)]
pub enum LogError {
    /// The thread cannot be started.
    #[error("the thread that writes the log cannot be started: {0}")]
    Thread(#[from] io::Error),
    /// The process has a log already.
    #[error(transparent)]
    Started(#[from] TryInitError),
}

/// The sender. It never blocks.
#[derive(Debug)]
pub struct LineQueue<T> {
    lines: SyncSender<T>,
    shared: Arc<Shared>,
}

/// Counters of both sides.
#[derive(Debug, Default)]
struct Shared {
    /// Lines that are queued or being written.
    unwritten: AtomicUsize,
    /// Lines that were dropped and not reported.
    dropped: AtomicU64,
}

impl<T> Clone for LineQueue<T> {
    fn clone(&self) -> Self {
        Self { lines: self.lines.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<T: Send + 'static> LineQueue<T> {
    /// Starts the thread that passes lines to `write`. `report` creates the line about dropped ones.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(super) fn start(
        mut write: impl FnMut(T) + Send + 'static,
        report: impl Fn(u64) -> T + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, lines): (_, Receiver<T>) = sync_channel(QUEUE_LINES);
        let shared = Arc::new(Shared::default());
        let counts = Arc::clone(&shared);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            for line in lines {
                let dropped = counts.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    write(report(dropped));
                }
                write(line);
                counts.unwritten.fetch_sub(1, Ordering::Release);
            }
        })?;
        Ok(Self { lines: sender, shared })
    }
}

impl<T> LineQueue<T> {
    /// Queues a line, or drops and counts it.
    pub(super) fn push(&self, line: T) {
        self.shared.unwritten.fetch_add(1, Ordering::Relaxed);
        if self.lines.try_send(line).is_err() {
            self.shared.unwritten.fetch_sub(1, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything is written, at most `timeout`.
    pub(super) fn wait_written(&self, timeout: Duration) {
        let begin = Instant::now();
        while self.shared.unwritten.load(Ordering::Acquire) > 0 && begin.elapsed() < timeout {
            std::thread::sleep(FLUSH_POLL_INTERVAL);
        }
    }
}

/// One write is one line: the formatting layer writes each line at once.
impl Write for LineQueue<Vec<u8>> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn a_blocked_writer_blocks_no_caller_and_says_how_many_lines_were_dropped() {
        let (unblock, blocked) = std::sync::mpsc::channel::<()>();
        let (takes, taken) = std::sync::mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&written);
        let write = move |line: String| {
            let _ = takes.send(());
            let _ = blocked.recv();
            seen.lock().unwrap().push(line);
        };
        let queue = LineQueue::start(write, |dropped| format!("dropped {dropped}")).unwrap();
        // Until the writer has taken the first line there is one place less.
        queue.push("first".to_owned());
        taken.recv().unwrap();
        (0..QUEUE_LINES + 7).for_each(|nth| queue.push(nth.to_string()));
        queue.wait_written(Duration::from_millis(50));
        assert!(written.lock().unwrap().is_empty(), "it returned while the writer was blocked");
        drop(unblock);
        queue.wait_written(Duration::from_secs(30));
        let written = written.lock().unwrap();
        assert_eq!(written[..3], ["first", "dropped 7", "0"]);
        assert_eq!(written.len(), QUEUE_LINES + 2);
    }
}
