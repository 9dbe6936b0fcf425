//! Keys and values of the views. The first byte of a key is its kind; numbers are big-endian, so that order is age.

use gatehouse_model::{Compared, EventKey, KeyId, MediaName, Timestamp, Verdict, sha256};
use serde::{Deserialize, Serialize};

use crate::ledger::Totals;
use crate::record::{Media, ObjectPlace, Thumbnail};

pub(crate) const STATE: u8 = b'S';
/// The numbers of views that are older than the event index: they hold three entries for each event.
pub(crate) const STATE_BEFORE: u8 = b's';
pub(crate) const PROFILE: u8 = b'p';
pub(crate) const TEMPLATE: u8 = b't';
pub(crate) const TEMPLATE_KEY: u8 = b'k';
pub(crate) const FILE: u8 = b'f';
pub(crate) const FILE_NAME: u8 = b'n';
pub(crate) const WAITING: u8 = b'w';
pub(crate) const QUEUE: u8 = b'q';
pub(crate) const CLIP: u8 = b'c';
pub(crate) const PREVIEW: u8 = b'v';
pub(crate) const PREVIEWED: u8 = b'i';
pub(crate) const DELIVERED: u8 = b'd';
pub(crate) const ERASURE: u8 = b'x';
pub(crate) const GALLERY: u8 = b'g';
pub(crate) const GALLERY_GONE: u8 = b'z';
pub(crate) const GALLERY_IN_USE: u8 = b'u';
pub(crate) const GALLERY_CALIBRATION: u8 = b'a';
pub(crate) const COMPARISON: u8 = b'm';
pub(crate) const PEOPLE_TAKEN: u8 = b'y';
pub(crate) const UPLOAD: u8 = b'l';
pub(crate) const CLOCK: u8 = b'h';
/// What an entry was when the running snapshot began, behind all others, under this and the entry's own name.
pub(crate) const KEPT: u8 = b'~';

/// A key of the views.
pub(crate) enum Key<'a> {
    /// The numbers of the views.
    State,
    /// A person's sealed profile.
    Profile(KeyId),
    /// A person's nth sealed template in a gallery.
    Template(KeyId, u8, u32),
    /// The template key in force.
    TemplateMark,
    /// A media file.
    File(KeyId),
    /// A media file by its event and name.
    FileName(&'a EventKey, &'a MediaName),
    /// A media file whose event has not come yet, by its journal position.
    Waiting(u64),
    /// A picture that is to be delivered.
    Queue(u64),
    /// Any other media file that is to be delivered.
    Clip(u64),
    /// A picture that is to be delivered and has not been looked at.
    Preview(u64),
    /// What was found when a picture was looked at.
    Previewed(KeyId),
    /// A delivered media file that is still on disk.
    Delivered(u64),
    /// An erasure that the central side has not heard of.
    Erasure(u64),
    /// What a gallery is of, by its number.
    Gallery(u8),
    /// A gallery that was removed, until its number is given again.
    GalleryGone(u8),
    /// The number of the gallery that answers.
    GalleryInUse,
    /// The impostor statistics of a gallery's model, where an operator gave them.
    GalleryCalibration(u8),
    /// How two galleries compare.
    Comparison,
    /// How far the people of the central side were taken in.
    PeopleTaken,
    /// An upload of a media file that has not ended.
    Upload(KeyId),
    /// What is known of the clock in one boot, by the journal position behind which it begins.
    Clock(u64),
}

impl Key<'_> {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::State => vec![STATE],
            Self::Profile(id) => named(PROFILE, id),
            Self::Template(id, gallery, nth) => {
                [templates_in(id, *gallery).as_slice(), &nth.to_be_bytes()[1..]].concat()
            }
            Self::TemplateMark => vec![TEMPLATE_KEY],
            Self::File(id) => named(FILE, id),
            Self::FileName(event, name) => {
                [files_of(event).as_slice(), &sha256(name.as_str().as_bytes())[..8]].concat()
            }
            Self::Waiting(lsn) => numbered(WAITING, *lsn),
            Self::Queue(lsn) => numbered(QUEUE, *lsn),
            Self::Clip(lsn) => numbered(CLIP, *lsn),
            Self::Preview(lsn) => numbered(PREVIEW, *lsn),
            Self::Previewed(id) => named(PREVIEWED, id),
            Self::Delivered(lsn) => numbered(DELIVERED, *lsn),
            Self::Erasure(lsn) => numbered(ERASURE, *lsn),
            Self::Gallery(number) => vec![GALLERY, *number],
            Self::GalleryGone(number) => vec![GALLERY_GONE, *number],
            Self::GalleryInUse => vec![GALLERY_IN_USE],
            Self::GalleryCalibration(number) => vec![GALLERY_CALIBRATION, *number],
            Self::Comparison => vec![COMPARISON],
            Self::PeopleTaken => vec![PEOPLE_TAKEN],
            Self::Upload(id) => named(UPLOAD, id),
            Self::Clock(lsn) => numbered(CLOCK, *lsn),
        }
    }
}

fn numbered(kind: u8, number: u64) -> Vec<u8> {
    [&[kind], number.to_be_bytes().as_slice()].concat()
}

fn named(kind: u8, id: &KeyId) -> Vec<u8> {
    [&[kind], id.as_bytes().as_slice()].concat()
}

/// Prefix of the file names of an event.
pub(crate) fn files_of(event: &EventKey) -> Vec<u8> {
    [&[FILE_NAME], &event.digest()[..16]].concat()
}

/// Prefix of a person's templates, in all galleries.
pub(crate) fn templates_of(id: &KeyId) -> Vec<u8> {
    named(TEMPLATE, id)
}

/// Prefix of a person's templates in a gallery.
pub(crate) fn templates_in(id: &KeyId, gallery: u8) -> Vec<u8> {
    [templates_of(id).as_slice(), &[gallery]].concat()
}

/// The gallery in the key of a template.
pub(crate) fn gallery_in(name: &[u8]) -> u8 {
    name.get(17).copied().unwrap_or_default()
}

/// The id in a key that is named by one.
pub(crate) fn id_in(name: &[u8]) -> Option<KeyId> {
    name.get(1..17).and_then(|id| id.try_into().ok()).map(KeyId::from_bytes)
}

/// The number in a key that ends with one.
pub(crate) fn number_in(name: &[u8]) -> Option<u64> {
    name.last_chunk::<8>().map(|number| u64::from_be_bytes(*number))
}

/// The numbers of the views, written with every batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) totals: Totals,
    pub(crate) counts: Counts,
}

/// Entries of each kind, by which silent loss is noticed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    profiles: u64,
    templates: u64,
    files: u64,
    file_names: u64,
    waiting: u64,
    others: u64,
}

impl Counts {
    /// Counts the appearance (1) or disappearance (-1) of a key.
    pub(crate) fn count(&mut self, name: &[u8], by: i64) {
        let field = match name.first() {
            Some(&PROFILE) => &mut self.profiles,
            Some(&TEMPLATE) => &mut self.templates,
            Some(&FILE) => &mut self.files,
            Some(&FILE_NAME) => &mut self.file_names,
            Some(&WAITING) => &mut self.waiting,
            Some(&QUEUE | &DELIVERED | &ERASURE | &UPLOAD | &CLOCK) => &mut self.others,
            Some(&CLIP | &PREVIEW | &PREVIEWED) => &mut self.others,
            Some(&GALLERY | &GALLERY_GONE | &GALLERY_IN_USE) => &mut self.others,
            _ => return,
        };
        *field = field.wrapping_add_signed(by);
    }

    /// Media files that the catalogue knows.
    pub(crate) fn files(&self) -> u64 {
        self.files
    }

    /// Media files whose event has not come.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting
    }
}

/// How far a media file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaState {
    /// Its event has not come yet.
    Waiting,
    /// To be delivered.
    Pending,
    /// At the central side.
    Delivered(ObjectPlace),
    /// Given up, with the reason.
    Dropped(String),
}

/// A media file in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    pub(crate) lsn: u64,
    pub(crate) media: Media,
    pub(crate) state: MediaState,
    pub(crate) on_disk: bool,
    pub(crate) event_received_at: Option<Timestamp>,
}

/// How far an upload in parts has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadSoFar {
    /// The server's name of the upload.
    pub upload: String,
    /// Bytes of each part but the last.
    pub part_bytes: u64,
    /// What the server calls the parts that it has, in their order.
    pub etags: Vec<String>,
}

/// What was found when a picture was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Preview {
    pub(crate) thumbnails: Vec<Thumbnail>,
    /// Why it cannot be shown.
    pub(crate) fault: Option<String>,
}

/// How the gallery in use and the other one compare, since both are there in these roles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Comparison {
    /// Model of the gallery in use.
    pub(crate) in_use: String,
    /// Model of the other.
    pub(crate) other: String,
    /// Events by what came of them.
    pub(crate) counts: Vec<(Verdict, u64)>,
    /// The newest events in which they differ, oldest first.
    pub(crate) differing: Vec<(EventKey, Verdict)>,
}

/// Differing events that are named: with the longest names below what sled keeps in one piece.
pub(crate) const DIFFERING_KEPT: usize = 50;

impl Comparison {
    /// Counts an event; one of another pair of galleries begins anew.
    pub(crate) fn count(&mut self, Compared { event, in_use, other, verdict }: Compared) {
        if (&self.in_use, &self.other) != (&in_use, &other) {
            *self = Self { in_use, other, ..Self::default() };
        }
        match self.counts.iter_mut().find(|(known, _)| *known == verdict) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((verdict, 1)),
        }
        if !matches!(verdict, Verdict::Same | Verdict::Incomplete) {
            self.differing.push((event, verdict));
            let surplus = self.differing.len().saturating_sub(DIFFERING_KEPT);
            self.differing.drain(..surplus);
        }
    }
}
