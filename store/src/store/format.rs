//! The format file: which version made this state directory, and the directory's id. It lies there twice, each time with
//! a checksum, so that no flipped bit keeps the appliance from starting.

use std::fs;
use std::path::Path;

use super::StoreError;
use crate::error::IoError;
use crate::keys::KeyId;
use crate::seal::sha256;

/// First words of the file; the number is the version of the state directory.
const FORMAT: &str = "gatehouse-state 1";
/// Name of the file, and of its twin.
const FILES: [&str; 2] = ["format", "format.copy"];
/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 32;
/// Bytes of the SHA-256 of all that stands before it.
const SUM_BYTES: usize = 8;

/// What a copy says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// It is not there.
    Missing,
    /// The id, and whether a checksum vouches for it; directories of before have none.
    Id(String, bool),
    /// It is whole, and of another version.
    Foreign(String),
    /// It is not what was written.
    Damaged(String),
}

/// The directory's id, made where there is none, and what had to be repaired, in words.
///
/// # Errors
/// [`StoreError::Format`] for a directory of another version, or where both copies are damaged.
pub(super) fn open(directory: &Path) -> Result<(String, Vec<String>), StoreError> {
    let [first, second] = [read(&directory.join(FILES[0]))?, read(&directory.join(FILES[1]))?];
    let id = match (&first, &second) {
        (Said::Foreign(text), _) | (_, Said::Foreign(text)) => return Err(StoreError::Format(text.clone())),
        (Said::Id(id, true), _) | (_, Said::Id(id, true)) | (Said::Id(id, false), Said::Missing) => {
            id.clone()
        }
        (Said::Missing, Said::Missing) => {
            let id = KeyId::random().to_string();
            FILES.iter().try_for_each(|name| write(directory, name, &id))?;
            return Ok((id, Vec::new()));
        }
        (Said::Damaged(text) | Said::Id(text, false), _)
        | (_, Said::Damaged(text) | Said::Id(text, false)) => {
            return Err(StoreError::Format(text.clone()));
        }
    };
    let mut repaired = Vec::new();
    for (name, said) in FILES.iter().zip([first, second]) {
        if said == Said::Id(id.clone(), true) {
            continue;
        }
        // Where that fails, the next start tries again; one copy is enough for this one.
        let _ = write(directory, name, &id);
        if matches!(said, Said::Damaged(_)) {
            repaired.push(format!("the file `{name}` was damaged and is written anew from its copy"));
        }
    }
    Ok((id, repaired))
}

fn read(path: &Path) -> Result<Said, IoError> {
    match fs::read(path) {
        Ok(bytes) => Ok(parse(&String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Said::Missing),
        Err(error) => Err(IoError::at("read", path)(error)),
    }
}

fn parse(text: &str) -> Said {
    let shown = || text.trim_end().chars().take(64).collect();
    let Some(text) = text.strip_suffix('\n') else { return Said::Damaged(shown()) };
    let is_id = |id: &str| id.len() == ID_DIGITS && id.chars().all(|c| c.is_ascii_hexdigit());
    match text.rsplit_once(' ') {
        Some((told, last)) if last == sum(told) => match told.strip_prefix(FORMAT).map(str::trim) {
            Some(id) if is_id(id) => Said::Id(id.to_owned(), true),
            _ => Said::Foreign(shown()),
        },
        Some((FORMAT, id)) if is_id(id) => Said::Id(id.to_owned(), false),
        _ => Said::Damaged(shown()),
    }
}

fn sum(text: &str) -> String {
    sha256(text.as_bytes()).iter().take(SUM_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

fn write(directory: &Path, name: &str, id: &str) -> Result<(), IoError> {
    let (temp, path) = (directory.join(format!("{name}.new")), directory.join(name));
    let told = format!("{FORMAT} {id}");
    fs::write(&temp, format!("{told} {}\n", sum(&told))).map_err(IoError::at("write", &temp))?;
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

    #[test]
    fn a_directory_of_before_gets_its_copy_and_one_of_another_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let id = "0123456789abcdef0123456789abcdef";
        fs::write(folder.path().join("format"), format!("{FORMAT} {id}\n")).unwrap();
        assert_eq!(open(folder.path()).unwrap(), (id.to_owned(), vec![]));
        assert_eq!(
            parse(&fs::read_to_string(folder.path().join("format.copy")).unwrap()),
            Said::Id(id.into(), true)
        );
        let told = format!("gatehouse-state 2 {id}");
        fs::write(folder.path().join("format"), format!("{told} {}\n", sum(&told))).unwrap();
        assert!(matches!(open(folder.path()), Err(StoreError::Format(_))));
    }

    #[test]
    fn two_damaged_copies_are_said_to_be_so() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).unwrap();
        FILES.iter().for_each(|name| fs::write(folder.path().join(name), "gate").unwrap());
        assert!(matches!(open(folder.path()), Err(StoreError::Format(text)) if text == "gate"));
    }
}
