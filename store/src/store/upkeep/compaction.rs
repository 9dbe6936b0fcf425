//! Compaction of the views, to return disk space to the file system.
//!
//! sled reuses the space of removed entries and never returns it. Views that are rebuilt from the journal
//! have the smallest size. A request is stored as a file, and the next start rebuilds the views.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use gatehouse_vault::error::IoError;
use serde::{Deserialize, Serialize};

use super::super::StoreError;
use super::Upkeep;

/// File that stores the request in the state directory. It exists until a rebuild is complete.
const REQUEST_FILE: &str = "compact";

/// A compaction that the next start will carry out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacting {
    /// Bytes that the views take on the disk now.
    pub bytes: u64,
}

impl Upkeep {
    /// Requests that the next start rebuilds the views. Blocking.
    ///
    /// # Errors
    /// [`StoreError`] where the request cannot be written.
    pub fn compact(&self) -> Result<Compacting, StoreError> {
        let directory = &self.core.settings.directory;
        let request = directory.join(REQUEST_FILE);
        let written = File::create(&request).and_then(|_| File::open(directory)?.sync_all());
        written.map_err(IoError::at("write", &request))?;
        Ok(Compacting { bytes: bytes_in(&directory.join("views"))? })
    }
}

/// Whether a rebuild of the views is requested.
pub(in crate::store) fn is_requested(directory: &Path) -> bool {
    directory.join(REQUEST_FILE).exists()
}

/// Removes the request. Call it once the rebuilt views are durable.
pub(in crate::store) fn remove_request(directory: &Path) -> Result<(), StoreError> {
    let request = directory.join(REQUEST_FILE);
    match fs::remove_file(&request) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(IoError::at("remove", &request)(error))?
        }
        _ => Ok(()),
    }
}

fn bytes_in(folder: &PathBuf) -> Result<u64, StoreError> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).map_err(IoError::at("read", folder))? {
        let entry = entry.map_err(IoError::at("read", folder))?;
        let metadata = entry.metadata().map_err(IoError::at("read metadata of", &entry.path()))?;
        bytes += if metadata.is_dir() { bytes_in(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::super::{EventQuery, OpenReport, Store, testing};
    use super::*;

    fn open(directory: &Path) -> (Store, OpenReport) {
        testing::open(directory, "test", 4)
    }

    fn reopen(store: Store, directory: &Path) -> (Store, OpenReport) {
        store.close();
        drop(store);
        open(directory)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_request_is_carried_out_once_by_the_next_start_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = open(folder.path());
        for number in 0..200 {
            let event = testing::visit(&number.to_string());
            let answer = store.galleries.identify(&event.key.camera, &[]);
            store.events.record(event, answer).await.unwrap().await.unwrap();
        }
        let (store, report) = reopen(store, folder.path());
        assert_eq!(report.views_rebuilt, None);
        let all = EventQuery { limit: usize::MAX, ..EventQuery::default() };
        let (before, ledger) = (store.events.list(&all).unwrap(), store.events.ledger());
        assert_eq!(before.len(), 200);
        assert!(store.upkeep.compact().unwrap().bytes > 0);
        let (store, report) = reopen(store, folder.path());
        assert!(report.views_rebuilt.is_some_and(|why| why.contains("store compact")));
        assert_eq!((store.events.list(&all).unwrap(), store.events.ledger()), (before, ledger));
        let (store, report) = reopen(store, folder.path());
        assert_eq!(report.views_rebuilt, None, "one request is carried out once");
        store.close();
    }
}
