//! What cameras send, turned into events and media files.
//!
//! Another camera format is one more file below `sources/` with a [`Source`], and one line in
//! [`Sources::new`]. A source sees bytes from outside: it bounds size and depth before it builds anything,
//! never panics, and says of everything it does not take why, in a [`Refusal`] that holds nothing of a face.

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
    /// Whether the sender marked it as retained: the broker hands such a message out again and again.
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
    /// The same faces for the second gallery, as far as the camera told them so.
    pub others: Others,
    /// For an event with neither id nor time nor face: what the ids of all events with this content begin with. The
    /// next such event is another visit, not the same one again.
    pub bare: Option<String>,
    /// Whether the age of the event, or whether it came before, cannot be known: its time or id could not be read.
    /// Then no door may act on the answer.
    pub is_freshness_unknown: bool,
    /// Side fields that were dropped.
    pub fields_dropped: u64,
    /// What the camera should learn of its event: a few short sentences that repeat no value.
    pub notes: Vec<String>,
}

/// Where a media payload belongs; the payload itself is the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The event, known or still to come.
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
    /// Reads an event with faces for galleries of these models; none where the topic is not of this source.
    ///
    /// # Errors
    /// The refusal, to be counted and answered.
    fn event(&self, message: &Message<'_>, models: &Models) -> Option<Result<Visit, Refusal>>;
    /// Reads where a media file belongs; none where the topic is not of this source.
    ///
    /// # Errors
    /// The refusal, to be counted and answered.
    fn media(&self, message: &Message<'_>) -> Option<Result<Upload, Refusal>>;
}

/// All camera formats that the appliance takes.
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

    /// Reads an event with the first source whose topic it is.
    ///
    /// # Errors
    /// The refusal, to be counted and answered.
    pub fn event(&self, message: &Message<'_>, models: &Models) -> Result<Visit, Refusal> {
        let found = self.0.iter().find_map(|source| source.event(message, models));
        found.unwrap_or_else(|| Err(unknown_topic(Item::Event)))
    }

    /// Reads where a media file belongs with the first source whose topic it is.
    ///
    /// # Errors
    /// The refusal, to be counted and answered.
    pub fn media(&self, message: &Message<'_>) -> Result<Upload, Refusal> {
        let found = self.0.iter().find_map(|source| source.media(message));
        found.unwrap_or_else(|| Err(unknown_topic(Item::Media)))
    }
}

fn unknown_topic(item: Item) -> Refusal {
    Refusal::new(item, Reason::UnknownTopic, "no camera format of this appliance has this topic")
}
