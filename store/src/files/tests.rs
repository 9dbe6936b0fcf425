use std::io::Read;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use gatehouse_vault::disk::DiskFile;
use gatehouse_vault::keys::RootKey;

use super::format::HEADER_BYTES;
use super::*;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn keys(&self) -> Arc<KeyTable> {
        let root = RootKey::from_bytes([7; 32]);
        Arc::new(KeyTable::open(&self.folder.path().join("keys"), &root).unwrap())
    }

    fn open(&self) -> (MediaFiles, FilesReport) {
        MediaFiles::open(&self.folder.path().join("media"), self.keys()).unwrap()
    }
}

/// Bytes with different content in each chunk.
fn content(size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(size as u64);
    (0..size).map(|_| random.u8(..)).collect()
}

fn read(files: &MediaFiles, id: &KeyId) -> Result<Vec<u8>, std::io::Error> {
    let mut out = Vec::new();
    files.open_file(id).map_err(std::io::Error::other)?.read_to_end(&mut out)?;
    Ok(out)
}

/// The mismatch that a read reports.
fn damage(files: &MediaFiles, id: &KeyId) -> String {
    let error = read(files, id).expect_err("damage must not be read as content");
    match error.get_ref().and_then(|inner| inner.downcast_ref::<FileError>()) {
        Some(FileError::Damaged { what, .. }) => (*what).to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_put_is_read_back_at_every_size_around_a_chunk() {
    let place = Place::new();
    let sizes = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * 1024 * 1024];
    let (files, report) = place.open();
    assert_eq!(report, FilesReport::default());
    let stored: Vec<_> = sizes.iter().map(|&size| files.put(&content(size)).unwrap()).collect();
    drop(files);

    let (files, report) = place.open();
    assert_eq!(report.files, sizes.len());
    for (size, stored) in sizes.into_iter().zip(&stored) {
        let expected = content(size);
        assert_eq!(read(&files, &stored.id).unwrap(), expected, "{size}");
        assert_eq!(stored.sha256, sha256(&expected));
        assert_eq!(stored.size, size as u64);
        assert_eq!(fs::metadata(files.path(&stored.id, FINISHED)).unwrap().len(), stored.disk_bytes);
        let mut reader = files.open_file(&stored.id).unwrap();
        assert_eq!(reader.size(), size as u64);
        let mut whole = Vec::new();
        while let Some(chunk) = reader.next_chunk().unwrap() {
            whole.extend_from_slice(chunk);
        }
        assert_eq!(whole, expected);
    }
    let mut ids = files.ids().unwrap();
    let mut expected: Vec<_> = stored.iter().map(|stored| stored.id).collect();
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected);
}

#[test]
fn any_flipped_bit_is_an_error_and_no_panic() {
    let place = Place::new();
    let (files, _) = place.open();
    let id = files.put(&content(CHUNK_BYTES + 100)).unwrap().id;
    let path = files.path(&id, FINISHED);
    let whole = fs::read(&path).unwrap();
    let last = whole.len() - 1;
    for at in (0..HEADER_BYTES).chain([40, CHUNK_BYTES, HEADER_BYTES + CHUNK_BYTES + 3, last - 20, last]) {
        for bit in [1, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            fs::write(&path, &bytes).unwrap();
            assert!(!damage(&files, &id).is_empty(), "byte {at}");
        }
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(read(&files, &id).unwrap(), content(CHUNK_BYTES + 100));
}

#[test]
fn a_file_that_was_cut_or_lengthened_is_an_error() {
    let place = Place::new();
    let (files, _) = place.open();
    let id = files.put(&content(2 * CHUNK_BYTES + 9)).unwrap().id;
    let path = files.path(&id, FINISHED);
    let whole = fs::read(&path).unwrap();
    let chunk = CHUNK_BYTES + TAG_BYTES;
    for length in [0, 5, HEADER_BYTES, HEADER_BYTES + chunk, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        damage(&files, &id);
    }
    let mut longer = whole.clone();
    longer.push(0);
    fs::write(&path, &longer).unwrap();
    damage(&files, &id);

    // A header that was adjusted for the missing chunk must not help.
    let mut shorter = whole[..HEADER_BYTES + 2 * chunk].to_vec();
    shorter[24..32].copy_from_slice(&(2 * CHUNK_BYTES as u64).to_le_bytes());
    fs::write(&path, &shorter).unwrap();
    damage(&files, &id);
}

#[test]
fn chunks_cannot_be_swapped_or_come_from_another_file() {
    let place = Place::new();
    let (files, _) = place.open();
    let one = files.put(&content(2 * CHUNK_BYTES)).unwrap().id;
    let other = files.put(&content(2 * CHUNK_BYTES)).unwrap().id;
    let chunk = CHUNK_BYTES + TAG_BYTES;
    let whole = fs::read(files.path(&one, FINISHED)).unwrap();

    let mut swapped = whole[..HEADER_BYTES].to_vec();
    swapped.extend_from_slice(&whole[HEADER_BYTES + chunk..]);
    swapped.extend_from_slice(&whole[HEADER_BYTES..HEADER_BYTES + chunk]);
    fs::write(files.path(&one, FINISHED), &swapped).unwrap();
    assert_eq!(damage(&files, &one), "a chunk is not what was written");

    fs::write(files.path(&other, FINISHED), &whole).unwrap();
    assert_eq!(damage(&files, &other), "its header belongs to another file");
}

#[test]
fn a_removed_file_cannot_be_read_even_from_a_copy() {
    let place = Place::new();
    let (files, _) = place.open();
    let id = files.put(&content(1000)).unwrap().id;
    let kept = files.put(&content(1001)).unwrap().id;
    let path = files.path(&id, FINISHED);
    let copy = fs::read(&path).unwrap();

    files.remove(&id).unwrap();
    assert!(!path.exists());
    fs::write(&path, &copy).unwrap();
    assert!(matches!(files.open_file(&id), Err(FileError::Missing(_))));
    drop(files);

    let (files, report) = place.open();
    assert_eq!((report.files, report.keyless), (1, 1));
    assert!(matches!(files.open_file(&id), Err(FileError::Missing(_))));
    files.remove(&id).unwrap();
    assert_eq!(read(&files, &kept).unwrap(), content(1001));
}

#[test]
fn nothing_of_the_content_is_readable_on_disk() {
    let place = Place::new();
    let (files, _) = place.open();
    let words = b"a visitor at the front door ".repeat(6000);
    let id = files.put(&words).unwrap().id;
    let bytes = fs::read(files.path(&id, FINISHED)).unwrap();
    assert!(bytes.len() > words.len());
    assert!(!bytes.windows(9).any(|window| window == b"a visitor" || window == b"ront door"));
}

#[test]
fn what_a_crash_leaves_is_taken_away_at_the_next_open() {
    let place = Place::new();
    let (files, _) = place.open();
    let kept = files.put(&content(10)).unwrap().id;
    // A put that stopped after the key, a put that stopped before the rename, a remove that stopped after the
    // key.
    let orphan = files.keys.create(KeyKind::Media).unwrap();
    let unfinished = files.keys.create(KeyKind::Media).unwrap();
    files.folder(&unfinished).unwrap();
    fs::write(files.path(&unfinished, TEMPORARY), b"half").unwrap();
    let removed = files.put(&content(20)).unwrap().id;
    files.keys.destroy(&removed).unwrap();
    // A file of another program.
    let foreign = files.directory.join("lost+found.txt");
    fs::write(&foreign, b"").unwrap();
    drop(files);

    let (files, report) = place.open();
    let expected =
        FilesReport { files: 1, unfinished: 1, keyless: 1, orphaned_keys: 2, ..Default::default() };
    assert_eq!(report, expected);
    assert_eq!(files.ids().unwrap(), [kept]);
    assert_eq!(files.keys.ids(KeyKind::Media), [kept]);
    assert!(matches!(files.keys.key(&orphan), Err(KeyError::Destroyed(_))));
    assert!(foreign.exists());
    assert_eq!(place.open().1, FilesReport { files: 1, ..Default::default() });
}

#[test]
fn files_survive_the_loss_of_the_key_table_and_keys_the_loss_of_the_files() {
    let place = Place::new();
    let (files, _) = place.open();
    let id = files.put(&content(10)).unwrap().id;
    drop(files);

    let away = place.folder.path().join("away");
    fs::rename(place.folder.path().join("media"), &away).unwrap();
    assert_eq!(place.open().1, FilesReport { idle_keys: 1, ..Default::default() });
    fs::remove_dir_all(place.folder.path().join("media")).unwrap();
    fs::rename(&away, place.folder.path().join("media")).unwrap();

    fs::rename(place.folder.path().join("keys"), &away).unwrap();
    assert_eq!(place.open().1, FilesReport { unreadable: 1, ..Default::default() });
    fs::remove_file(place.folder.path().join("keys")).unwrap();
    fs::rename(&away, place.folder.path().join("keys")).unwrap();

    assert_eq!(read(&place.open().0, &id).unwrap(), content(10));
}

/// A disk whose nth operation fails, and all later ones.
struct FailingDisk {
    left: Arc<AtomicUsize>,
}

impl FailingDisk {
    fn act(&self) -> std::io::Result<()> {
        let left = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| std::io::Error::from(ErrorKind::StorageFull))
    }
}

impl Disk for FailingDisk {
    fn create(&self, path: &Path) -> std::io::Result<Box<dyn DiskFile>> {
        self.act()?;
        Ok(Box::new(FailingFile(RealDisk.create(path)?, Self { left: self.left.clone() })))
    }
    fn open(&self, path: &Path) -> std::io::Result<Box<dyn DiskFile>> {
        RealDisk.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.act()?;
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.act()?;
        RealDisk.remove(path)
    }
    fn sync_dir(&self, path: &Path) -> std::io::Result<()> {
        self.act()?;
        RealDisk.sync_dir(path)
    }
}

struct FailingFile(Box<dyn DiskFile>, FailingDisk);

impl DiskFile for FailingFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.0.read_at(into, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        self.1.act()?;
        self.0.write_at(bytes, offset)
    }
    fn sync(&self) -> std::io::Result<()> {
        self.1.act()?;
        self.0.sync()
    }
    fn set_len(&self, bytes: u64) -> std::io::Result<()> {
        self.0.set_len(bytes)
    }
    fn reserve(&self, bytes: u64) -> std::io::Result<()> {
        self.0.reserve(bytes)
    }
    fn release_reserved(&self) -> std::io::Result<()> {
        self.0.release_reserved()
    }
    fn size(&self) -> std::io::Result<u64> {
        self.0.size()
    }
}

#[test]
fn a_put_that_fails_at_any_step_stores_nothing_and_the_next_open_leaves_nothing_of_it() {
    let place = Place::new();
    let kept = place.open().0.put(&content(1)).unwrap().id;
    let directory = place.folder.path().join("media");
    for step in 0.. {
        // Opening syncs the parent folder.
        let disk = FailingDisk { left: Arc::new(AtomicUsize::new(1 + step)) };
        let (files, _) = MediaFiles::open_on(Arc::new(disk), &directory, place.keys()).unwrap();
        match files.put(&content(2 * CHUNK_BYTES)) {
            Ok(stored) => {
                assert!(step > 5, "the steps of a put were counted");
                assert_eq!(read(&files, &stored.id).unwrap(), content(2 * CHUNK_BYTES));
                break;
            }
            Err(error) => assert!(matches!(error, FileError::Io(_)), "{error}"),
        }
        drop(files);
        let (files, report) = place.open();
        assert_eq!((report.files, report.unreadable, report.idle_keys), (1, 0, 0), "step {step}");
        assert_eq!(files.ids().unwrap(), [kept]);
        assert_eq!(files.keys.ids(KeyKind::Media), [kept]);
    }
}

#[test]
fn a_remove_whose_unlink_fails_has_already_made_the_file_unreadable() {
    let place = Place::new();
    let directory = place.folder.path().join("media");
    let left = Arc::new(AtomicUsize::new(1000));
    let disk = FailingDisk { left: left.clone() };
    let (files, _) = MediaFiles::open_on(Arc::new(disk), &directory, place.keys()).unwrap();
    let id = files.put(&content(10)).unwrap().id;
    left.store(0, Relaxed);
    assert!(matches!(files.remove(&id), Err(FileError::Io(_))));
    assert!(matches!(files.open_file(&id), Err(FileError::Missing(_))));
}

#[test]
fn random_bytes_in_place_of_a_file_never_panic() {
    let place = Place::new();
    let (files, _) = place.open();
    let id = files.put(&content(100)).unwrap().id;
    let path = files.path(&id, FINISHED);
    let header = fs::read(&path).unwrap()[..24].to_vec();
    let mut random = fastrand::Rng::with_seed(1);
    for round in 0..500 {
        let mut bytes = if round % 2 == 0 { header.clone() } else { Vec::new() };
        let length = random.usize(..200);
        bytes.extend((0..length).map(|_| random.u8(..)));
        fs::write(&path, &bytes).unwrap();
        damage(&files, &id);
    }
}
