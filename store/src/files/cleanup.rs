//! Cleanup of crash leftovers by [`MediaFiles::open`].

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use gatehouse_model::KeyId;
use gatehouse_vault::error::IoError;
use gatehouse_vault::keys::KeyKind;

use super::{FINISHED, FileError, MediaFiles, TEMPORARY};

/// Result of the cleanup at the open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesReport {
    /// Files that can be read.
    pub files: usize,
    /// Unfinished files that were removed.
    pub unfinished: usize,
    /// Files whose key was destroyed before, removed.
    pub keyless: usize,
    /// Keys whose file was never finished, destroyed.
    pub orphaned_keys: usize,
    /// Files without a key that were kept, because the key table itself seems to be damaged or lost.
    pub unreadable: usize,
    /// Keys without a file that were kept, because the files themselves seem to be lost (a disk that is not
    /// mounted).
    pub idle_keys: usize,
}

impl MediaFiles {
    pub(super) fn clean_up(&self) -> Result<FilesReport, FileError> {
        let mut report = FilesReport::default();
        let mut orphans: HashSet<KeyId> = self.keys.ids(KeyKind::Media).into_iter().collect();
        // A table without any media key, or with unreadable slots, does not prove that a file was removed on
        // purpose.
        let keys_are_whole = !orphans.is_empty() && self.keys.damaged().is_empty();
        self.walk(&mut |id, ending, path| {
            let gone = match ending {
                TEMPORARY => {
                    report.unfinished += 1;
                    true
                }
                FINISHED if orphans.remove(&id) => {
                    report.files += 1;
                    false
                }
                FINISHED if keys_are_whole => {
                    report.keyless += 1;
                    true
                }
                FINISHED => {
                    report.unreadable += 1;
                    false
                }
                _ => false,
            };
            if gone {
                self.disk.remove(path).map_err(IoError::at("remove", path))?;
            }
            Ok(())
        })?;
        // A folder without any file does not prove that the keys are unused.
        if report.files == 0 {
            report.idle_keys = orphans.len();
            return Ok(report);
        }
        for id in orphans {
            self.keys.destroy(&id)?;
            report.orphaned_keys += 1;
        }
        Ok(report)
    }

    /// Calls `visit` for each media file by name, with its id and extension. Other files are ignored.
    pub(super) fn walk(
        &self,
        visit: &mut dyn FnMut(KeyId, &str, &Path) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        for folder in list(&self.directory)? {
            if !folder.is_dir() {
                continue;
            }
            for path in list(&folder)? {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let Some((stem, ending)) = name.split_once('.') else { continue };
                if let Some(id) = KeyId::parse(stem).filter(|id| self.path(id, ending) == path) {
                    visit(id, ending, &path)?;
                }
            }
        }
        Ok(())
    }
}

fn list(folder: &Path) -> Result<Vec<std::path::PathBuf>, FileError> {
    let entries = fs::read_dir(folder).map_err(IoError::at("list", folder))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>();
    Ok(paths.map_err(IoError::at("list", folder))?)
}
