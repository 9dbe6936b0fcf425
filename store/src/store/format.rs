//! The format file: the version of the newest records of this state directory, and the directory's id. There
//! are two copies, each with a checksum, so that a flipped bit never prevents the appliance from starting.
//!
//! A program that finds a larger number than its own [`RECORD_VERSION`] refuses to open. Its package refuses
//! to be installed (`packaging/debian/preinst`). A smaller number is raised before the first record is
//! written.

use std::fs;
use std::path::Path;

use gatehouse_model::{KeyId, sha256};
use gatehouse_vault::error::IoError;

use super::StoreError;
use crate::record::RECORD_VERSION;

/// First word of the file.
const KIND: &str = "gatehouse-state";
/// Names of the file and of its copy.
const FILES: [&str; 2] = ["format", "format.copy"];
/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 32;
/// Bytes of the SHA-256 of the preceding text.
const SUM_BYTES: usize = 8;

/// State of a copy of the file.
#[derive(Debug, PartialEq, Eq)]
enum CopyState {
    /// It is not there.
    Missing,
    /// The id, as this version writes it.
    Id(String),
    /// The id, as an earlier version wrote it.
    Earlier(String),
    /// It is intact and has an unknown version.
    Foreign(String),
    /// It is not intact.
    Damaged(String),
}

/// The directory's id, created where there is none, and descriptions of what was repaired.
///
/// # Errors
/// [`StoreError::Format`] for a directory of a later version, or where both copies are damaged.
pub(in crate::store) fn open(directory: &Path) -> Result<(String, Vec<String>), StoreError> {
    open_as(RECORD_VERSION, directory)
}

/// As [`open`], for a program of any version.
fn open_as(version: u8, directory: &Path) -> Result<(String, Vec<String>), StoreError> {
    let [first, second] = FILES.map(|name| read(version, &directory.join(name)));
    let (first, second) = (first?, second?);
    let id = match (&first, &second) {
        (CopyState::Foreign(text), _) | (_, CopyState::Foreign(text)) => {
            return Err(StoreError::Format(text.clone()));
        }
        (CopyState::Id(id) | CopyState::Earlier(id), _) | (_, CopyState::Id(id) | CopyState::Earlier(id)) => {
            id.clone()
        }
        (CopyState::Missing, CopyState::Missing) => {
            let id = KeyId::random().to_string();
            FILES.iter().try_for_each(|name| write(version, directory, name, &id))?;
            return Ok((id, Vec::new()));
        }
        (CopyState::Damaged(text), _) | (_, CopyState::Damaged(text)) => {
            return Err(StoreError::Format(text.clone()));
        }
    };
    let mut repaired = Vec::new();
    for (name, state) in FILES.iter().zip([first, second]) {
        if state == CopyState::Id(id.clone()) {
            continue;
        }
        // One copy is enough for this start. After a failure the next start retries.
        let _ = write(version, directory, name, &id);
        if matches!(state, CopyState::Damaged(_)) {
            repaired.push(format!("the file `{name}` was damaged and was restored from its copy"));
        }
    }
    Ok((id, repaired))
}

fn read(version: u8, path: &Path) -> Result<CopyState, IoError> {
    match fs::read(path) {
        Ok(bytes) => Ok(parse(version, &String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(CopyState::Missing),
        Err(error) => Err(IoError::at("read", path)(error)),
    }
}

fn parse(version: u8, text: &str) -> CopyState {
    let shown = || text.trim_end().chars().take(64).collect();
    let Some(text) = text.strip_suffix('\n') else { return CopyState::Damaged(shown()) };
    match text.rsplit_once(' ') {
        Some((line, checksum)) if checksum == sum(line) => match fields(line) {
            Some((number, id)) if number == version => CopyState::Id(id.to_owned()),
            Some((number, id)) if (1..version).contains(&number) => CopyState::Earlier(id.to_owned()),
            _ => CopyState::Foreign(shown()),
        },
        _ => CopyState::Damaged(shown()),
    }
}

/// Number and id of a line without its checksum.
fn fields(line: &str) -> Option<(u8, &str)> {
    let (number, id) = line.strip_prefix(KIND)?.strip_prefix(' ')?.split_once(' ')?;
    let is_id = id.len() == ID_DIGITS && id.chars().all(|c| c.is_ascii_hexdigit());
    Some((number.parse().ok()?, id)).filter(|_| is_id)
}

fn sum(text: &str) -> String {
    sha256(text.as_bytes()).iter().take(SUM_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

fn write(version: u8, directory: &Path, name: &str, id: &str) -> Result<(), IoError> {
    let (temp, path) = (directory.join(format!("{name}.new")), directory.join(name));
    let line = format!("{KIND} {version} {id}");
    fs::write(&temp, format!("{line} {}\n", sum(&line))).map_err(IoError::at("write", &temp))?;
    sync(&temp)?;
    fs::rename(&temp, &path).map_err(IoError::at("rename", &path))?;
    sync(directory)
}

fn sync(path: &Path) -> Result<(), IoError> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(IoError::at("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flipped_bit_and_no_cut_of_one_copy_keeps_a_directory_from_opening() {
        let folder = tempfile::tempdir().unwrap();
        let (id, repaired) = open(folder.path()).unwrap();
        assert_eq!((id.len(), repaired.len()), (ID_DIGITS, 0));
        for name in FILES {
            let path = folder.path().join(name);
            let whole = fs::read(&path).unwrap();
            for at in 0..whole.len() * 8 {
                let mut bytes = whole.clone();
                bytes[at / 8] ^= 1 << (at % 8);
                for damaged in [&bytes[..], &whole[..at / 8]] {
                    fs::write(&path, damaged).unwrap();
                    assert_eq!(open(folder.path()).unwrap().0, id, "{name}, bit {at}");
                    assert_eq!(fs::read(&path).unwrap(), whole, "{name}, bit {at}: not repaired");
                }
            }
        }
    }

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn line(number: u8) -> String {
        let text = format!("{KIND} {number} {ID}");
        format!("{text} {}\n", sum(&text))
    }

    #[test]
    fn an_earlier_format_is_raised_and_keeps_its_id() {
        for (file, copy) in [(1, Some(1)), (2, Some(1)), (1, Some(2)), (1, None)] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(FILES[0]), line(file)).unwrap();
            copy.iter().for_each(|copy| fs::write(folder.path().join(FILES[1]), line(*copy)).unwrap());
            assert_eq!(open_as(2, folder.path()).unwrap(), (ID.to_owned(), vec![]));
            for name in FILES {
                assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), line(2));
            }
        }
    }

    #[test]
    fn a_later_format_in_either_copy_is_refused_and_stays() {
        for (file, copy) in [(RECORD_VERSION, RECORD_VERSION + 1), (RECORD_VERSION + 1, RECORD_VERSION)] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(FILES[0]), line(file)).unwrap();
            fs::write(folder.path().join(FILES[1]), line(copy)).unwrap();
            assert!(matches!(open(folder.path()), Err(StoreError::Format(_))));
            assert_eq!(fs::read_to_string(folder.path().join(FILES[0])).unwrap(), line(file));
        }
    }

    #[test]
    fn two_damaged_copies_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).unwrap();
        FILES.iter().for_each(|name| fs::write(folder.path().join(name), "gate").unwrap());
        assert!(matches!(open(folder.path()), Err(StoreError::Format(text)) if text == "gate"));
    }
}
