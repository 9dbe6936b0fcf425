use std::path::Path;

use gatehouse_model::{EventKey, MediaName, Timestamp};
use gatehouse_vault::keys::{KeyTable, RootKey};

use super::*;
use crate::record::Media;
use crate::views::entries::MediaState;

/// Enough for many parts.
const FILES: u64 = 10_000;
/// Upper bound of the size of an entry of these files.
const ENTRY_BYTES: usize = 1024;

type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

fn open(folder: &Path) -> Arc<Views> {
    let keys = KeyTable::open(&folder.join("keys"), &RootKey::from_bytes([7; 32])).unwrap();
    Arc::new(Views::open(&folder.join("views"), &keys).unwrap())
}

/// The entries of a pending picture.
fn file(views: &Views, number: u64, on_disk: bool) -> Changes {
    let event = EventKey {
        camera: "front".try_into().unwrap(),
        id: format!("event-{number}").as_str().try_into().unwrap(),
    };
    let name: MediaName = "a.jpg".try_into().unwrap();
    let mut id = [0; 16];
    // Scattered, like random ids.
    id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let id = KeyId::from_bytes(id);
    let (file, queue) = (Key::File(id).bytes(), Key::Queue(number).bytes());
    let by_name = Key::FileName(&event, &name).bytes();
    let received_at = Timestamp(1);
    let media = Media { id, event, name, size: number, sha256: [7; 32], received_at };
    let entry = FileEntry {
        lsn: number,
        media,
        state: MediaState::Pending,
        on_disk,
        event_received_at: Some(received_at),
    };
    BTreeMap::from([
        (file.clone(), Some(views.seal(&file, &entry).unwrap())),
        (queue.clone(), Some(views.seal(&queue, &id).unwrap())),
        (by_name.clone(), Some(views.seal(&by_name, &id).unwrap())),
    ])
}

/// Writes changes like the applier.
fn write(views: &Views, changes: Changes) {
    let _still = views.hold();
    views.write(changes, &State::default()).unwrap();
}

fn fill(views: &Views, numbers: std::ops::Range<u64>) {
    for number in numbers {
        write(views, file(views, number, number % 10 != 0));
    }
}

fn all_of(views: &Arc<Views>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let (mut taking, ()) = Taking::begin(views, || ()).unwrap();
    let parts = std::iter::from_fn(|| taking.next_part().unwrap());
    parts.flatten().collect()
}

fn kept(views: &Views) -> usize {
    views.names_after(&[KEPT]).count()
}

#[test]
fn a_part_at_a_time_is_in_memory_and_all_are_of_one_moment_whatever_changes_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let views = open(folder.path());
    fill(&views, 0..FILES);
    let before = all_of(&views);
    // Without removed files: one entry each by id and by name, and all of them in the queue.
    assert_eq!(before.len() as u64, FILES + 2 * (FILES - FILES / 10));
    let random = &mut fastrand::Rng::with_seed(1);
    let (mut taking, at) = Taking::begin(&views, || 5).unwrap();
    assert_eq!(at, 5);
    assert_eq!(kept(&views), 0, "what the first one saved is removed");
    let (mut taken, mut parts) = (BTreeMap::new(), 0);
    while let Some(part) = taking.next_part().unwrap() {
        let bytes: usize = part.iter().map(|(name, content)| name.len() + content.len()).sum();
        assert!(bytes < PART_BYTES + ENTRY_BYTES && part.len() <= PART_ENTRIES, "{bytes} bytes");
        taken.extend(part);
        parts += 1;
        for _ in 0..200 {
            let number = random.u64(..2 * FILES);
            let mut changes = file(&views, number, random.bool());
            if random.bool() {
                changes.values_mut().for_each(|value| *value = None);
            }
            write(&views, changes);
        }
    }
    assert!(parts > 5, "{parts}");
    assert!(kept(&views) > 100);
    assert!(taken == before, "a snapshot is not of the moment when it began");
    taking.end().unwrap();
    assert_eq!(kept(&views), 0);
    assert!(all_of(&views) != before, "the views went on meanwhile");
}

#[test]
fn a_snapshot_that_was_cut_off_leaves_nothing_that_the_next_one_or_an_opening_minds() {
    let folder = tempfile::tempdir().unwrap();
    let views = open(folder.path());
    let (taking, ()) = Taking::begin(&views, || ()).unwrap();
    let gone = Key::PeopleTaken.bytes();
    let value = Some(views.seal(&gone, &1).unwrap());
    write(&views, BTreeMap::from([(gone.clone(), value)]));
    assert_eq!(kept(&views), 1);
    // Like a power cut: the snapshot is not ended.
    drop(taking);
    write(&views, BTreeMap::from([(gone.clone(), None)]));
    drop(views);
    let views = open(folder.path());
    assert_eq!(kept(&views), 1);
    assert_eq!(all_of(&views), BTreeMap::new(), "what was kept is of another moment");
}
