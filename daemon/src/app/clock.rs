//! How wall clock and uptime stand to each other, for the journal; and whether a time server keeps the clock right.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use gatehouse_model::Timestamp;
use gatehouse_store::clock::Reading;
use gatehouse_store::store::{Events, StoreError};
use tracing::{info, warn};

use super::settings::CLOCK_IS_SET;

/// Longest that a look waits: on a full disk the journal takes no word of the clock, and neither the start nor what is
/// looked at after it is to wait for that.
const PATIENCE: Duration = Duration::from_secs(1);

/// Looks whether the clock was set; an event looks for itself. What fails here fails for events, too, and ends the daemon there.
pub(super) async fn look(events: &Events) {
    match tokio::time::timeout(PATIENCE, looked(events, Path::new(CLOCK_IS_SET))).await {
        Ok(Ok(true)) => info!("a time server keeps the clock right; events have their true time"),
        Ok(Ok(false)) => {}
        Ok(Err(error)) => warn!(%error, "the clock could not be noted"),
        Err(_) => warn!("the journal takes no word of the clock yet; it is looked at again soon"),
    }
}

async fn looked(events: &Events, mark: &Path) -> Result<bool, StoreError> {
    let reading = Reading::now();
    events.note_clock(reading).await?;
    match touched(mark) {
        Some(set) => events.clock_synchronized(reading, set).await,
        None => Ok(false),
    }
}

/// When a file was touched, by the wall clock of then; none where it is not there.
fn touched(mark: &Path) -> Option<Timestamp> {
    let since = mark.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_micros()).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_of_the_time_server_tells_when_it_was_touched() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("synchronized");
        assert_eq!(touched(&mark), None);
        let file = std::fs::File::create(&mark).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_800_000_000)).unwrap();
        assert_eq!(touched(&mark), Some(Timestamp(1_800_000_000_000_000)));
    }
}
