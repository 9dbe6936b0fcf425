//! Reading: in order, following the writer, or one record at its location.

use std::ops::Bound;
use std::sync::Arc;

use gatehouse_vault::disk::{DiskFile, read_around_damage};
use gatehouse_vault::error::IoError;
use gatehouse_vault::keys::KeyError;
use gatehouse_vault::seal::DataKey;

use super::frame::{FRAME_BYTES_MAX, HEADER_BYTES, Head};
use super::open::is_missing;
use super::scan::{Found, Scanner};
use super::shared::{Durable, Shared, locked};
use super::{Committed, Damage, JournalError, Location, segment};

/// Most damaged places in a report. Records lost at further places are added to the last one.
const DAMAGE_REPORTS_MAX: usize = 1000;
/// Size of the first read of a single record: enough for most records.
const SINGLE_BYTES: usize = 4096;

/// Tailing reader: yields durable records only. Call it again to resume at the head.
pub struct Reader {
    shared: Arc<Shared>,
    /// Last lsn that was returned, skipped or lost.
    last: u64,
    current: Option<Current>,
    damaged: Vec<Damage>,
}

struct Current {
    first: u64,
    file: Box<dyn DiskFile>,
    key: Arc<DataKey>,
    scanner: Scanner,
    /// Size of the file, once it no longer grows.
    size: Option<u64>,
    /// Start of the first damaged place after `last`.
    bad: Option<u64>,
}

/// Result of one step through the current segment.
enum Step {
    Record(Committed),
    Nothing,
    SegmentEnd,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, after_lsn: u64) -> Self {
        Self { shared, last: after_lsn, current: None, damaged: Vec::new() }
    }

    /// The next record; none at the durable head. Damaged records are skipped, see [`Reader::damaged`].
    ///
    /// # Errors
    /// [`JournalError::Io`], [`JournalError::Key`]; the next call returns the same record.
    // Not an iterator: more records may follow after none.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Committed>, JournalError> {
        loop {
            let durable = self.shared.durable();
            if self.last >= durable.position.lsn {
                return Ok(None);
            }
            if self.current.is_none() && !self.enter(durable)? {
                continue;
            }
            match self.step(durable)? {
                Step::Record(record) => return Ok(Some(record)),
                Step::Nothing => {}
                Step::SegmentEnd => self.current = None,
            }
        }
    }

    /// The number of the last record that was returned, skipped or lost.
    pub fn position(&self) -> u64 {
        self.last
    }

    /// The damage found since the last call.
    pub fn damaged(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damaged)
    }

    /// Opens the segment of the next record; false if there is none to read, and `last` has moved.
    fn enter(&mut self, durable: Durable) -> Result<bool, JournalError> {
        let next = self.last + 1;
        let (first, key) = {
            let segments = locked(&self.shared.segments);
            let at = segments.range(..=next).next_back().or_else(|| segments.range(next..).next());
            let Some((first, known)) = at.filter(|at| *at.0 <= durable.position.lsn) else {
                drop(segments);
                self.lose(durable.segment, 0, durable.position.lsn);
                return Ok(false);
            };
            (*first, known.key)
        };
        // Older segments were erased on purpose: their records are not lost.
        self.last = self.last.max(first - 1);
        let path = segment::path(&self.shared.options.directory, first);
        let key = match key.map(|id| self.shared.keys.key(&id)) {
            Some(Ok(key)) => key,
            Some(Err(error @ KeyError::Io(_))) => return Err(error.into()),
            Some(Err(_)) | None => return Ok(self.skip(first, durable, "its key is destroyed or damaged")),
        };
        let file = match self.shared.disk.open(&path) {
            Ok(file) => file,
            Err(e) if is_missing(&e) => return Ok(self.skip(first, durable, "its file is missing")),
            Err(e) => return Err(IoError::at("open", &path)(e).into()),
        };
        let scanner = Scanner::new(first, segment::HEADER_BYTES as u64);
        self.current = Some(Current { first, file, key, scanner, size: None, bad: None });
        Ok(true)
    }

    fn skip(&mut self, first: u64, durable: Durable, why: &str) -> bool {
        let upto = last_of(&self.shared, first, durable);
        let lost = upto.saturating_sub(self.last);
        let message = format!("{lost} records cannot be read: the segment is unusable, {why}");
        self.report(Damage { segment: first, offset: 0, lost, message });
        self.last = self.last.max(upto);
        false
    }

    fn step(&mut self, durable: Durable) -> Result<Step, JournalError> {
        let Some(current) = &mut self.current else { return Ok(Step::SegmentEnd) };
        let (first, upto) = (current.first, last_of(&self.shared, current.first, durable));
        if self.last >= upto {
            return Ok(Step::SegmentEnd);
        }
        let path = || segment::path(&self.shared.options.directory, first);
        let limit = match current.size {
            _ if durable.segment == first => durable.end,
            Some(size) => size,
            None => {
                let size = current.file.size().map_err(|e| IoError::at("read", &path())(e))?;
                *current.size.insert(size)
            }
        };
        let found =
            current.scanner.next(&*current.file, limit).map_err(|e| IoError::at("read", &path())(e))?;
        let (offset, head, body) = match found {
            Found::Frame { offset, head, body } if !head.is_mark() => (offset, head, body),
            Found::Frame { .. } => return Ok(Step::Nothing),
            Found::Bad { offset } => {
                current.bad.get_or_insert(offset);
                return Ok(Step::Nothing);
            }
            Found::End => {
                let offset = current.bad.take().unwrap_or(limit);
                self.lose(first, offset, upto);
                return Ok(Step::SegmentEnd);
            }
        };
        let lsn = head.position.lsn;
        if lsn <= self.last {
            current.bad = None;
            return Ok(Step::Nothing);
        }
        if lsn > upto {
            // The unfinished tail of an earlier run; its numbers were reused.
            let offset = current.bad.take().unwrap_or(offset);
            self.lose(first, offset, upto);
            return Ok(Step::SegmentEnd);
        }
        let opened = head.open(first, &current.key, body);
        if let Some(bad) = current.bad.take().or((lsn > self.last + 1).then_some(offset)) {
            self.lose(first, bad, lsn - 1);
        }
        self.last = lsn - 1;
        let Ok(payload) = opened else {
            self.lose(first, offset, lsn);
            return Ok(Step::Nothing);
        };
        self.last = lsn;
        Ok(Step::Record(committed(first, offset, &head, payload)))
    }

    /// Reports the records up to `upto` as lost.
    fn lose(&mut self, segment: u64, offset: u64, upto: u64) {
        // If no number is missing, it was a mark, which is not synced and may be lost with the power.
        if upto > self.last {
            self.report(Damage::found(segment, offset, upto - self.last));
            self.last = upto;
        }
    }

    fn report(&mut self, damage: Damage) {
        let full = self.damaged.len() >= DAMAGE_REPORTS_MAX;
        match self.damaged.last_mut() {
            Some(last) if full => last.lost += damage.lost,
            _ => self.damaged.push(damage),
        }
    }
}

/// Number of the last record of a segment.
fn last_of(shared: &Shared, first: u64, durable: Durable) -> u64 {
    let segments = locked(&shared.segments);
    let next = segments.range((Bound::Excluded(first), Bound::Unbounded)).next();
    next.map_or(durable.position.lsn, |(next, _)| (next - 1).min(durable.position.lsn))
}

fn committed(segment: u64, offset: u64, head: &Head, payload: Vec<u8>) -> Committed {
    // Offsets are below 4 GiB: SEGMENT_BYTES_MAX of the writer.
    let location = Location { segment, offset: offset as u32 };
    Committed { position: head.position, location, is_event: head.is_event(), payload }
}

pub(super) fn read_at(shared: &Shared, location: Location) -> Result<Committed, JournalError> {
    let damaged = || JournalError::Damaged { segment: location.segment, offset: location.offset };
    let key =
        locked(&shared.segments).get(&location.segment).and_then(|known| known.key).ok_or_else(damaged)?;
    let key = match shared.keys.key(&key) {
        Err(error @ KeyError::Io(_)) => return Err(error.into()),
        key => key.map_err(|_| damaged())?,
    };
    let path = segment::path(&shared.options.directory, location.segment);
    let file = match shared.disk.open(&path) {
        Ok(file) => file,
        Err(e) if is_missing(&e) => return Err(damaged()),
        Err(e) => return Err(IoError::at("open", &path)(e).into()),
    };
    let read = |bytes: &mut [u8], offset| {
        read_around_damage(&*file, bytes, offset).map_err(IoError::at("read", &path))
    };
    let start = u64::from(location.offset);
    let mut bytes = vec![0; SINGLE_BYTES];
    let mut have = read(&mut bytes, start)?;
    let head = Head::read(&bytes[..have]).filter(|head| !head.is_mark()).ok_or_else(damaged)?;
    let need = head.frame_bytes();
    debug_assert!(need <= FRAME_BYTES_MAX);
    if have < need && have == bytes.len() {
        bytes.resize(need, 0);
        have += read(&mut bytes[have..], start + have as u64)?;
    }
    let body = bytes.get(HEADER_BYTES..need).filter(|_| have >= need).ok_or_else(damaged)?;
    if !head.matches(location.segment, body) {
        return Err(damaged());
    }
    let payload = head.open(location.segment, &key, body).map_err(|_| damaged())?;
    Ok(committed(location.segment, start, &head, payload))
}
