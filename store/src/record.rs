//! The records of the journal.
//!
//! A [`Record`] is the plaintext of one journal frame, encoded with postcard after one version byte
//! ([`RECORD_VERSION`]). Enum variants are numbered by their order: a new variant goes to the end. Any change of an
//! existing variant, and any new variant that an older program must not skip, needs a new version and a decoder of the
//! present one in [`versions`].

mod thumbnail;
mod versions;

use gatehouse_gallery::calibration::Calibration;
use gatehouse_model::{CameraName, EventKey, KeyId, MediaName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::clock::{Reading, Truth};
use crate::error::RecordError;
use crate::ledger::Totals;
use gatehouse_model::{Compared, Event, GalleryMark, Identification, VisitRef};
pub use thumbnail::Thumbnail;

/// Version of the encoding of [`Record`], the first byte of every journal payload.
pub const RECORD_VERSION: u8 = 1;

/// What a message was about, for the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Item {
    /// An event (or a message whose topic does not tell).
    Event,
    /// A media file.
    Media,
}

/// Where the appliance delivers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sink {
    /// Central Postgres.
    Rows,
    /// Central S3.
    Objects,
}

/// A media file that is sealed on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// Id of the file and of its key.
    pub id: KeyId,
    /// The event it belongs to, known or still to come.
    pub event: EventKey,
    /// Its name within the event.
    pub name: MediaName,
    /// Plaintext size in bytes.
    pub size: u64,
    /// SHA-256 of the plaintext.
    pub sha256: [u8; 32],
    /// The appliance's time of arrival.
    pub received_at: Timestamp,
}

/// Where a delivered object lies centrally.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectPlace {
    /// S3 bucket.
    pub bucket: String,
    /// S3 key.
    pub key: String,
}

/// One change of the appliance: the plaintext of a journal frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// A visit and its answer.
    Event {
        /// The visit.
        event: Event,
        /// What was answered, people only as sealed references.
        identification: Identification<VisitRef>,
    },
    /// A media file became durable.
    Media(Media),
    /// A message was refused.
    Refused {
        /// What it was.
        item: Item,
        /// Reason in the words of the contract, e.g. `not_json`.
        reason: String,
        /// Payload size.
        bytes: u64,
    },
    /// A message was delivered again.
    Duplicate {
        /// What it was.
        item: Item,
        /// Payload size.
        bytes: u64,
    },
    /// A person's profile, new or changed, sealed with the person's key.
    Profile {
        /// The person's key.
        person: KeyId,
        /// Sealed [`crate::people::Profile`].
        sealed: Vec<u8>,
    },
    /// A person is to be forgotten: from here on their key is destroyed.
    Erased {
        /// The person's key.
        person: KeyId,
        /// When.
        at: Timestamp,
        /// Where a central side must hear of it: the person's id, sealed with a key that dies on delivery.
        notice: Option<ErasureNotice>,
    },
    /// Everything up to a position is at the rows sink.
    RowsDelivered {
        /// Journal position up to which all is delivered.
        lsn: u64,
        /// Number of the last delivered event.
        seq: u64,
    },
    /// An object is at the objects sink, verified.
    MediaDelivered {
        /// The file.
        id: KeyId,
        /// Its size, for the ledger.
        bytes: u64,
        /// Where it lies.
        place: ObjectPlace,
    },
    /// A media file was given up before it was delivered.
    MediaDropped {
        /// The file.
        id: KeyId,
        /// Its size, for the ledger.
        bytes: u64,
        /// Reason, e.g. `quota`, `no_event`, `damage`.
        reason: String,
    },
    /// The local copy of a delivered media file was removed.
    MediaEvicted {
        /// The file.
        id: KeyId,
        /// Its size, given back to the quota.
        bytes: u64,
    },
    /// A template key is in force: templates are sealed under it from here on.
    TemplateKey(TemplateMark),
    /// No template is under this key any more: from here on it is destroyed.
    TemplateKeyRetired {
        /// The template key.
        key: KeyId,
    },
    /// A gallery is there, or, where nobody is enrolled yet, is of another model than was said.
    GalleryAdded(GalleryMark),
    /// Answers come from this gallery from here on.
    GallerySwitched {
        /// Its number.
        gallery: u8,
    },
    /// A gallery is gone, and with it all templates in it.
    GalleryRemoved {
        /// Its number.
        gallery: u8,
    },
    /// Samples of a person in a gallery, negative ones too, each sealed with the person's key and the template key.
    Templates {
        /// Number of the gallery.
        gallery: u8,
        /// The person's key.
        person: KeyId,
        /// Sealed templates.
        sealed: Vec<Vec<u8>>,
        /// Whether they take the place of those known, or are added to them.
        replaces: bool,
    },
    /// What a second gallery would have said of an event.
    Compared(Compared),
    /// The event of a media file was there already, though so long that it was not found at once.
    EventFound {
        /// The file.
        id: KeyId,
        /// When the event came.
        received_at: Timestamp,
    },
    /// Entries of the views, so that the journal before their position can go. Sealed like every record, and what a
    /// person's key seals is under that seal, too.
    SnapshotPart {
        /// Position that the views had, which names the snapshot.
        at: u64,
        /// Name and content of each entry.
        entries: Vec<(Vec<u8>, Vec<u8>)>,
    },
    /// A snapshot is whole.
    SnapshotEnd {
        /// Its parts, all between the position that it is of and this record.
        parts: u32,
        /// The numbers at that position.
        totals: Box<Totals>,
    },
    /// Events were given up before they were delivered; what they lay in goes next.
    EventsDropped {
        /// Number of the first.
        from: u64,
        /// Number of the last.
        to: u64,
        /// Reason, e.g. `retention`.
        reason: String,
    },
    /// The people of the central side were taken in up to one of its changes.
    PeopleTaken {
        /// Number of that change.
        upto: u64,
        /// The latest stamp among all changes.
        newest: Timestamp,
    },
    /// A part of a media file is at the objects sink, in an upload that has not ended.
    PartSent {
        /// The file.
        id: KeyId,
        /// The server's name of the upload; another than before begins anew.
        upload: String,
        /// Bytes of each part but the last.
        part_bytes: u64,
        /// Which part, from 1; 0 where nothing of the upload is there any more.
        number: u16,
        /// What the server calls it.
        etag: String,
    },
    /// A picture was looked at, before its delivery.
    Previewed {
        /// The picture.
        id: KeyId,
        /// What of it is at the objects sink, verified.
        thumbnails: Vec<Thumbnail>,
        /// Why it cannot be shown, in words; none for a whole picture.
        fault: Option<String>,
    },
    /// Wall clock and uptime stand like this from here on: the clock was set, or this is another boot.
    Clock(Reading),
    /// Somebody knows what time it is.
    ClockTruth(Truth),
    /// The impostor statistics of a gallery's model.
    GalleryCalibrated {
        /// Its number.
        gallery: u8,
        /// The statistics; none for those that come with the program.
        calibration: Option<Box<Calibration>>,
    },
}

/// Which template key is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateMark {
    /// The key.
    pub key: KeyId,
    /// Counts the template keys of this deployment, from 1.
    pub generation: u32,
    /// When it came into force.
    pub since: Timestamp,
}

/// What the central side must be told of an erased person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureNotice {
    /// Key that seals the id until it is delivered.
    pub key: KeyId,
    /// The sealed person id.
    pub sealed: Vec<u8>,
}

impl Record {
    /// The journal payload of this record.
    ///
    /// # Errors
    /// [`RecordError::Encode`] where the value cannot be encoded; this does not happen for validated values.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        postcard::to_extend(self, vec![RECORD_VERSION]).map_err(|_| RecordError::Encode)
    }

    /// The record of a journal payload.
    ///
    /// # Errors
    /// [`RecordError::Version`] for a payload of a later version, [`RecordError::Decode`] for a damaged one.
    pub fn decode(payload: &[u8]) -> Result<Self, RecordError> {
        versions::decode(&versions::DECODERS, payload)
    }

    /// Whether this record takes the next event number.
    pub fn is_event(&self) -> bool {
        matches!(self, Self::Event { .. })
    }

    /// The camera of an event record.
    pub fn camera(&self) -> Option<&CameraName> {
        match self {
            Self::Event { event, .. } => Some(&event.key.camera),
            _ => None,
        }
    }
}
