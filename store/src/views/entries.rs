//! Keys and values of the views. The first byte of a key is its kind. Numbers are big-endian, so that the
//! order of keys is the order of age.

use gatehouse_model::{Compared, EventKey, KeyId, MediaName, OrderId, Timestamp, Verdict, sha256};

use serde::{Deserialize, Serialize};

use crate::deployment::Reference;
use crate::ledger::Totals;
use crate::record::{Media, ObjectPlace, Thumbnail};

pub(crate) const STATE: u8 = b'S';
/// The totals of views that are older than the event index. Those views have three entries per event.
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
pub(crate) const ERASURE_ORDER: u8 = b'o';
pub(crate) const ERASURE_UNDER_WAY: u8 = b'r';
pub(crate) const ERASURE_STATEMENT: u8 = b'e';
pub(crate) const GALLERY: u8 = b'g';
pub(crate) const GALLERY_GONE: u8 = b'z';
pub(crate) const GALLERY_IN_USE: u8 = b'u';
pub(crate) const GALLERY_CALIBRATION: u8 = b'a';
pub(crate) const COMPARISON: u8 = b'm';
pub(crate) const PEOPLE_TAKEN: u8 = b'y';
pub(crate) const UPLOAD: u8 = b'l';
pub(crate) const CLOCK: u8 = b'h';
/// Content of an entry at the start of the running snapshot, after all others, under this byte and the
/// entry's own name.
pub(crate) const KEPT: u8 = b'~';

/// A key of the views.
pub(crate) enum Key<'a> {
    /// The totals and counts of the views.
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
    /// A media file whose event has not arrived, by its journal position.
    Waiting(u64),
    /// A picture that waits for delivery.
    Queue(u64),
    /// Any other media file that waits for delivery.
    Clip(u64),
    /// A picture that waits for delivery and was not decoded yet.
    Preview(u64),
    /// The result of decoding a picture.
    Previewed(KeyId),
    /// A delivered media file that is still on disk.
    Delivered(u64),
    /// An erasure that was not delivered to the central services.
    Erasure(u64),
    /// An erasure that is not complete, by the person's key.
    ErasureUnderWay(KeyId),
    /// An erasure of a shared person. It is kept, so that it can be sent to a restored central database again.
    ErasureOrder(OrderId),
    /// The account of an erasure of a shared person, kept for as long as its order.
    ErasureStatement(OrderId),
    /// The model of a gallery, by the gallery's number.
    Gallery(u8),
    /// A removed gallery, until its number is reused.
    GalleryGone(u8),
    /// The number of the gallery in use.
    GalleryInUse,
    /// The impostor statistics of a gallery's model, if an operator set them.
    GalleryCalibration(u8),
    /// The comparison of two galleries.
    Comparison,
    /// How far shared people were imported from the central services.
    PeopleTaken,
    /// An unfinished upload of a media file.
    Upload(KeyId),
    /// The clock data of one boot, by the journal position after which it begins.
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
            Self::ErasureUnderWay(person) => named(ERASURE_UNDER_WAY, person),
            Self::ErasureOrder(order) => [&[ERASURE_ORDER], order.as_bytes().as_slice()].concat(),
            Self::ErasureStatement(order) => [&[ERASURE_STATEMENT], order.as_bytes().as_slice()].concat(),
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

/// The id in a key that contains one.
pub(crate) fn id_in(name: &[u8]) -> Option<KeyId> {
    name.get(1..17).and_then(|id| id.try_into().ok()).map(KeyId::from_bytes)
}

/// The number in a key that ends with one.
pub(crate) fn number_in(name: &[u8]) -> Option<u64> {
    name.last_chunk::<8>().map(|number| u64::from_be_bytes(*number))
}

/// The totals and counts of the views, written with every batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) totals: Totals,
    pub(crate) counts: Counts,
}

/// Entries of each kind, to detect silent loss.
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
            Some(&ERASURE_ORDER | &ERASURE_UNDER_WAY | &ERASURE_STATEMENT) => &mut self.others,
            Some(&GALLERY | &GALLERY_GONE | &GALLERY_IN_USE) => &mut self.others,
            _ => return,
        };
        *field = field.wrapping_add_signed(by);
    }

    /// Media files in the catalog.
    pub(crate) fn files(&self) -> u64 {
        self.files
    }

    /// Media files whose event has not arrived.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting
    }
}

/// Delivery state of a media file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaState {
    /// Its event has not arrived.
    Waiting,
    /// Waiting for delivery.
    Pending,
    /// Delivered to the central services.
    Delivered(ObjectPlace),
    /// Dropped, with the reason.
    Dropped(String),
}

/// A media file in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    pub(crate) lsn: u64,
    pub(crate) media: Media,
    pub(crate) state: MediaState,
    pub(crate) on_disk: bool,
    pub(crate) event_received_at: Option<Timestamp>,
}

/// How far the central changes of people were merged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeopleCursor {
    /// Number of the last merged change; 0: none.
    pub upto: u64,
    /// Id of that change.
    pub change: [u8; 16],
    /// The latest stamp among all changes.
    pub newest: Timestamp,
}

impl PeopleCursor {
    /// A cursor from which all people are requested again.
    pub fn reset(self) -> Self {
        Self { upto: 0, change: [0; 16], newest: self.newest }
    }
}

/// An erasure of a shared person that was carried out here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureOrder {
    /// The order.
    pub order: OrderId,
    /// The person.
    pub reference: Reference,
    /// When.
    pub at: Timestamp,
}

/// Progress of an upload in parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadSoFar {
    /// The server's name of the upload.
    pub upload: String,
    /// Bytes of each part but the last.
    pub part_bytes: u64,
    /// The server's identifiers of the delivered parts, in order.
    pub etags: Vec<String>,
}

/// The result of decoding a picture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Preview {
    pub(crate) thumbnails: Vec<Thumbnail>,
    /// Why it cannot be shown; none for an intact picture.
    pub(crate) fault: Option<String>,
}

/// The comparison of the gallery in use with the other one, since both have these roles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Comparison {
    /// Model of the gallery in use.
    pub(crate) in_use: String,
    /// Model of the other.
    pub(crate) other: String,
    /// Number of events by verdict.
    pub(crate) counts: Vec<(Verdict, u64)>,
    /// The newest events with different answers, oldest first.
    pub(crate) differing: Vec<(EventKey, Verdict)>,
}

/// Differing events that are listed. With the longest names they stay below the size that sled stores in one
/// piece.
pub(crate) const DIFFERING_KEPT: usize = 50;

impl Comparison {
    /// Counts an event. An event of another pair of galleries restarts the comparison.
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
