//! Records readings of the wall clock in the journal, and whether a time server synchronizes it.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use gatehouse_model::Timestamp;
use gatehouse_store::clock::Reading;
use gatehouse_store::store::{Events, StoreError};
use tracing::{info, warn};

use super::settings::CLOCK_IS_SET;

/// Bounds one check: on a full disk the journal does not accept the record, and the start and the maintenance must not wait
/// for it.
const NOTE_TIMEOUT: Duration = Duration::from_secs(1);

/// Checks whether the clock was set. Each event does the same. An error here also occurs for events, which ends the daemon.
pub(super) async fn check(events: &Events) {
    match tokio::time::timeout(NOTE_TIMEOUT, record(events, Path::new(CLOCK_IS_SET))).await {
        Ok(Ok(true)) => info!("a time server synchronizes the clock; events have the correct time"),
        Ok(Ok(false)) => {}
        Ok(Err(error)) => warn!(%error, "the reading of the clock could not be recorded"),
        Err(_) => warn!("the journal does not accept the reading of the clock yet; it is checked again soon"),
    }
}

async fn record(events: &Events, mark: &Path) -> Result<bool, StoreError> {
    let reading = Reading::now();
    events.note_clock(reading).await?;
    match touched(mark) {
        Some(set) => events.clock_synchronized(reading, set).await,
        None => Ok(false),
    }
}

/// When a file was touched, by the wall clock at that time; none if it does not exist.
fn touched(mark: &Path) -> Option<Timestamp> {
    let since = mark.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_micros()).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_of_the_time_server_shows_when_it_was_touched() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("synchronized");
        assert_eq!(touched(&mark), None);
        let file = std::fs::File::create(&mark).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_800_000_000)).unwrap();
        assert_eq!(touched(&mark), Some(Timestamp(1_800_000_000_000_000)));
    }
}
