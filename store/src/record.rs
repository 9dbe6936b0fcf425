//! The records of the journal.
//!
//! A [`Record`] is the plaintext of one journal frame, encoded with postcard after one version byte
//! ([`RECORD_VERSION`]). Enum variants are numbered by their order: a new variant must be added at the end.
//! Any change of an existing variant needs a new version and a decoder of the present one in [`versions`].
//! The same holds for a new variant that an older program must not skip.

mod thumbnail;
mod versions;

use gatehouse_gallery::calibration::Calibration;
use gatehouse_model::{CameraName, EventKey, KeyId, MediaName, OrderId, Timestamp};
use gatehouse_receipt::By;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::{Reading, ReferenceTime};
use crate::deployment::Reference;
use crate::ledger::Totals;
use crate::views::entries::ErasureOrder;
use gatehouse_model::{Compared, Event, GalleryMark, Identification, VisitRef};
pub use thumbnail::Thumbnail;

/// Version of the encoding of [`Record`], the first byte of every journal payload.
///
/// Version 2: a sealed profile may end with consent and suspension. An earlier program would overlook a suspension.
pub const RECORD_VERSION: u8 = 2;

/// A journal payload that is not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The value cannot be encoded.
    #[error("record cannot be encoded; this is a fault of the program, please report it")]
    Encode,
    /// The bytes are not a record of this version.
    #[error("record is damaged; the disk may be failing: look at dmesg")]
    Decode,
    /// The record was written by another version of the program.
    #[error("record has format version {0}; install the version of Gatehouse that wrote it, or a newer one")]
    Version(u8),
}

/// Kind of a message, for the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Item {
    /// An event, or a message with an unknown topic.
    Event,
    /// A media file.
    Media,
}

/// A destination of delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sink {
    /// Central Postgres.
    Rows,
    /// Central S3.
    Objects,
}

/// A media file, sealed on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// Id of the file and of its key.
    pub id: KeyId,
    /// The event it belongs to, which may arrive later.
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

/// Location of a delivered object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectPlace {
    /// S3 bucket.
    pub bucket: String,
    /// S3 key.
    pub key: String,
}

/// One change of state: the plaintext of a journal frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// A visit and its identification.
    Event {
        /// The visit. Its attributes are empty if they are sealed.
        event: Event,
        /// The answer, with people as sealed references only.
        identification: Identification<VisitRef>,
        /// The attributes of the visit, sealed with the keys of all people who were recognized, one inside the other.
        attributes: Option<Vec<u8>>,
    },
    /// A media file became durable.
    Media(Media),
    /// A message was refused.
    Refused {
        /// Kind of the message.
        item: Item,
        /// Reason as in the contract, e.g. `not_json`.
        reason: String,
        /// Payload size.
        bytes: u64,
    },
    /// A message was delivered again.
    Duplicate {
        /// Kind of the message.
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
    /// The erasure of a person began: it is carried out, whatever happens.
    ErasureOrdered(Erasure),
    /// A person is erased: their key is destroyed.
    Erased(Erasure),
    /// All records up to a position are delivered to Postgres.
    RowsDelivered {
        /// Journal position of the last delivered record.
        lsn: u64,
        /// Number of the last delivered event.
        seq: u64,
    },
    /// A media file is delivered to S3 and verified.
    MediaDelivered {
        /// The file.
        id: KeyId,
        /// Its size, for the ledger.
        bytes: u64,
        /// Its location.
        place: ObjectPlace,
    },
    /// A media file was dropped before its delivery.
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
        /// Its size, for the quota.
        bytes: u64,
    },
    /// A media file of an erased person was removed here. Its object is to be removed from the central services.
    MediaErased {
        /// The file.
        id: KeyId,
    },
    /// A new template key is in force: later templates are sealed with it.
    TemplateKey(TemplateMark),
    /// No template uses this key any more: it is destroyed.
    TemplateKeyRetired {
        /// The template key.
        key: KeyId,
    },
    /// A gallery was added, or the model of a gallery without people was changed.
    GalleryAdded(GalleryMark),
    /// Later identifications use this gallery.
    GallerySwitched {
        /// Its number.
        gallery: u8,
    },
    /// A gallery was removed with all its templates.
    GalleryRemoved {
        /// Its number.
        gallery: u8,
    },
    /// Samples of a person in a gallery, including negative ones. Each is sealed with the person's key and
    /// the template key.
    Templates {
        /// Number of the gallery.
        gallery: u8,
        /// The person's key.
        person: KeyId,
        /// Sealed templates.
        sealed: Vec<Vec<u8>>,
        /// Whether they replace the present ones, or are added to them.
        replaces: bool,
    },
    /// How a second gallery would have answered an event.
    Compared(Compared),
    /// The event of a media file was found in the index, because it is not a recent one.
    EventFound {
        /// The file.
        id: KeyId,
        /// When the event came.
        received_at: Timestamp,
    },
    /// Entries of the views, so that the journal before their position can be removed. Sealed like every
    /// record. Data of a person is sealed with the person's key as well.
    SnapshotPart {
        /// Position of the views, which identifies the snapshot.
        at: u64,
        /// Name and content of each entry.
        entries: Vec<(Vec<u8>, Vec<u8>)>,
    },
    /// A snapshot is complete.
    SnapshotEnd {
        /// Number of its parts, all between its position and this record.
        parts: u32,
        /// The numbers at that position.
        totals: Box<Totals>,
    },
    /// Events were dropped before their delivery; their segments are removed next.
    EventsDropped {
        /// Number of the first.
        from: u64,
        /// Number of the last.
        to: u64,
        /// Reason, e.g. `retention`.
        reason: String,
    },
    /// Shared people were imported up to a change of the central database.
    PeopleTaken {
        /// Number of that change.
        upto: u64,
        /// Id of that change. The central database gives another id if it was restored and gives the number again.
        change: [u8; 16],
        /// The latest stamp among all changes.
        newest: Timestamp,
    },
    /// A part of a media file was delivered, in an unfinished upload.
    PartSent {
        /// The file.
        id: KeyId,
        /// The server's name of the upload; another name is a new upload.
        upload: String,
        /// Bytes of each part but the last.
        part_bytes: u64,
        /// Number of the part, from 1; 0 if the server has no part of the upload any more.
        number: u16,
        /// The server's identifier of the part.
        etag: String,
    },
    /// A picture was decoded, before its delivery.
    Previewed {
        /// The picture.
        id: KeyId,
        /// Its delivered and verified thumbnails.
        thumbnails: Vec<Thumbnail>,
        /// Why it cannot be shown, as a message; none for an intact picture.
        fault: Option<String>,
    },
    /// A reading of wall clock and uptime, after the clock was set or at a new boot.
    Clock(Reading),
    /// A reference time.
    ReferenceTime(ReferenceTime),
    /// An erasure of a shared person who is not enrolled here.
    ErasureKnown(ErasureOrder),
    /// The impostor statistics of a gallery's model.
    GalleryCalibrated {
        /// Its number.
        gallery: u8,
        /// The statistics; none for those that the program contains.
        calibration: Option<Box<Calibration>>,
    },
    /// It was verified that nothing of an erased person can be opened any more.
    ErasureVerified {
        /// The person's key; none where the person was not enrolled.
        person: Option<KeyId>,
        /// What was erased and verified.
        account: ErasureAccount,
    },
}

/// An erasure of a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// The order that is carried out.
    pub order: OrderId,
    /// The person's key.
    pub person: KeyId,
    /// When it was ordered.
    pub at: Timestamp,
    /// Who ordered it.
    pub by: By,
    /// What it destroys; none until all of it is known.
    pub found: Option<ErasureFound>,
    /// The reference of a shared person; none where people are not shared. It outlives the person's key, so that the
    /// erasure can be repeated.
    pub reference: Option<Reference>,
    /// For the central services: the person's id, sealed with a key that is destroyed on delivery.
    pub notice: Option<ErasureNotice>,
}

/// What an erasure destroys, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureFound {
    /// Templates.
    pub templates: u64,
    /// References from visits.
    pub references: u64,
    /// Visits with attributes, which are sealed under the person's key.
    pub attributes: u64,
    /// Pictures and clips of these visits.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What was erased and verified: the content of a statement, except for its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureAccount {
    /// The order.
    pub order: OrderId,
    /// The reference of a shared person; none where people are not shared.
    pub reference: Option<Reference>,
    /// When it was ordered.
    pub ordered_at: Timestamp,
    /// Who ordered it.
    pub by: By,
    /// When it was verified.
    pub done_at: Timestamp,
    /// Largest error of these times, in milliseconds; none without a reference time.
    pub uncertainty_ms: Option<u64>,
    /// What was destroyed. Zeros where the person was not enrolled.
    pub found: ErasureFound,
    /// What was verified.
    pub checks: ErasureChecks,
    /// Version of the program.
    pub version: String,
}

/// What was verified after an erasure: how many of each, all with the expected result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureChecks {
    /// Copies of key slots that are free.
    pub free_slots: u64,
    /// Profiles that cannot be opened.
    pub profiles: u64,
    /// Templates that cannot be opened.
    pub templates: u64,
    /// Searches with a template of the person that find a stranger.
    pub searches: u64,
    /// Pictures that cannot be opened.
    pub files: u64,
}

/// The template key in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateMark {
    /// The key.
    pub key: KeyId,
    /// Number of the template key, from 1.
    pub generation: u32,
    /// When it came into force.
    pub since: Timestamp,
}

/// An erasure that must be delivered to the central services.
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
