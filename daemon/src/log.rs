//! Where the log goes: structured to systemd's journal when standard error is connected to it, else as lines to
//! standard error.
//!
//! Levels: ERROR = data is lost or an operator is needed; WARN = something is worse than it should be and gets
//! better by itself; INFO = what an operator wants to find later (start, stop, connections, orders); DEBUG = for
//! those who look for a fault. Never in any of them: secrets, encodings, names or ids of people. One event's lines
//! share the field `correlation`, in the journal `GATEHOUSE_CORRELATION`.

mod journald;

use std::io::{IsTerminal, stderr};
use std::os::fd::AsFd;
use std::os::linux::fs::MetadataExt;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Variable that sets the level of our own lines: `error`, `warn`, `info` (default), `debug` or `trace`.
pub const LEVEL_VARIABLE: &str = "GATEHOUSE_LOG";

/// Starts the log of this process.
///
/// # Errors
/// Where one is started already.
pub fn init() -> Result<(), TryInitError> {
    let level = std::env::var(LEVEL_VARIABLE).ok().and_then(|level| level.parse().ok());
    // Other crates may speak of what passes through them; only their complaints are let through.
    let filter = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("gatehouse", level.unwrap_or(LevelFilter::INFO));
    let registry = tracing_subscriber::registry().with(filter);
    if stderr_is_the_journal() {
        registry.with(journald::Journald).try_init()
    } else {
        let ansi = stderr().is_terminal();
        let lines = tracing_subscriber::fmt::layer().with_writer(stderr).with_target(false).with_ansi(ansi);
        registry.with(lines).try_init()
    }
}

/// `JOURNAL_STREAM` names device and inode of the stream that systemd made; it is inherited by every child, so
/// only the comparison tells whether our standard error is still that stream.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(file) = stderr().as_fd().try_clone_to_owned().map(std::fs::File::from) else { return false };
    file.metadata().is_ok_and(|meta| stream == format!("{}:{}", meta.st_dev(), meta.st_ino()))
}
