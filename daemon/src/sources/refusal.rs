//! Reasons why a message is not accepted.

use std::fmt;

use gatehouse_model::{CameraName, EventId};
use gatehouse_store::record::Item;

/// The reason of a refusal: a stable code in the ledger and on the topic `rejected`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not JSON, or a duplicate known key.
    NotJson,
    /// JSON of the wrong type for the field.
    WrongType,
    /// A face encoding in another field, and none in its own.
    MisplacedEncoding,
    /// JSON that is nested too deep.
    TooDeep,
    /// More bytes than allowed.
    TooLarge,
    /// An empty payload.
    Empty,
    /// An encoding of another length than the gallery.
    WrongDimensions,
    /// Only encodings of other models than the gallery.
    WrongModel,
    /// An encoding with NaN or infinity.
    NotFinite,
    /// An encoding of zeros.
    ZeroVector,
    /// Invalid base64.
    BadBase64,
    /// An invalid camera name.
    BadCamera,
    /// An invalid media name.
    BadMediaName,
    /// An invalid event id.
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
    /// A topic of no camera format.
    UnknownTopic,
    /// The store refused it, with its own reason.
    Store,
}

impl Reason {
    /// The code.
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

/// A fault in a part of a message.
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

/// A message that was not accepted. It never contains what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of message, for the ledger.
    pub item: Item,
    /// The reason.
    pub reason: Reason,
    /// The reason as text, for the integrator of the camera.
    pub detail: String,
    /// The camera, if its name is valid.
    pub camera: Option<CameraName>,
    /// The invalid topic level in place of a camera name; only used to answer.
    pub misnamed: Option<String>,
    /// The event id, if it could be read.
    pub event_id: Option<EventId>,
}

impl Refusal {
    /// A refusal of a message without camera and event id.
    pub fn new(item: Item, reason: Reason, detail: impl Into<String>) -> Self {
        Self { item, reason, detail: detail.into(), camera: None, misnamed: None, event_id: None }
    }

    pub(crate) fn of(item: Item, camera: &CameraName, event_id: Option<EventId>, fault: Fault) -> Self {
        let camera = Some(camera.clone());
        Self { camera, event_id, ..Self::new(item, fault.reason, fault.detail) }
    }
}
