//! Opening: lists the segments and their keys, and finds the end of the journal.

use std::collections::{BTreeMap, HashSet};
use std::io::ErrorKind;
use std::path::Path;

use gatehouse_model::KeyId;
use gatehouse_vault::disk::{Disk, DiskFile, read_around_damage};
use gatehouse_vault::error::IoError;
use gatehouse_vault::keys::{KeyKind, KeyTable};

use super::scan::{Found, Scanner};
use super::segment::{self, HEADER_BYTES, Header, TEMPORARY};
use super::shared::{Durable, SegmentInfo};
use super::{Damage, JournalError, OpenReport, Position};

/// Size of one read and write when the tail is written again.
const REWRITE_BYTES: usize = 64 * 1024;

pub(super) struct Opened {
    pub(super) segments: BTreeMap<u64, SegmentInfo>,
    pub(super) durable: Durable,
    pub(super) report: OpenReport,
}

impl Opened {
    /// Raises the head to `floor` if the journal ends before it.
    pub(super) fn raise_to(&mut self, floor: Position) {
        let head = self.durable.position;
        if floor.lsn > head.lsn {
            self.report.damaged.push(Damage::found(
                self.durable.segment,
                self.durable.end,
                floor.lsn - head.lsn,
            ));
            self.durable.position = floor;
            self.report.head = floor;
        }
    }
}

pub(super) fn open(disk: &dyn Disk, directory: &Path, keys: &KeyTable) -> Result<Opened, JournalError> {
    let mut headers = BTreeMap::new();
    for first in list(disk, directory)? {
        headers.insert(first, header(disk, directory, first)?);
    }
    let segments = assign_keys(disk, directory, keys, &headers)?;
    let (durable, report) = find_head(disk, directory, &headers)?;
    Ok(Opened { segments, durable, report })
}

/// First lsns of the segments; leftovers of an interrupted creation are removed.
fn list(disk: &dyn Disk, directory: &Path) -> Result<Vec<u64>, IoError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(IoError::at("list", directory))? {
        let path = entry.map_err(IoError::at("list", directory))?.path();
        if let Some(first) = segment::first_of(&path) {
            found.push(first);
        } else if path.extension().is_some_and(|e| e == TEMPORARY) {
            disk.remove(&path).map_err(IoError::at("remove", &path))?;
        }
    }
    Ok(found)
}

fn header(disk: &dyn Disk, directory: &Path, first: u64) -> Result<Option<Header>, IoError> {
    let path = segment::path(directory, first);
    let file = disk.open(&path).map_err(IoError::at("open", &path))?;
    let mut bytes = [0; HEADER_BYTES];
    read_around_damage(&*file, &mut bytes, 0).map_err(IoError::at("read", &path))?;
    Ok(Header::read(&bytes).filter(|header| header.before.lsn.checked_add(1) == Some(first)))
}

/// The key of each segment. For a damaged header, it is the key that opens the segment's frames. A key without a segment
/// is destroyed, but only if every segment has a key: otherwise it may be the missing one.
fn assign_keys(
    disk: &dyn Disk,
    directory: &Path,
    keys: &KeyTable,
    headers: &BTreeMap<u64, Option<Header>>,
) -> Result<BTreeMap<u64, SegmentInfo>, JournalError> {
    let known: HashSet<KeyId> = headers.values().flatten().map(|header| header.key).collect();
    let mut spare: HashSet<KeyId> =
        keys.ids(KeyKind::Journal).into_iter().filter(|id| !known.contains(id)).collect();
    let mut segments = BTreeMap::new();
    for (first, header) in headers {
        let key = match header {
            Some(header) => Some(header.key),
            None => try_keys(disk, &segment::path(directory, *first), *first, keys, &spare)?,
        };
        if let Some(key) = key {
            spare.remove(&key);
        }
        let before_seq = header.map(|header| header.before.seq);
        segments.insert(*first, SegmentInfo { key, before_seq });
    }
    if segments.values().all(|known| known.key.is_some()) {
        for id in spare {
            // An unused key does no harm; the next start tries again.
            let _ = keys.destroy(&id);
        }
    }
    Ok(segments)
}

fn try_keys(
    disk: &dyn Disk,
    path: &Path,
    first: u64,
    keys: &KeyTable,
    candidates: &HashSet<KeyId>,
) -> Result<Option<KeyId>, JournalError> {
    let (file, limit) = open_sized(disk, path)?;
    let mut scanner = Scanner::new(first, 0);
    loop {
        match scanner.next(&*file, limit).map_err(IoError::at("read", path))? {
            Found::Frame { head, body, .. } if !head.is_mark() => {
                let opens = |id: &&KeyId| keys.key(id).is_ok_and(|key| head.open(first, &key, body).is_ok());
                return Ok(candidates.iter().find(opens).copied());
            }
            Found::End => return Ok(None),
            _ => {}
        }
    }
}

fn open_sized(disk: &dyn Disk, path: &Path) -> Result<(Box<dyn DiskFile>, u64), IoError> {
    let file = disk.open(path).map_err(IoError::at("open", path))?;
    let size = file.size().map_err(IoError::at("read", path))?;
    Ok((file, size))
}

/// Finds the last record, and makes data durable that a killed process may have left in the page cache only.
fn find_head(
    disk: &dyn Disk,
    directory: &Path,
    headers: &BTreeMap<u64, Option<Header>>,
) -> Result<(Durable, OpenReport), JournalError> {
    let mut report = OpenReport::default();
    let mut at_least = 0;
    for (first, header) in headers.iter().rev() {
        let path = segment::path(directory, *first);
        let (file, size) = open_sized(disk, &path)?;
        let walk =
            Walk::over(&*file, *first, header.map(|h| h.before), size).map_err(IoError::at("read", &path))?;
        report.torn_bytes += size - walk.end.min(size);
        at_least = at_least.max(first - 1);
        // A segment without records and header does not contain the event number.
        if header.is_none() && !walk.records {
            continue;
        }
        // A killed process did not release reserved space.
        let _ = file.release_reserved();
        write_again(&*file, walk.unproven, walk.end).map_err(IoError::at("write", &path))?;
        file.sync().map_err(IoError::at("sync", &path))?;
        disk.sync_dir(directory).map_err(IoError::at("sync", directory))?;
        let head = Position { lsn: walk.head.lsn.max(at_least), seq: walk.head.seq };
        (report.head, report.damaged) = (head, walk.damaged);
        return Ok((Durable { position: head, segment: *first, end: walk.end }, report));
    }
    report.head.lsn = at_least;
    Ok((Durable { position: report.head, segment: 0, end: 0 }, report))
}

/// Writes a range again. After a failed sync in an earlier process, the kernel may consider pages clean that never
/// reached the disk. A sync alone would skip them.
fn write_again(file: &dyn DiskFile, mut from: u64, end: u64) -> std::io::Result<()> {
    let mut chunk = vec![0; REWRITE_BYTES];
    while from < end {
        let want = usize::try_from(end - from).unwrap_or(REWRITE_BYTES).min(REWRITE_BYTES);
        let read = file.read_at(&mut chunk[..want], from)?;
        if read == 0 {
            break;
        }
        file.write_at(&chunk[..read], from)?;
        from += read as u64;
    }
    Ok(())
}

/// State of reading the last segment.
struct Walk {
    /// Last record so far, damaged or not.
    head: Position,
    end: u64,
    /// Start of the part without proof of durability.
    unproven: u64,
    records: bool,
    /// A damaged place that may or may not have been durable.
    doubt: Option<Doubt>,
    damaged: Vec<Damage>,
}

struct Doubt {
    offset: u64,
    /// The head, if this is the start of the unfinished tail.
    head: Position,
    end: u64,
    lost: u64,
}

impl Walk {
    fn over(file: &dyn DiskFile, first: u64, before: Option<Position>, size: u64) -> std::io::Result<Self> {
        let head = before.unwrap_or(Position { lsn: first - 1, seq: 0 });
        let end = HEADER_BYTES as u64;
        let mut walk = Self { head, end, unproven: end, records: false, doubt: None, damaged: Vec::new() };
        let mut scanner = Scanner::new(first, end);
        loop {
            match scanner.next(file, size)? {
                Found::Bad { offset } => walk.doubt_at(offset),
                Found::Frame { offset, head, body } => {
                    let gap = head.position.lsn.checked_sub(walk.head.lsn + u64::from(!head.is_mark()));
                    // A repeated number: no version of the writer produces it.
                    let Some(gap) = gap else { continue };
                    if gap > 0 {
                        walk.doubt_at(offset);
                    }
                    if let Some(doubt) = &mut walk.doubt {
                        doubt.lost += gap;
                    }
                    let after = offset + (super::frame::HEADER_BYTES + body.len()) as u64;
                    if head.proves_durable() {
                        walk.proven(first);
                        walk.unproven = if head.is_mark() { after } else { offset };
                    }
                    (walk.head, walk.end) = (head.position, after);
                    walk.records = true;
                }
                Found::End => break,
            }
        }
        if let Some(doubt) = walk.doubt.take() {
            (walk.head, walk.end) = (doubt.head, doubt.end);
        }
        Ok(walk)
    }

    fn doubt_at(&mut self, offset: u64) {
        let (head, end) = (self.head, self.end);
        self.doubt.get_or_insert(Doubt { offset, head, end, lost: 0 });
    }

    /// All data before this point was durable: a damaged place in it is reported.
    fn proven(&mut self, segment: u64) {
        // If no number is missing, it was a mark, which is not synced and may be lost with the power.
        if let Some(doubt) = self.doubt.take().filter(|doubt| doubt.lost > 0) {
            self.damaged.push(Damage::found(segment, doubt.offset, doubt.lost));
        }
    }
}

impl Damage {
    /// Records lost at a damaged place.
    pub(super) fn found(segment: u64, offset: u64, lost: u64) -> Self {
        let message = match lost {
            1 => "1 record is damaged and lost".to_owned(),
            n => format!("{n} records are damaged and lost"),
        };
        Self { segment, offset, lost, message }
    }
}

/// Whether an error says that there is no such file.
pub(super) fn is_missing(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}
