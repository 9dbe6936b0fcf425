//! What the appliance remembers: names, events, identifications, and the records of the journal.
//!
//! A [`Record`] is the plaintext of one journal frame, encoded with postcard behind one version byte
//! ([`RECORD_VERSION`]). Enum variants are numbered by their order: new variants go to the end, and a change
//! of an existing one needs a new version and a way to read the old one, as [`first`] has.

mod first;
mod gallery;

use serde::{Deserialize, Serialize};

use crate::error::RecordError;
use crate::keys::KeyId;
use crate::names::{CameraName, EventKey, MediaName};
use crate::time::Timestamp;
pub use gallery::{Compared, GalleryMark, Model, ModelFault, Verdict};

/// Version of the encoding of [`Record`], the first byte of every journal payload.
pub const RECORD_VERSION: u8 = 2;

/// A validated visit as a camera told it. It never holds an encoding: those live in RAM until the answer is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Camera and event id: the identity by which a second delivery is recognised.
    pub key: EventKey,
    /// `face`, `doorbell`, `motion` or whatever else the camera calls it.
    pub kind: String,
    /// The camera's own time, only where it is plausible.
    pub occurred_at: Option<Timestamp>,
    /// The appliance's time at the first delivery.
    pub received_at: Timestamp,
    /// Names of the media files that the camera announced.
    pub media: Vec<MediaName>,
    /// Unknown fields and the camera's attributes: the text of one JSON object.
    pub attributes: String,
}

/// What the gallery says of one face.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// One enrolled person, nearer than the threshold and clearly nearer than anybody else.
    Match,
    /// Nearer than the threshold, but a second person is almost as near.
    Ambiguous,
    /// Nobody enrolled is nearer than the threshold.
    Stranger,
    /// The encoding is too poor to be judged.
    Unusable,
}

/// One face and its answer. `P` is how the person is told: [`Person`] in RAM, [`VisitRef`] on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Face<P> {
    /// The decision.
    pub outcome: Outcome,
    /// The matched person; only for [`Outcome::Match`].
    pub person: Option<P>,
    /// Distance of the nearest template in the gallery's metric; none for an empty gallery or an unusable face.
    pub distance: Option<f32>,
    /// The threshold that was applied.
    pub threshold: f32,
    /// Distance of the nearest other person minus `distance`; none where there is no other person.
    pub margin: Option<f32>,
    /// The camera's own quality of the face, 0 to 1.
    pub quality: Option<f32>,
}

/// Which search of the gallery is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The scan that passes over nothing that could matter.
    Exact,
    /// The graph, whose unclear answers the exact one decides.
    Hnsw,
}

impl Engine {
    /// As it is published.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Hnsw => "hnsw",
        }
    }
}

/// How an identification was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effort {
    /// The engine that was asked first.
    pub engine: Engine,
    /// Time for all faces, in microseconds.
    pub micros: u64,
}

/// The answer to one event: one face after another in the order of the camera.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identification<P> {
    /// People in the gallery at the moment of the answer.
    pub gallery_size: u32,
    /// Name of the model the gallery is of.
    pub model: String,
    /// The faces; empty where the event had none.
    pub faces: Vec<Face<P>>,
    /// How it was found; not known of events that were stored before this was.
    pub effort: Option<Effort>,
}

impl<P> Identification<P> {
    /// The same answer with every person told another way.
    pub fn map_person<Q>(self, mut f: impl FnMut(P) -> Option<Q>) -> Identification<Q> {
        let faces = self.faces.into_iter().map(|face| Face {
            outcome: face.outcome,
            person: face.person.and_then(&mut f),
            distance: face.distance,
            threshold: face.threshold,
            margin: face.margin,
            quality: face.quality,
        });
        let faces = faces.collect();
        Identification { gallery_size: self.gallery_size, model: self.model, faces, effort: self.effort }
    }
}

/// An enrolled person as the outside knows them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Person {
    /// The operator's identifier.
    pub id: String,
    /// The display name.
    pub name: String,
}

/// A reference to a person that only that person's key can make or resolve.
///
/// `tag` is an HMAC under the person's key over the day, so that the visits of one day are found quickly while
/// the key lives, and days cannot be linked with each other once it is destroyed. `sealed` is the person's id,
/// sealed with the same key and bound to the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisitRef {
    /// Days since 1970-01-01 UTC of the event's `received_at`.
    pub day: i32,
    /// Lookup tag, see above.
    pub tag: [u8; 8],
    /// The sealed person id.
    pub sealed: Vec<u8>,
}

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
    /// As [`Record::Templates`] of the first gallery, from before there were several; so are
    /// [`Record::SamplesReplaced`] and [`Record::Corrected`].
    Samples {
        /// The person's key.
        person: KeyId,
        /// Sealed templates.
        sealed: Vec<Vec<u8>>,
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
    /// All samples of a person, negative ones too, sealed anew; they take the place of those known.
    SamplesReplaced {
        /// The person's key.
        person: KeyId,
        /// Sealed templates.
        sealed: Vec<Vec<u8>>,
    },
    /// No template is under this key any more: from here on it is destroyed.
    TemplateKeyRetired {
        /// The template key.
        key: KeyId,
    },
    /// A face that was taken for a person and is not them, sealed like a template.
    Corrected {
        /// The person's key.
        person: KeyId,
        /// Sealed negative samples.
        sealed: Vec<Vec<u8>>,
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
    /// [`RecordError::Version`] for a payload of another version, [`RecordError::Decode`] for a damaged one.
    pub fn decode(payload: &[u8]) -> Result<Self, RecordError> {
        match payload.split_first() {
            Some((&RECORD_VERSION, rest)) => postcard::from_bytes(rest).map_err(|_| RecordError::Decode),
            Some((&first::VERSION, rest)) => first::decode(rest).map_err(|_| RecordError::Decode),
            Some((&version, _)) => Err(RecordError::Version(version)),
            None => Err(RecordError::Decode),
        }
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
