//! While a wide batch is being written, the next is sealed, and not written.

use std::io;
use std::sync::Condvar;
use std::time::Instant;

use gatehouse_vault::disk::{Disk, DiskFile};
use gatehouse_vault::space::Space;

use super::*;

/// Generous: no wait here takes long.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
/// As many of [`wide`] are more than a batch that is written by the writer itself.
const RECORDS: u64 = 100;
/// More syncs than there are.
const ALL: usize = usize::MAX;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// What is done to the journal's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Write,
    Sync,
    Synced,
    Cut(u64),
}

#[derive(Default)]
struct State {
    /// So many syncs go through, the next one hangs.
    allowed: usize,
    /// What the next sync fails with.
    fails: Option<i32>,
    acts: Vec<Act>,
}

/// A disk whose syncs are released by the test.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<State>, Condvar)>);

struct GateFile(Gate, Box<dyn DiskFile>);

impl Gate {
    fn allow(&self, syncs: usize) {
        locked(&self.0.0).allowed = syncs;
        self.0.1.notify_all();
    }

    fn fail(&self, error: i32) {
        let mut state = locked(&self.0.0);
        (state.allowed, state.fails) = (ALL, Some(error));
        self.0.1.notify_all();
    }

    fn note(&self, act: Act) {
        locked(&self.0.0).acts.push(act);
    }

    fn acts(&self) -> Vec<Act> {
        locked(&self.0.0).acts.clone()
    }

    fn wait_for(&self, journal: &Journal, what: impl Fn(&[Act], usize) -> bool) {
        let begin = Instant::now();
        while !what(&self.acts(), locked(&journal.shared.queue).waiting.len()) {
            assert!(begin.elapsed() < WAIT_TIMEOUT, "{:?}", self.acts());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Disk for Gate {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(GateFile(self.clone(), RealDisk.create(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }
}

impl DiskFile for GateFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.read_at(into, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.note(Act::Write);
        self.1.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.note(Act::Sync);
        let mut state = locked(&self.0.0.0);
        while state.allowed == 0 {
            state = self.0.0.1.wait(state).unwrap();
        }
        state.allowed -= 1;
        if let Some(error) = state.fails.take() {
            return Err(io::Error::from_raw_os_error(error));
        }
        state.acts.push(Act::Synced);
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.note(Act::Cut(bytes));
        self.1.set_len(bytes)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.1.reserve(bytes)
    }

    fn release_reserved(&self) -> io::Result<()> {
        self.1.release_reserved()
    }

    fn size(&self) -> io::Result<u64> {
        self.1.size()
    }
}

fn open(bench: &Bench) -> (Gate, Journal) {
    let gate = Gate::default();
    let mut options = JournalOptions::new(bench.folder.path().join("journal"));
    options.space = Arc::new(Space::with_retry_interval(Duration::from_micros(200)));
    let (journal, _) =
        Journal::open_on(Arc::new(gate.clone()), options, bench.keys(), Box::new(drop)).unwrap();
    (gate, journal)
}

fn wide(journal: &Journal) -> Vec<Pending> {
    let entry = || Entry { payload: vec![7; 1000], is_event: false };
    (0..RECORDS).map(|_| journal.append_blocking(entry()).unwrap()).collect()
}

/// A batch that hangs in its sync, and records behind it that were taken and sealed meanwhile.
fn two_batches(gate: &Gate, journal: &Journal) -> (Vec<Pending>, Vec<Pending>) {
    let hangs = |acts: &[Act], _| acts.ends_with(&[Act::Write, Act::Sync]);
    // The new segment, and a narrow batch that holds the writer up, so that what follows is one batch.
    gate.allow(1);
    let narrow = journal.append_blocking(entry(0)).unwrap();
    gate.wait_for(journal, |acts, _| acts.contains(&Act::Synced) && acts.last() == Some(&Act::Sync));
    let first = wide(journal);
    gate.allow(1);
    assert!(narrow.wait_blocking().is_ok());
    gate.wait_for(journal, hangs);
    let second = wide(journal);
    gate.wait_for(journal, |_, waiting| waiting < RECORDS as usize);
    assert!(hangs(&gate.acts(), 0), "written before the batch before it was durable");
    assert!(journal.head() < first[0].position(), "confirmed before it was durable");
    (first, second)
}

/// Whether every write comes when all before it is synced.
fn is_in_order(acts: &[Act]) -> bool {
    let mut open = false;
    acts.iter().all(|act| match act {
        Act::Write => !open,
        act => {
            open = *act == Act::Sync;
            true
        }
    })
}

#[test]
fn the_next_batch_is_sealed_while_one_is_on_its_way_and_written_when_that_is_durable() {
    let bench = Bench::new(SEGMENT_BYTES);
    let (gate, journal) = open(&bench);
    let (first, second) = two_batches(&gate, &journal);
    gate.allow(ALL);
    assert!(first.into_iter().chain(second).all(|pending| pending.wait_blocking().is_ok()));
    journal.close();
    assert!(is_in_order(&gate.acts()), "{:?}", gate.acts());
    assert_eq!(drain(&mut journal.reader(0)).len() as u64, 1 + 2 * RECORDS);
}

#[test]
fn where_a_batch_fails_on_its_way_what_was_sealed_behind_it_is_never_written() {
    let bench = Bench::new(SEGMENT_BYTES);
    let (gate, journal) = open(&bench);
    let (first, second) = two_batches(&gate, &journal);
    let (end, before) = (journal.shared.durable().end, gate.acts().len());
    gate.fail(EIO);
    for pending in first {
        assert!(matches!(pending.wait_blocking(), Err(JournalError::Io(_))));
    }
    for pending in second {
        assert!(matches!(pending.wait_blocking(), Err(JournalError::Poisoned)));
    }
    journal.close();
    assert_eq!(gate.acts()[before..], [Act::Cut(end), Act::Sync, Act::Synced]);
    drop(journal);
    let (journal, report, _) = bench.open();
    assert_eq!((report.head.lsn, report.torn_bytes, report.damaged.len()), (1, 0, 0));
    journal.close();
}

#[test]
fn where_the_disk_is_full_meanwhile_the_same_batch_is_written_again_and_the_next_after_it() {
    let bench = Bench::new(SEGMENT_BYTES);
    let (gate, journal) = open(&bench);
    let (first, second) = two_batches(&gate, &journal);
    let before = gate.acts().len();
    gate.fail(ENOSPC);
    assert!(first.into_iter().chain(second).all(|pending| pending.wait_blocking().is_ok()));
    journal.close();
    let after = gate.acts().split_off(before);
    assert!(after.starts_with(&[Act::Write, Act::Sync, Act::Synced, Act::Write, Act::Sync]), "{after:?}");
    let lsns: Vec<u64> = drain(&mut journal.reader(0)).iter().map(|record| record.position.lsn).collect();
    assert_eq!(lsns, (1..=1 + 2 * RECORDS).collect::<Vec<_>>());
}
