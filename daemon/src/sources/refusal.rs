//! Why a message was not taken.

use std::fmt;

use gatehouse_model::{CameraName, EventId};
use gatehouse_store::record::Item;

/// The reason of a refusal: a stable word in the ledger and on `rejected`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not JSON, or a key that counts given twice.
    NotJson,
    /// JSON of another type than the field needs.
    WrongType,
    /// A face encoding outside its place, and none at it.
    MisplacedEncoding,
    /// JSON nested too deep.
    TooDeep,
    /// More bytes than allowed.
    TooLarge,
    /// A payload without a byte.
    Empty,
    /// An encoding of another length than the gallery's.
    WrongDimensions,
    /// Encodings of other models than the gallery's alone.
    WrongModel,
    /// An encoding with NaN or infinity.
    NotFinite,
    /// An encoding that is all zeros.
    ZeroVector,
    /// Base64 that is not.
    BadBase64,
    /// A camera name outside of what is allowed.
    BadCamera,
    /// A media name outside of what is allowed.
    BadMediaName,
    /// An event id outside of what is allowed.
    BadEventId,
    /// A kind that is not a short text.
    BadKind,
    /// A quality outside 0 to 1.
    BadQuality,
    /// A message marked as retained.
    Retained,
    /// More faces than allowed.
    TooManyFaces,
    /// More media names than allowed.
    TooManyMedia,
    /// A camera above its rate.
    RateLimited,
    /// A topic of no known camera format.
    UnknownTopic,
    /// The store did not take it; it has its own words.
    Store,
}

impl Reason {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::WrongType => "wrong_type",
            Self::MisplacedEncoding => "misplaced_encoding",
            Self::TooDeep => "too_deep",
            Self::TooLarge => "too_large",
            Self::Empty => "empty",
            Self::WrongDimensions => "wrong_dimensions",
            Self::WrongModel => "wrong_model",
            Self::NotFinite => "not_finite",
            Self::ZeroVector => "zero_vector",
            Self::BadBase64 => "bad_base64",
            Self::BadCamera => "bad_camera",
            Self::BadMediaName => "bad_media_name",
            Self::BadEventId => "bad_event_id",
            Self::BadKind => "bad_kind",
            Self::BadQuality => "bad_quality",
            Self::Retained => "retained",
            Self::TooManyFaces => "too_many_faces",
            Self::TooManyMedia => "too_many_media",
            Self::RateLimited => "rate_limited",
            Self::UnknownTopic => "unknown_topic",
            Self::Store => "store",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is wrong with a part of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
}

impl Fault {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// A message that was not taken. It never holds what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it was, for the ledger.
    pub item: Item,
    /// Why.
    pub reason: Reason,
    /// Why, in words for the one who set the camera up.
    pub detail: String,
    /// The camera, where its name is valid.
    pub camera: Option<CameraName>,
    /// The topic level where a camera's name should be, where it is none; only to answer on.
    pub misnamed: Option<String>,
    /// The event id, where it could be read.
    pub event_id: Option<EventId>,
}

impl Refusal {
    /// A refusal of a message of which nothing else is known.
    pub fn new(item: Item, reason: Reason, detail: impl Into<String>) -> Self {
        Self { item, reason, detail: detail.into(), camera: None, misnamed: None, event_id: None }
    }

    pub(crate) fn of(item: Item, camera: &CameraName, event_id: Option<EventId>, fault: Fault) -> Self {
        let camera = Some(camera.clone());
        Self { camera, event_id, ..Self::new(item, fault.reason, fault.detail) }
    }
}
