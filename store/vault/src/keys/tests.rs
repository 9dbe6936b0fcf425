use std::path::{Path, PathBuf};

use super::slot::{PAGE_BYTES, PAIR_BYTES, SLOT_BYTES, offset};
use super::*;
use gatehouse_model::random;

struct Bench {
    folder: tempfile::TempDir,
    root: [u8; 32],
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), root: random() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    fn open(&self) -> Result<KeyTable, KeyError> {
        KeyTable::open(&self.path(), &RootKey::from_bytes(self.root))
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }

    fn write(&self, bytes: &[u8]) {
        std::fs::write(self.path(), bytes).unwrap();
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|w| w == part)
}

#[test]
fn a_key_is_the_same_after_opening_again_and_gone_after_destroying() {
    let bench = Bench::new();
    let table = bench.open().unwrap();
    let (a, b) = (table.create(KeyKind::Person).unwrap(), table.create(KeyKind::Media).unwrap());
    let sealed = table.key(&a).unwrap().seal(b"", b"x").unwrap();
    let table = bench.open().unwrap();
    assert_eq!(table.key(&a).unwrap().open(b"", &sealed).unwrap().as_slice(), b"x");
    assert_eq!((table.ids(KeyKind::Person), table.ids(KeyKind::Media)), (vec![a], vec![b]));
    assert!(table.destroy(&a).unwrap());
    assert!(!table.destroy(&a).unwrap());
    for table in [table, bench.open().unwrap()] {
        assert!(matches!(table.key(&a), Err(KeyError::Destroyed(id)) if id == a));
        assert!(table.ids(KeyKind::Person).is_empty());
        assert!(table.key(&b).is_ok());
        assert!(table.damaged().is_empty() && table.healed() == 0);
    }
}

#[test]
fn destroying_overwrites_every_byte_of_the_key_in_the_file() {
    let bench = Bench::new();
    let table = bench.open().unwrap();
    let before = bench.bytes();
    let id = table.create(KeyKind::Person).unwrap();
    let with = bench.bytes();
    let wrapped = &with[offset(1, 0) as usize + 24..][..60];
    assert_eq!(with.windows(wrapped.len()).filter(|w| *w == wrapped).count(), 2);
    assert!(contains(&with, id.as_bytes()));
    table.destroy(&id).unwrap();
    let after = bench.bytes();
    assert!(!contains(&after, id.as_bytes()));
    assert!(!wrapped.chunks_exact(12).any(|part| contains(&after, part)));
    assert_eq!(before, after);
}

#[test]
fn a_wrong_root_key_is_said_in_words() {
    let bench = Bench::new();
    drop(bench.open().unwrap());
    let error = KeyTable::open(&bench.path(), &RootKey::from_bytes(random())).err().unwrap();
    assert!(matches!(error, KeyError::WrongRoot));
    assert!(error.to_string().contains("root key does not match"));
}

#[test]
fn many_keys_grow_the_file_by_whole_pages_and_freed_slots_serve_again() {
    let bench = Bench::new();
    let table = bench.open().unwrap();
    let ids: Vec<KeyId> = (0..100).map(|_| table.create(KeyKind::Media).unwrap()).collect();
    let size = bench.bytes().len();
    assert_eq!(size, 4 * PAIR_BYTES);
    for id in &ids[..50] {
        table.destroy(id).unwrap();
    }
    let table = bench.open().unwrap();
    for _ in 0..50 {
        table.create(KeyKind::Person).unwrap();
    }
    assert_eq!(bench.bytes().len(), size);
    assert_eq!(bench.open().unwrap().ids(KeyKind::Media).len(), 50);
    assert!(ids[50..].iter().all(|id| table.key(id).is_ok()));
}

#[test]
fn any_flipped_bit_costs_no_key_and_is_healed() {
    let bench = Bench::new();
    let table = bench.open().unwrap();
    let ids: Vec<KeyId> = (0..5).map(|_| table.create(KeyKind::Journal).unwrap()).collect();
    table.destroy(&ids[4]).unwrap();
    let good = bench.bytes();
    for byte in (0..good.len()).filter(|byte| byte % PAGE_BYTES < 8 * SLOT_BYTES) {
        let mut bad = good.clone();
        bad[byte] ^= 1 << fastrand::u8(..8);
        bench.write(&bad);
        let table = bench.open().unwrap();
        assert_eq!((table.healed(), table.damaged().len()), (1, 0), "byte {byte}");
        assert!(ids[..4].iter().all(|id| table.key(id).is_ok()));
        assert!(matches!(table.key(&ids[4]), Err(KeyError::Destroyed(_))));
        assert_eq!(bench.bytes(), good);
    }
}

#[test]
fn a_lost_page_or_a_cut_end_costs_no_key() {
    let bench = Bench::new();
    let table = bench.open().unwrap();
    let ids: Vec<KeyId> = (0..40).map(|_| table.create(KeyKind::Journal).unwrap()).collect();
    let good = bench.bytes();
    for page in 0..good.len() / PAGE_BYTES {
        let mut bad = good.clone();
        bad[page * PAGE_BYTES..][..PAGE_BYTES].fill(0);
        bench.write(&bad);
        let table = bench.open().unwrap();
        assert!(table.damaged().is_empty() && ids.iter().all(|id| table.key(id).is_ok()));
        assert_eq!(bench.bytes(), good);
    }
    bench.write(&good[..good.len() - PAGE_BYTES]);
    let table = bench.open().unwrap();
    assert!(ids.iter().all(|id| table.key(id).is_ok()));
}

#[test]
fn a_slot_damaged_in_both_copies_is_reported_left_alone_and_does_not_stop_the_rest() {
    let bench = Bench::new();
    let table = bench.open().unwrap();
    let ids: Vec<KeyId> = (0..3).map(|_| table.create(KeyKind::Journal).unwrap()).collect();
    let mut bad = bench.bytes();
    for copy in 0..2 {
        bad[offset(2, copy) as usize + 50] ^= 1;
    }
    bench.write(&bad);
    let table = bench.open().unwrap();
    assert_eq!(table.damaged(), [DamagedSlot { slot: 2, id: Some(ids[1]) }]);
    assert!(table.key(&ids[0]).is_ok() && table.key(&ids[2]).is_ok() && table.key(&ids[1]).is_err());
    let new = table.create(KeyKind::Journal).unwrap();
    assert!(bench.open().unwrap().key(&new).is_ok());
    assert_eq!(
        bench.bytes()[offset(2, 0) as usize..][..SLOT_BYTES],
        bad[offset(2, 0) as usize..][..SLOT_BYTES]
    );
}

#[test]
fn a_change_cut_off_between_its_copies_is_one_or_the_other_and_never_damage() {
    let bench = Bench::new();
    let table = bench.open().unwrap();
    let without = bench.bytes();
    let id = table.create(KeyKind::Person).unwrap();
    let with = bench.bytes();
    for (first, second, there) in [(&with, &without, true), (&without, &with, false)] {
        let mut cut = first.clone();
        cut[PAGE_BYTES..PAIR_BYTES].copy_from_slice(&second[PAGE_BYTES..PAIR_BYTES]);
        bench.write(&cut);
        for _ in 0..2 {
            let table = bench.open().unwrap();
            assert_eq!((table.key(&id).is_ok(), table.damaged().len()), (there, 0));
        }
    }
}

#[test]
fn a_file_that_is_no_key_table_is_refused_and_kept() {
    let bench = Bench::new();
    for bytes in [&b""[..], b"hello", &[7; 3 * PAIR_BYTES], &[0; PAIR_BYTES]] {
        bench.write(bytes);
        assert!(matches!(bench.open(), Err(KeyError::NotATable(_))));
        assert_eq!(bench.bytes(), bytes);
    }
}

#[test]
fn a_root_key_is_read_raw_or_as_digits_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root");
    RootKey::create(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert!(RootKey::create(&path).is_err());
    let raw = std::fs::read(&path).unwrap();
    drop(KeyTable::open(&folder.path().join("keys"), &RootKey::read(&path).unwrap()).unwrap());
    for text in [hex::encode(&raw), format!("{}\n", hex::encode_upper(&raw))] {
        std::fs::write(&path, text).unwrap();
        assert!(KeyTable::open(&folder.path().join("keys"), &RootKey::read(&path).unwrap()).is_ok());
    }
    for bad in [vec![], vec![b'0'; 63], vec![b'g'; 64], vec![b'0'; 66], vec![b'0'; 1000], vec![1; 31]] {
        std::fs::write(&path, bad).unwrap();
        assert!(matches!(RootKey::read(&path), Err(KeyError::RootFormat(_))));
    }
    assert!(matches!(RootKey::read(&folder.path().join("none")), Err(KeyError::Io(_))));
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_id_is_sixteen_bytes_for_machines_and_digits_for_people() {
    let id = KeyId::random();
    assert_eq!(postcard::to_stdvec(&id).unwrap(), id.as_bytes());
    assert_eq!(postcard::from_bytes::<KeyId>(id.as_bytes()).unwrap(), id);
    let json = serde_json::to_string(&id).unwrap();
    assert_eq!(json, format!("\"{id}\""));
    assert_eq!(serde_json::from_str::<KeyId>(&json).unwrap(), id);
    assert_eq!(KeyId::parse(&id.to_string()), Some(id));
    assert_eq!(KeyId::parse("12"), None);
}
