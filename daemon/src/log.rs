//! The log: structured entries for the systemd journal if standard error is connected to it, otherwise lines on standard
//! error.
//!
//! Levels: ERROR = data is lost or an operator is needed; WARN = a problem that the daemon recovers from by itself; INFO =
//! start, stop, connections, requests; DEBUG = details for diagnosis. No line contains secrets, encodings, names or ids of
//! people. All lines of an event have the same field `correlation`, in the journal `GATEHOUSE_CORRELATION`.
//!
//! A caller never waits for the log: one thread writes from a bounded [`queue`].

mod journald;
mod queue;

use std::io::{IsTerminal, Write, stderr};
use std::os::fd::AsFd;
use std::os::linux::fs::MetadataExt;
use std::time::Duration;

use gatehouse_model::Timestamp;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use queue::LineQueue;

pub use queue::LogError;

/// Variable that sets the level of our lines: `error`, `warn`, `info` (default), `debug` or `trace`.
pub const LEVEL_VARIABLE: &str = "GATEHOUSE_LOG";

/// Bounds the wait for the last lines at the end: a reader needs milliseconds, and the service manager bounds the end of the
/// daemon.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The log of this process. Dropping it waits a bounded time for the last lines.
#[derive(Debug)]
pub enum Log {
    /// Lines to standard error.
    Lines(LineQueue<Vec<u8>>),
    /// Entries for systemd's journal.
    Journal(LineQueue<Vec<String>>),
}

impl Drop for Log {
    fn drop(&mut self) {
        match self {
            Self::Lines(queue) => queue.wait_written(FLUSH_TIMEOUT),
            Self::Journal(queue) => queue.wait_written(FLUSH_TIMEOUT),
        }
    }
}

/// Starts the log of this process.
///
/// # Errors
/// If a log is started already, or its thread cannot be started.
pub fn init() -> Result<Log, LogError> {
    let level = std::env::var(LEVEL_VARIABLE).ok().and_then(|level| level.parse().ok());
    // Other crates may log data that passes through them, so only their warnings and errors are accepted.
    let filter = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("gatehouse", level.unwrap_or(LevelFilter::INFO));
    let registry = tracing_subscriber::registry().with(filter);
    if stderr_is_the_journal() {
        let queue = LineQueue::start(journald::send, journald::dropped)?;
        registry.with(journald::Journald(queue.clone())).try_init()?;
        Ok(Log::Journal(queue))
    } else {
        let ansi = stderr().is_terminal();
        let write = |line: Vec<u8>| {
            // There is no other place to report an error.
            let _ = stderr().write_all(&line);
        };
        let report = |dropped| {
            let now = Timestamp::now();
            format!("{now}  WARN log lines were dropped: the reader is too slow dropped={dropped}\n")
                .into_bytes()
        };
        let queue = LineQueue::start(write, report)?;
        let writer = queue.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_target(false)
            .with_ansi(ansi);
        registry.with(lines).try_init()?;
        Ok(Log::Lines(queue))
    }
}

/// `JOURNAL_STREAM` contains device and inode of the stream that systemd created. Every child inherits the variable, so the
/// comparison shows whether standard error is still that stream.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(file) = stderr().as_fd().try_clone_to_owned().map(std::fs::File::from) else { return false };
    file.metadata().is_ok_and(|meta| stream == format!("{}:{}", meta.st_dev(), meta.st_ino()))
}
