//! Camera formats: messages become events and media files.
//!
//! A new camera format is a file below `sources/` with a [`Source`], and one line in [`Sources::new`]. A source reads
//! untrusted bytes. It bounds size and depth before it builds anything, and it never panics. For a message that it does not
//! accept it returns a [`Refusal`] without biometric data.

mod attributes;
mod camera_time;
mod encoding;
mod faces;
mod identity;
mod native;
mod notes;
mod patterns;
mod refusal;
mod scan;
mod side_fields;
mod topic;

use bytes::Bytes;
use gatehouse_config::Config;
use gatehouse_model::{Event, EventKey, MediaName, Timestamp};
use gatehouse_store::record::Item;
use gatehouse_store::store::{Models, Others, ProbeFace};

pub use native::{EVENT_BYTES_MAX, Native};
pub use refusal::{Reason, Refusal};

/// A message as the broker delivered it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Full topic.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a Bytes,
    /// Whether the sender marked it as retained: the broker delivers such a message on every subscription.
    pub retained: bool,
    /// The appliance's time of arrival.
    pub received_at: Timestamp,
}

/// An event and the faces to be identified. The faces are wiped when they are dropped.
pub struct Visit {
    /// The validated event.
    pub event: Event,
    /// Faces in the order of the camera.
    pub faces: Vec<ProbeFace>,
    /// The same faces for the second gallery, as far as the camera sent them.
    pub others: Others,
    /// For an event without id, time and face: the common prefix of the ids of all events with this content. The next such
    /// event is another visit.
    pub bare: Option<String>,
    /// Whether the age or the novelty of the event is unknown, because its time or id could not be read. Then the answer is
    /// not actionable.
    pub is_freshness_unknown: bool,
    /// Side fields that were dropped.
    pub fields_dropped: u64,
    /// Notes for the integrator of the camera: a few short sentences that repeat no value.
    pub notes: Vec<String>,
}

/// The event and name of a media file; the payload is the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The event, which may arrive later.
    pub event: EventKey,
    /// Name within the event.
    pub name: MediaName,
}

/// A camera format.
pub trait Source: Send + Sync {
    /// MQTT topic filters of its events.
    fn event_filters(&self) -> Vec<String>;
    /// MQTT topic filters of its media files.
    fn media_filters(&self) -> Vec<String>;
    /// Reads an event with faces for galleries of these models; none for a topic of another source.
    ///
    /// # Errors
    /// The refusal, which the caller counts and answers.
    fn event(&self, message: &Message<'_>, models: &Models) -> Option<Result<Visit, Refusal>>;
    /// Reads event and name of a media file; none for a topic of another source.
    ///
    /// # Errors
    /// The refusal, which the caller counts and answers.
    fn media(&self, message: &Message<'_>) -> Option<Result<Upload, Refusal>>;
}

/// All camera formats of the appliance.
pub struct Sources(Vec<Box<dyn Source>>);

impl Sources {
    /// The sources of a configuration.
    pub fn new(config: &Config) -> Self {
        Self(vec![Box::new(Native::new(config))])
    }

    /// Topic filters of all events.
    pub fn event_filters(&self) -> Vec<String> {
        self.0.iter().flat_map(|source| source.event_filters()).collect()
    }

    /// Topic filters of all media files.
    pub fn media_filters(&self) -> Vec<String> {
        self.0.iter().flat_map(|source| source.media_filters()).collect()
    }

    /// Reads an event with the first source that has its topic.
    ///
    /// # Errors
    /// The refusal, which the caller counts and answers.
    pub fn event(&self, message: &Message<'_>, models: &Models) -> Result<Visit, Refusal> {
        let found = self.0.iter().find_map(|source| source.event(message, models));
        found.unwrap_or_else(|| Err(unknown_topic(Item::Event)))
    }

    /// Reads event and name of a media file with the first source that has its topic.
    ///
    /// # Errors
    /// The refusal, which the caller counts and answers.
    pub fn media(&self, message: &Message<'_>) -> Result<Upload, Refusal> {
        let found = self.0.iter().find_map(|source| source.media(message));
        found.unwrap_or_else(|| Err(unknown_topic(Item::Media)))
    }
}

fn unknown_topic(item: Item) -> Refusal {
    Refusal::new(item, Reason::UnknownTopic, "no camera format of this appliance has this topic")
}
