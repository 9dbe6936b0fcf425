//! A journal in whose files anything may have happened. Opening never fails and never panics; what is read was
//! written, in order and once; what is missing is said; and the journal goes on.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use gatehouse_journal::{Committed, Entry, Journal, JournalOptions};
use gatehouse_vault::keys::{KeyTable, RootKey};
use gatehouse_store::record::Record;
use libfuzzer_sys::{arbitrary::{self, Arbitrary}, fuzz_target};

/// Records of the journal that is damaged: some segments' worth.
const RECORDS: u64 = 24;
const SEGMENT_BYTES: u64 = 700;

#[derive(Debug, Arbitrary)]
enum Act {
    Flip { file: u8, at: u16, with: u8 },
    Overwrite { file: u8, at: u16, bytes: Vec<u8> },
    Truncate { file: u8, to: u16 },
    Append { file: u8, bytes: Vec<u8> },
    Repeat { file: u8, from: u16, bytes: u8, to: u16 },
    Remove { file: u8 },
    Swap { one: u8, other: u8 },
}

#[derive(Debug, Arbitrary)]
enum Input {
    Payload(Vec<u8>),
    Damage(Vec<Act>),
}

/// A whole journal: its key table and its segments by name.
struct Whole {
    keys: Vec<u8>,
    segments: Vec<(String, Vec<u8>)>,
}

static WHOLE: LazyLock<Whole> = LazyLock::new(|| {
    let folder = folder();
    for round in 0..3 {
        let journal = open(folder.path());
        for n in round * RECORDS / 3 + 1..=(round + 1) * RECORDS / 3 {
            journal.append_blocking(entry(n)).expect("room").wait_blocking().expect("durable");
        }
        journal.close();
    }
    let read = |path: PathBuf| std::fs::read(path).expect("readable");
    let mut segments: Vec<_> = std::fs::read_dir(folder.path().join("journal"))
        .expect("folder")
        .map(|e| e.expect("entry"))
        .map(|e| (e.file_name().into_string().expect("name"), read(e.path())))
        .collect();
    segments.sort();
    Whole { keys: read(folder.path().join("keys")), segments }
});

fn folder() -> tempfile::TempDir {
    // In memory where that is possible: what is tested is the reading, not the disk.
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = made.expect("a folder");
    std::fs::create_dir(folder.path().join("journal")).expect("a folder");
    folder
}

fn open(folder: &Path) -> Journal {
    let keys = KeyTable::open(&folder.join("keys"), &RootKey::from_bytes([7; 32])).expect("the keys are whole");
    let options = JournalOptions { segment_bytes: SEGMENT_BYTES, ..JournalOptions::new(folder.join("journal")) };
    Journal::open(options, Arc::new(keys), Box::new(|_| {})).expect("damage is no reason to refuse").0
}

fn entry(n: u64) -> Entry {
    Entry { payload: format!("record {n}").into_bytes(), is_event: n % 3 != 0 }
}

fn damage(segments: &mut Vec<(String, Vec<u8>)>, act: &Act) {
    let count = segments.len();
    if count == 0 {
        return;
    }
    let pick = |n: u8| usize::from(n) % count;
    match act {
        Act::Flip { file, at, with } => {
            let bytes = &mut segments[pick(*file)].1;
            if let Some(byte) = bytes.get_mut(usize::from(*at)) {
                *byte ^= with;
            }
        }
        Act::Overwrite { file, at, bytes } => put(&mut segments[pick(*file)].1, usize::from(*at), bytes),
        Act::Truncate { file, to } => segments[pick(*file)].1.truncate(usize::from(*to)),
        Act::Append { file, bytes } => segments[pick(*file)].1.extend_from_slice(bytes),
        Act::Repeat { file, from, bytes, to } => {
            let all = &mut segments[pick(*file)].1;
            let from = usize::from(*from).min(all.len());
            let piece = all[from..(from + usize::from(*bytes)).min(all.len())].to_vec();
            put(all, usize::from(*to).min(4096), &piece);
        }
        Act::Remove { file } => {
            segments.remove(pick(*file));
        }
        Act::Swap { one, other } => {
            let (one, other) = (pick(*one), pick(*other));
            let kept = std::mem::take(&mut segments[one].1);
            let kept = std::mem::replace(&mut segments[other].1, kept);
            segments[one].1 = kept;
        }
    }
}

fn put(all: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if all.len() < at + bytes.len() {
        all.resize(at + bytes.len(), 0);
    }
    all[at..at + bytes.len()].copy_from_slice(bytes);
}

fn drain(journal: &Journal) -> (Vec<Committed>, u64) {
    let mut reader = journal.reader(0);
    let mut read = Vec::new();
    while let Some(record) = reader.next().expect("damage is no error of the reader") {
        read.push(record);
    }
    let lost = reader.damaged().iter().map(|d| d.lost).sum();
    (read, lost)
}

fuzz_target!(|input: Input| {
    let acts = match input {
        // Whatever is in a frame: a record or an error in words.
        Input::Payload(bytes) => {
            let _ = Record::decode(&bytes).map(|record| record.encode());
            return;
        }
        Input::Damage(acts) => acts,
    };
    let folder = folder();
    let mut segments = WHOLE.segments.iter().map(|(n, b)| (n.clone(), b.clone())).collect();
    for act in acts.iter().take(16) {
        damage(&mut segments, act);
    }
    std::fs::write(folder.path().join("keys"), &WHOLE.keys).expect("written");
    for (name, bytes) in &segments {
        std::fs::write(folder.path().join("journal").join(name), bytes).expect("written");
    }

    let journal = open(folder.path());
    let head = journal.head();
    let (read, lost) = drain(&journal);
    let mut last = 0;
    for record in &read {
        let lsn = record.position.lsn;
        assert!(last < lsn && lsn <= RECORDS, "record {lsn} comes after {last}");
        assert_eq!(record.payload, entry(lsn).payload, "record {lsn} is another one");
        last = lsn;
    }
    assert!(head.lsn >= last, "the head is before a record");
    assert!(read.len() as u64 + lost <= head.lsn, "more was read and lost than there was");

    let next = journal.append_blocking(entry(1000)).expect("room").wait_blocking().expect("goes on");
    assert_eq!(next.lsn, head.lsn + 1, "a hole");
    journal.close();
    let journal = open(folder.path());
    let (again, _) = drain(&journal);
    assert_eq!(again.last().map(|r| r.position), Some(next), "the new record is gone");
    assert_eq!(again.len(), read.len() + 1, "a second opening sees another journal");
});
