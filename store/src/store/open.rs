//! Opening the state directory, and repairing what a crash or a damaged flash left.
//!
//! Order: format, keys, views (rebuilt where they cannot be trusted), journal, then the records that the
//! views do not have yet. People and recent events are loaded from the views. Last, unreferenced data is
//! removed: keys of enrollments and files that never reached the journal. A pending file that is missing is
//! counted as dropped.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use gatehouse_journal::{Committed, Entry, Journal, JournalOptions, Position};
use gatehouse_model::KeyId;
use gatehouse_vault::error::IoError;
use gatehouse_vault::keys::{KeyKind, KeyTable, RootKey};
use gatehouse_vault::space::Space;
use tokio::sync::watch;

use super::applier::{Applier, COMMITS_WAITING};
use super::core::Core;
use super::galleries::{Described, GallerySet, Rules};
use super::people::PROFILE_AD;
use super::people::templates::{Known, TemplateKeys, append_to};
use super::upkeep::compaction;
use super::upkeep::snapshot::{self, Beginning};
use super::{Store, StoreError, StoreSettings, format};
use crate::files::{FilesReport, MediaFiles};
use crate::index::EventIndex;
use crate::people::{Member, PeopleTable, Profile};
use crate::record::{Erasure, Record};
use crate::views::entries::{self, FileEntry, Key, MediaState, PeopleCursor, State};
use crate::views::{ViewError, Views};

/// Records that are applied to the views in one batch while catching up.
const CATCH_UP_BATCH: usize = 1024;

/// What was found and done at open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// The journal's last durable position.
    pub head: Position,
    /// Bytes of an unfinished write that were cut off: nothing in them was ever acknowledged.
    pub torn_bytes: u64,
    /// Descriptions of the damage that was found.
    pub damaged: Vec<String>,
    /// Why the views were rebuilt; none where they were not.
    pub views_rebuilt: Option<String>,
    /// Records that were applied to the views at open.
    pub caught_up: u64,
    /// Unreferenced keys and files that were removed.
    pub cleared: usize,
    /// Pending media files that are missing on the disk.
    pub media_lost: usize,
}

impl Store {
    /// Opens or creates the state directory. Blocking: call it off the async threads.
    ///
    /// # Errors
    /// [`StoreError`] for a wrong root key, an unknown format, or a disk failure. Damage is no error: it is
    /// repaired and reported.
    pub fn open(settings: StoreSettings, root: &RootKey) -> Result<(Self, OpenReport), StoreError> {
        let mut report = OpenReport::default();
        let parts = Parts::open(&settings, root, &mut report)?;
        let (mut applier, published) = parts.applier()?;
        let beginning = parts.catch_up(&settings.directory, &mut applier, &mut report)?;

        let described = Described::read(&parts.views, &settings.gallery)?;
        let rules = Rules::new(settings.gallery.clone());
        let mut templates = TemplateKeys::open(&parts.views, &parts.keys, described.numbers())?;
        let galleries = described.build(&parts.views, &rules, &templates.now)?;
        let loaded = load_people(&parts.views, &parts.keys, &galleries, &mut templates, &mut report)?;
        report.damaged.extend(damaged_index(&parts.events));
        parts.clear_unknown(beginning, &mut report)?;
        let lost = lost_media(&parts.views, &parts.files)?;
        let dropped = |record: &&Record| matches!(record, Record::MediaDropped { .. });
        report.media_lost = lost.iter().filter(dropped).count();

        let Parts { space, state_id, keys, files, views, journal, events, committed } = parts;
        let thread = std::thread::Builder::new().name("views".into()).spawn(move || applier.run(&committed));
        let thread = thread.map_err(IoError::at("start the thread of", &settings.directory))?;
        for record in described.fresh.map(Record::GalleryAdded).into_iter().chain(lost) {
            let entry = Entry { payload: record.encode()?, is_event: false };
            journal.append_blocking(entry)?.wait_blocking()?;
        }
        templates.finish(&loaded.behind, loaded.unreadable, &mut append_to(&journal))?;
        let stamps = newest_stamp(&views, &loaded.people)?;
        let identity = match keys.ids(KeyKind::Identity).first() {
            Some(identity) => *identity,
            None => keys.create(KeyKind::Identity)?,
        };
        let core = Core {
            settings,
            state_id,
            identity,
            keys,
            files,
            journal,
            views,
            galleries: RwLock::new(Arc::new(galleries)),
            rules: Mutex::new(rules),
            lost_galleries: loaded.lost,
            templates: RwLock::new(templates.now),
            people: RwLock::new(loaded.people),
            events,
            recent_faces: Mutex::default(),
            applied: published.applied,
            numbers: published.numbers,
            following: published.following,
            follower: Mutex::new(None),
            applier: Mutex::new(Some(thread)),
            space,
            deployment: OnceLock::new(),
            consent_required: AtomicBool::new(false),
            stamps: AtomicI64::new(stamps),
            people_lock: tokio::sync::Mutex::new(()),
            media_lock: tokio::sync::Mutex::new(()),
            clock_lock: tokio::sync::Mutex::default(),
            retention_lock: tokio::sync::Mutex::new(()),
        };
        let store = Self::new(core);
        if let Ok(mut last_reading) = store.core.clock_lock.try_lock() {
            *last_reading = store.core.clocks()?.last_reading();
        }
        Ok((store, report))
    }
}

/// The parts of the state directory, opened but not yet at one position.
struct Parts {
    space: Arc<Space>,
    state_id: String,
    keys: Arc<KeyTable>,
    files: Arc<MediaFiles>,
    views: Arc<Views>,
    journal: Journal,
    events: Arc<EventIndex>,
    /// Batches that the journal committed, for the applier.
    committed: Receiver<Vec<Committed>>,
}

/// What the applier publishes.
struct Published {
    applied: watch::Receiver<Position>,
    numbers: watch::Receiver<State>,
    following: watch::Receiver<()>,
}

impl Parts {
    fn open(settings: &StoreSettings, root: &RootKey, report: &mut OpenReport) -> Result<Self, StoreError> {
        let directory = &settings.directory;
        fs::create_dir_all(directory).map_err(IoError::at("create", directory))?;
        let space = Arc::new(Space::open(directory));
        let (state_id, repaired) = format::open(directory)?;
        let keys = Arc::new(KeyTable::open(&directory.join("keys"), root)?);
        let (files, of_files) = MediaFiles::open(&directory.join("media"), keys.clone())?;
        report.cleared = of_files.unfinished + of_files.keyless + of_files.orphaned_keys;
        report.damaged = repaired;
        report.damaged.extend(damaged_keys(&keys, &of_files));
        let views = Arc::new(open_views(directory, &keys, report)?);

        let applied = views.state()?.totals.applied;
        let mut options = JournalOptions::new(directory.join("journal"));
        // Numbers that the views contain are never given again, even if the journal lost its tail.
        options.floor = applied;
        options.space = Arc::clone(&space);
        let (commits, committed) = sync_channel(COMMITS_WAITING);
        let journal = open_journal(options, &keys, commits, report)?;
        let events = Arc::new(EventIndex::open(&directory.join("index"), journal.segments())?);
        events.load_recent(applied)?;
        Ok(Self { space, state_id, keys, files: Arc::new(files), views, journal, events, committed })
    }

    fn applier(&self) -> Result<(Applier, Published), StoreError> {
        let state = self.views.state()?;
        let (applied, applied_rx) = watch::channel(state.totals.applied);
        let (numbers, numbers_rx) = watch::channel(state.clone());
        let (following, following_rx) = watch::channel(());
        let applier = Applier {
            views: self.views.clone(),
            events: self.events.clone(),
            keys: self.keys.clone(),
            files: self.files.clone(),
            space: self.space.clone(),
            state,
            applied,
            numbers,
            _following: following,
        };
        Ok((applier, Published { applied: applied_rx, numbers: numbers_rx, following: following_rx }))
    }

    /// Brings the views to the head of the journal.
    fn catch_up(
        &self,
        directory: &Path,
        applier: &mut Applier,
        report: &mut OpenReport,
    ) -> Result<Beginning, StoreError> {
        if applier.state.totals.applied.lsn == 0 && report.head.lsn > 0 {
            report.views_rebuilt.get_or_insert_with(|| "there were none".to_owned());
        }
        let beginning = snapshot::restore(applier, &self.journal)?;
        report.caught_up = catch_up(applier, &self.journal, &mut report.damaged)?;
        if compaction::is_requested(directory) {
            applier.views.flush(&applier.state)?;
            compaction::remove_request(directory)?;
        }
        Ok(beginning)
    }

    /// Destroys keys that no record needs, unless records may be missing.
    fn clear_unknown(&self, beginning: Beginning, report: &mut OpenReport) -> Result<(), StoreError> {
        match beginning {
            // A later version or a backup may still refer to keys of people: they must not be destroyed.
            Beginning::Lost => report.damaged.push(
                "the beginning of the journal is gone and no snapshot of it is complete; people and files of \
                 that time may be missing, their keys are kept: enroll them again or restore a backup of the \
                 state directory"
                    .to_owned(),
            ),
            Beginning::Record | Beginning::Snapshot => {
                report.cleared += clear_unknown(&self.views, &self.keys, &self.files)?;
            }
        }
        Ok(())
    }
}

/// The newest stamp of a change of people, given here or taken from the central services, in microseconds.
fn newest_stamp(views: &Views, people: &PeopleTable) -> Result<i64, StoreError> {
    let taken: Option<PeopleCursor> = views.get(&Key::PeopleTaken)?;
    Ok(people.newest_stamp().max(taken.map_or(0, |cursor| cursor.newest.0)))
}

/// Descriptions of the damage in the key table and the media files.
fn damaged_keys(keys: &KeyTable, files: &FilesReport) -> Vec<String> {
    let mut messages: Vec<String> =
        keys.damaged().iter().map(|slot| format!("slot {} of the key table is damaged", slot.slot)).collect();
    if files.unreadable > 0 {
        messages.push(format!("{} media files have no key; they are left where they are", files.unreadable));
    }
    if files.idle_keys > 0 {
        messages.push(format!("{} keys have no media file; is a disk not mounted?", files.idle_keys));
    }
    messages
}

fn damaged_index(events: &EventIndex) -> impl Iterator<Item = String> {
    let message =
        |segment| format!("the event index of journal segment {segment} was damaged; it was rebuilt");
    events.damaged().into_iter().map(message)
}

fn open_views(directory: &Path, keys: &KeyTable, report: &mut OpenReport) -> Result<Views, StoreError> {
    let views = directory.join("views");
    if compaction::is_requested(directory) {
        return rebuild_views(&views, keys, "it was requested with `store compact`", report);
    }
    match Views::open(&views, keys) {
        Ok(views) => Ok(views),
        Err(error) => rebuild_views(&views, keys, &error.to_string(), report),
    }
}

fn rebuild_views(
    directory: &Path,
    keys: &KeyTable,
    why: &str,
    report: &mut OpenReport,
) -> Result<Views, StoreError> {
    report.views_rebuilt = Some(why.to_owned());
    Views::discard(directory, keys)?;
    Ok(Views::open(directory, keys)?)
}

/// Opens the journal. Committed batches go to the applier.
fn open_journal(
    options: JournalOptions,
    keys: &Arc<KeyTable>,
    commits: SyncSender<Vec<Committed>>,
    report: &mut OpenReport,
) -> Result<Journal, StoreError> {
    let on_commit = Box::new(move |batch: Vec<Committed>| {
        // If the applier has stopped, the daemon is about to end. The journal alone is authoritative.
        let _ = commits.send(batch);
    });
    fs::create_dir_all(&options.directory).map_err(IoError::at("create", &options.directory))?;
    let (journal, opened) = Journal::open(options, keys.clone(), on_commit)?;
    report.head = opened.head;
    report.torn_bytes = opened.torn_bytes;
    report.damaged.extend(opened.damaged.iter().map(ToString::to_string));
    Ok(journal)
}

fn catch_up(applier: &mut Applier, journal: &Journal, damaged: &mut Vec<String>) -> Result<u64, StoreError> {
    let from = applier.state.totals.applied.lsn;
    let mut reader = journal.reader(from);
    loop {
        let mut batch = Vec::with_capacity(CATCH_UP_BATCH);
        while batch.len() < CATCH_UP_BATCH {
            match reader.next()? {
                Some(committed) => batch.push(committed),
                None => break,
            }
        }
        damaged.extend(reader.damaged().iter().map(ToString::to_string));
        if batch.is_empty() {
            return Ok(applier.state.totals.applied.lsn - from);
        }
        applier.take(batch)?;
    }
}

/// The people that were loaded.
#[derive(Default)]
struct Loaded {
    people: PeopleTable,
    /// People whose templates must be sealed again.
    behind: Vec<Known>,
    unreadable: usize,
    /// Galleries of which only templates are left after damage.
    lost: BTreeSet<u8>,
}

/// Loads all people whose key and profile can be read. A damaged person is reported and must be enrolled
/// again.
fn load_people(
    views: &Views,
    keys: &KeyTable,
    galleries: &GallerySet,
    keyring: &mut TemplateKeys,
    report: &mut OpenReport,
) -> Result<Loaded, StoreError> {
    let mut loaded = Loaded::default();
    for entry in views.person_keys() {
        let (key_id, sealed) = entry?;
        // Erased, apart from what the next step of the erasure reads.
        if views.stored(&Key::ErasureUnderWay(key_id).bytes())?.is_some() {
            continue;
        }
        match load_person(views, keys, key_id, &sealed, keyring) {
            Ok((member, known)) => {
                galleries.all().for_each(|slot| known.load_into(slot.mark.number, &slot.gallery));
                loaded.people.put(key_id, member);
                loaded.lost.extend(&known.lost);
                loaded.behind.extend(Some(known).filter(|known| known.is_behind));
            }
            // Another model is a configuration error, not damage.
            Err(StoreError::Template { nth, fault }) => return Err(StoreError::Template { nth, fault }),
            Err(error) => {
                loaded.unreadable += 1;
                report.damaged.push(format!("a person cannot be read, enroll them again: {error}"));
            }
        }
    }
    for number in &loaded.lost {
        let message = "its model is lost; its templates are kept, enroll people into another gallery";
        report.damaged.push(format!("gallery {number}: {message}"));
    }
    Ok(loaded)
}

fn load_person(
    views: &Views,
    keys: &KeyTable,
    key_id: KeyId,
    sealed: &[u8],
    keyring: &mut TemplateKeys,
) -> Result<(Member, Known), StoreError> {
    let key = keys.key(&key_id)?;
    let plain = key.open(PROFILE_AD, sealed)?;
    let damaged = |_| ViewError::Damaged("a profile is not what was written");
    let profile: Profile = Profile::read(&plain).map_err(damaged)?;
    let known = keyring.read(views, key_id, &key)?;
    Ok((Member { profile, key }, known))
}

/// Removes keys and files that are in neither journal nor views: a crash prevented the record of them.
fn clear_unknown(views: &Views, keys: &KeyTable, files: &MediaFiles) -> Result<usize, StoreError> {
    let mut known = HashSet::new();
    for kind in [entries::PROFILE, entries::FILE] {
        for entry in views.scan(vec![kind], false) {
            known.extend(entries::id_in(&entry?.0));
        }
    }
    for entry in views.scan(vec![entries::ERASURE], false) {
        let (name, value) = entry?;
        known.insert(views.unseal::<KeyId>(&name, &value)?);
    }
    for entry in views.scan(vec![entries::ERASURE_UNDER_WAY], false) {
        let (name, value) = entry?;
        known.extend(views.unseal::<Erasure>(&name, &value)?.notice.map(|notice| notice.key));
    }
    let mut cleared = 0;
    for id in files.ids()?.into_iter().filter(|id| !known.contains(id)) {
        files.remove(&id)?;
        cleared += 1;
    }
    for kind in [KeyKind::Person, KeyKind::Media, KeyKind::Erasure] {
        for id in keys.ids(kind).into_iter().filter(|id| !known.contains(id)) {
            keys.destroy(&id)?;
            cleared += 1;
        }
    }
    Ok(cleared)
}

/// Drop records for the files that should be on the disk and are not.
fn lost_media(views: &Views, files: &MediaFiles) -> Result<Vec<Record>, StoreError> {
    let there: HashSet<KeyId> = files.ids()?.into_iter().collect();
    let mut lost = Vec::new();
    for entry in views.scan(vec![entries::FILE], false) {
        let (name, value) = entry?;
        let file: FileEntry = views.unseal(&name, &value)?;
        let (id, bytes) = (file.media.id, file.media.size);
        if !file.on_disk || there.contains(&id) {
            continue;
        }
        lost.push(match file.state {
            MediaState::Delivered(_) => Record::MediaEvicted { id, bytes },
            _ => Record::MediaDropped { id, bytes, reason: "damage".to_owned() },
        });
    }
    Ok(lost)
}

#[cfg(test)]
mod tests;
