use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, channel};

use gatehouse_journal::{Committed, Entry as JournalEntry, Journal, JournalOptions};
use gatehouse_model::Identification;
use gatehouse_vault::keys::{KeyTable, RootKey};

use super::*;

/// Bytes of a segment: about ten events.
const SEGMENT_BYTES: u64 = 2_000;
const CAMERAS: [&str; 3] = ["front", "back", "garage"];

struct Bed {
    folder: tempfile::TempDir,
}

struct Open {
    journal: Journal,
    commits: Receiver<Vec<Committed>>,
    index: EventIndex,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("journal")).unwrap();
        Self { folder }
    }

    fn parts(&self) -> PathBuf {
        self.folder.path().join("index")
    }

    /// Opens both, with everything up to `views` applied to the views.
    fn open(&self, views: Position) -> Open {
        let keys = KeyTable::open(&self.folder.path().join("keys"), &RootKey::from_bytes([7; 32])).unwrap();
        let mut options = JournalOptions::new(self.folder.path().join("journal"));
        options.segment_bytes = SEGMENT_BYTES;
        let (sender, commits) = channel();
        let on_commit = Box::new(move |batch| sender.send(batch).unwrap_or_default());
        let (journal, _) = Journal::open(options, Arc::new(keys), on_commit).unwrap();
        let index = EventIndex::open(&self.parts(), journal.segments()).unwrap();
        index.load_recent(views).unwrap();
        let mut reader = journal.reader(views.lsn);
        while let Some(committed) = reader.next().unwrap() {
            follow(&index, &committed);
        }
        Open { journal, commits, index }
    }
}

impl Open {
    fn append(&self, record: &Record) -> Position {
        let entry = JournalEntry { payload: record.encode().unwrap(), is_event: record.is_event() };
        let position = self.journal.append_blocking(entry).unwrap().wait_blocking().unwrap();
        self.commits.recv().unwrap().iter().for_each(|committed| follow(&self.index, committed));
        position
    }
}

/// Does what the views do.
fn follow(index: &EventIndex, committed: &Committed) {
    index.enter(committed.location.segment);
    if let Ok(Record::Event { event, .. }) = Record::decode(&committed.payload) {
        index.add(committed.position.seq, committed.location, &event);
    }
}

fn key(camera: &str, id: u64) -> EventKey {
    EventKey { camera: camera.try_into().unwrap(), id: id.to_string().as_str().try_into().unwrap() }
}

fn event(key: EventKey, at: i64) -> Record {
    let event = Event {
        key,
        kind: "face".into(),
        occurred_at: None,
        received_at: Timestamp(at),
        media: Vec::new(),
        attributes: "{}".into(),
    };
    let identification =
        Identification { gallery_size: 0, model: "test".into(), faces: Vec::new(), effort: None };
    Record::Event { event, identification, attributes: None }
}

fn noise() -> Record {
    Record::Refused { item: crate::record::Item::Event, reason: "not_json".into(), bytes: 9 }
}

/// Compares every answer of the index with a map of everything that was appended.
fn compare(index: &EventIndex, model: &BTreeMap<u64, EventKey>, near: u64) {
    for (seq, key) in model {
        assert!(index.is_recent(key));
        let found = index.find(key, near).unwrap().unwrap();
        assert_eq!((found.seq, found.received_at), (*seq, Timestamp(*seq as i64)));
        assert_eq!(index.at_or_after(*seq).unwrap().unwrap(), found);
    }
    let last = model.keys().next_back().copied().unwrap_or(0);
    assert_eq!(index.at_or_after(last + 1).unwrap(), None);
    assert_eq!(index.find(&key("front", u64::MAX), near).unwrap(), None);
    let seqs = |camera: Option<&str>| -> Vec<u64> {
        let camera = camera.map(|camera| camera.try_into().unwrap());
        index.newest_first(camera.as_ref()).map(|found| found.unwrap().seq).collect()
    };
    assert_eq!(seqs(None), model.keys().rev().copied().collect::<Vec<_>>());
    for camera in CAMERAS {
        let of_camera = model.iter().rev().filter(|(_, key)| key.camera.as_str() == camera);
        assert_eq!(seqs(Some(camera)), of_camera.map(|(seq, _)| *seq).collect::<Vec<_>>());
    }
}

/// Removes, damages or leaves each file of the index.
fn harm(parts: &Path, random: &mut fastrand::Rng) -> usize {
    let mut damaged = 0;
    for entry in std::fs::read_dir(parts).unwrap() {
        let path = entry.unwrap().path();
        match random.u8(0..4) {
            0 => std::fs::remove_file(&path).unwrap(),
            1 => {
                let mut bytes = std::fs::read(&path).unwrap();
                let at = random.usize(0..bytes.len());
                bytes[at] ^= 1 << random.u8(0..8);
                std::fs::write(&path, bytes).unwrap();
                damaged += 1;
            }
            _ => {}
        }
    }
    damaged
}

#[test]
fn every_event_is_found_whatever_became_of_the_files() {
    let mut random = fastrand::Rng::with_seed(20);
    for _ in 0..6 {
        let bed = Bed::new();
        let (mut model, mut views, mut number) = (BTreeMap::new(), Position::default(), 0);
        for _ in 0..8 {
            let damaged = if bed.parts().exists() { harm(&bed.parts(), &mut random) } else { 0 };
            let open = bed.open(views);
            assert_eq!(open.index.damaged().len(), damaged, "the open reads all of so few");
            for _ in 0..random.u64(0..60) {
                if random.u8(0..5) == 0 {
                    open.append(&noise());
                    continue;
                }
                number += 1;
                let key = key(random.choice(CAMERAS).unwrap(), number);
                let at = open.append(&event(key.clone(), model.len() as i64 + 1));
                model.insert(at.seq, key);
                if random.u8(0..20) == 0 {
                    views = at;
                }
            }
            compare(&open.index, &model, if random.bool() { u64::MAX } else { random.u64(0..number + 2) });
            open.journal.close();
        }
        assert!(bed.open(views).index.listed().len() > 2 * PARTS_CACHED_MAX, "more segments than are cached");
    }
}

#[test]
fn events_that_ram_has_forgotten_are_found_all_the_same() {
    let bed = Bed::new();
    let open = bed.open(Position::default());
    for id in 1..=50 {
        open.append(&event(key("front", id), id as i64));
    }
    *open.index.recent() = Recent::default();
    assert_eq!(
        open.index.find(&key("front", 3), u64::MAX).unwrap(),
        None,
        "a miss proves that an event is new while all are remembered"
    );
    open.index.forget_all();
    assert!(!open.index.is_recent(&key("front", 3)));
    assert_eq!(open.index.find(&key("front", 3), u64::MAX).unwrap().unwrap().seq, 3);
}

#[test]
fn parts_of_segments_that_are_gone_are_removed_and_nothing_else_is_left() {
    let bed = Bed::new();
    let open = bed.open(Position::default());
    for id in 1..=50 {
        open.append(&event(key("front", id), id as i64));
    }
    open.journal.close();
    drop(open);
    let stray = part::path(&bed.parts(), 7_000);
    std::fs::write(&stray, b"x").unwrap();
    std::fs::write(stray.with_extension("new"), b"x").unwrap();
    let open = bed.open(Position { lsn: 50, seq: 50 });
    let files = std::fs::read_dir(bed.parts()).unwrap().count();
    assert_eq!(files, open.index.listed().len(), "each segment has its part, the last too");
    assert!(open.index.verify(0).all(|(_, whole)| whole));
    let first = open.index.listed()[0].first;
    std::fs::write(part::path(&bed.parts(), first), b"x").unwrap();
    assert_eq!(open.index.verify(0).find(|(_, whole)| !whole), Some((first, false)));
    assert!(open.index.verify(first).all(|(_, whole)| whole));
}

#[test]
fn event_is_found_as_soon_as_it_is_in_the_views() {
    let bed = Bed::new();
    let keys = KeyTable::open(&bed.folder.path().join("keys"), &RootKey::from_bytes([7; 32])).unwrap();
    let mut options = JournalOptions::new(bed.folder.path().join("journal"));
    options.segment_bytes = SEGMENT_BYTES;
    let (sender, found) = channel();
    let index: Arc<std::sync::OnceLock<EventIndex>> = Arc::default();
    let shared = Arc::clone(&index);
    // Runs as fast as possible: before any other reader can see that the record is durable.
    let on_commit = Box::new(move |batch: Vec<Committed>| {
        for committed in &batch {
            let index = shared.get().unwrap();
            follow(index, committed);
            let Ok(Record::Event { event, .. }) = Record::decode(&committed.payload) else { continue };
            let entry = index.find(&event.key, committed.location.segment).unwrap();
            sender.send(entry.map(|entry| entry.seq)).unwrap();
        }
    });
    let (journal, _) = Journal::open(options, Arc::new(keys), on_commit).unwrap();
    let opened = index.set(EventIndex::open(&bed.parts(), journal.segments()).unwrap());
    assert!(opened.is_ok());
    for seq in 1..=30 {
        let record = event(key("front", seq), seq as i64);
        let entry = JournalEntry { payload: record.encode().unwrap(), is_event: true };
        journal.append_blocking(entry).unwrap().wait_blocking().unwrap();
        assert_eq!(found.recv().unwrap(), Some(seq));
    }
    assert!(journal.segments().list().len() > 1, "every segment begins once");
}
