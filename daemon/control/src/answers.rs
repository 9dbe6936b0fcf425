//! What comes back over the control socket. Instants are RFC 3339 in UTC.

use std::collections::BTreeMap;

use gatehouse_config::Value;
use gatehouse_gallery::Basis;
use gatehouse_model::{Effort, Face, Outcome, Person};
use gatehouse_store::clock::ClockSource;
use gatehouse_store::ledger::Column;
use gatehouse_store::record::Sink;
use gatehouse_sync::SinkState;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// How the appliance is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Device id.
    pub device: String,
    /// Site, where one is set.
    pub site: String,
    /// `dev`, `staging` or `prod`.
    pub environment: String,
    /// Version of the daemon.
    pub version: String,
    /// Seconds since the start of the daemon.
    pub uptime_seconds: u64,
    /// The broker.
    pub broker: BrokerStatus,
    /// Model of the gallery in use.
    pub model: String,
    /// Model of the gallery beside it.
    pub beside: Option<String>,
    /// Whether the gallery in use is not the one that the settings describe.
    pub settings_differ: bool,
    /// People in the gallery in use.
    pub people: u64,
    /// Templates in the gallery.
    pub templates: u64,
    /// Largest distance that is a match, where a camera has none of its own; 0 where nothing is.
    pub threshold: f32,
    /// Where it comes from.
    pub threshold_basis: Basis,
    /// Why there is none, and what to do.
    pub no_threshold: Option<String>,
    /// Number of the newest stored event.
    pub head_seq: u64,
    /// Events not delivered yet.
    pub pending_events: u64,
    /// Media files not delivered yet.
    pub pending_media: u64,
    /// Since when the oldest of them waits, RFC 3339.
    pub oldest_pending: Option<String>,
    /// Bytes of media on disk.
    pub media_bytes: u64,
    /// Bytes of media allowed on disk.
    pub media_quota_bytes: u64,
    /// Bytes free on the disk of the state directory.
    pub free_bytes: Option<u64>,
    /// Payload bytes of messages taken and not yet durable.
    pub in_flight_bytes: u64,
    /// The clock.
    #[serde(default)]
    pub clock: ClockLine,
    /// Each sink.
    pub sinks: Vec<SinkLine>,
}

/// What is known of the time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockLine {
    /// What time it is, RFC 3339.
    pub time: String,
    /// How far that may be off; none where nobody has told the time since the machine was started.
    pub uncertainty_ms: Option<u64>,
    /// Who told it last: `system` (a time server), `rows` (the central database).
    pub source: Option<ClockSource>,
    /// What the wall clock of the machine says, RFC 3339.
    pub wall: String,
    /// How far the wall clock is wrong beyond the uncertainty, in milliseconds.
    pub wrong_by_ms: u64,
}

/// Delivery to one central side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkLine {
    /// Which one.
    pub sink: Sink,
    /// Whether the settings name it.
    pub configured: bool,
    /// What it does at present.
    pub state: SinkState,
    /// Why the last attempt failed; none after a success.
    pub error: Option<String>,
    /// Since when it fails, else since when it is in this state.
    pub since: String,
    /// When it tries again after a failure.
    pub next_retry: Option<String>,
    /// Events or media files that wait for it.
    pub pending: u64,
    /// Arrival of the oldest that waits.
    pub oldest_pending: Option<String>,
    /// Delivered since the start of the daemon.
    pub delivered: u64,
    /// People, new or changed or erased, taken in from there since then.
    #[serde(default)]
    pub taken: u64,
    /// Refused by the central side and set aside or stored in a reduced form, since the start.
    pub set_aside: u64,
    /// The last of them, in words.
    pub last_set_aside: Option<String>,
}

/// The connection to the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// Host and port.
    pub address: String,
    /// Whether messages can come in now.
    pub connected: bool,
    /// The last failure in words, while not connected.
    pub error: Option<String>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// How it is.
    pub grade: Grade,
    /// In words.
    pub words: String,
    /// What to do next, where there is something.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub advice: Option<String>,
}

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Works, but somebody should know.
    Note,
    /// Does not work.
    Wrong,
}

impl Finding {
    /// Something is as it should be.
    pub fn ok(what: &str, words: impl Into<String>) -> Self {
        Self { what: what.into(), grade: Grade::Ok, words: words.into(), advice: None }
    }

    /// Something works, but somebody should know.
    pub fn note(what: &str, words: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), grade: Grade::Note, words: words.into(), advice: Some(advice.into()) }
    }

    /// Something does not work.
    pub fn wrong(what: &str, words: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), grade: Grade::Wrong, words: words.into(), advice: Some(advice.into()) }
    }
}

/// Who somebody is, by the gallery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IdentifyAnswer {
    /// People in the gallery.
    pub gallery_size: u32,
    /// Model of the gallery.
    pub model: String,
    /// Engine and time for all encodings.
    #[serde(flatten)]
    pub effort: Option<Effort>,
    /// One per encoding, in order.
    pub faces: Vec<FaceLine>,
}

/// The answer to one face.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaceLine {
    /// The decision.
    pub outcome: Outcome,
    /// The matched person, while they are enrolled.
    pub person: Option<Person>,
    /// Distance of the nearest template.
    pub distance: Option<f32>,
    /// Threshold that was applied.
    pub threshold: f32,
    /// Distance to the runner-up person less `distance`.
    pub margin: Option<f32>,
    /// The camera's quality of the face.
    pub quality: Option<f32>,
}

impl From<Face<Person>> for FaceLine {
    fn from(face: Face<Person>) -> Self {
        let Face { outcome, person, distance, threshold, margin, quality } = face;
        Self { outcome, person, distance, threshold, margin, quality }
    }
}

/// A stored event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventLine {
    /// Number of the event on this device.
    pub seq: u64,
    /// The camera.
    pub camera: String,
    /// The camera's id of it.
    pub event_id: String,
    /// Correlation id: the same in the log and in the central database.
    pub correlation: String,
    /// Kind, as the camera says.
    pub kind: String,
    /// The camera's time where it is plausible, RFC 3339.
    pub occurred_at: Option<String>,
    /// When it came, as far as that is known now, RFC 3339.
    pub received_at: String,
    /// How far that may be off; none where nobody knows.
    #[serde(default)]
    pub clock_uncertainty_ms: Option<u64>,
    /// What the appliance's clock said when it came, RFC 3339: the time that was published with the answer.
    #[serde(default)]
    pub clock_said: String,
    /// People in the gallery when it was answered.
    pub gallery_size: u32,
    /// Model of the gallery.
    pub model: String,
    /// Engine and time, where they are known.
    #[serde(flatten)]
    pub effort: Option<Effort>,
    /// The answer.
    pub faces: Vec<FaceLine>,
    /// Announced media files.
    pub media: Vec<String>,
    /// The camera's own attributes; only of a single event, not in a list.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attributes: Option<JsonText>,
}

/// Any JSON, as the text that it was: numbers keep every digit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonText(Box<RawValue>);

impl JsonText {
    /// A text that is JSON; another one as a JSON string.
    pub fn new(text: &str) -> Option<Self> {
        RawValue::from_string(text.to_owned()).or_else(|_| to_raw_value(text)).ok().map(Self)
    }

    /// The members of an object with the text of their values; empty for anything else.
    pub fn members(&self) -> BTreeMap<String, Self> {
        serde_json::from_str(self.0.get()).unwrap_or_default()
    }

    /// The text.
    pub fn get(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for JsonText {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

/// A media file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaLine {
    /// Id of the file.
    pub id: String,
    /// The camera.
    pub camera: String,
    /// The event it belongs to.
    pub event_id: String,
    /// Its name within the event.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// The appliance's time of arrival, RFC 3339.
    pub received_at: String,
    /// `waiting` (for its event), `pending`, `delivered` or `dropped`.
    pub state: String,
    /// Whether the appliance still has it.
    pub on_disk: bool,
    /// Bucket and key where it was delivered to.
    pub place: Option<String>,
    /// Longest edges, in pixels, of its thumbnails at the central side.
    #[serde(default)]
    pub thumbnails: Vec<u16>,
    /// Why it cannot be shown, where it is a broken picture.
    #[serde(default)]
    pub fault: Option<String>,
}

/// What precedes the bytes of a media file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaHeader {
    /// The file.
    pub media: MediaLine,
    /// MIME type.
    pub content_type: String,
}

/// One setting in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SettingLine {
    /// `section.key`.
    pub key: String,
    /// The value; never a secret, only where one lies. None where the key is not set and has no default.
    pub value: Option<Value>,
    /// File and line, environment, or default.
    pub source: String,
    /// Whether the files say something else by now, which a restart will bring into force.
    pub restart_needed: bool,
}

/// What a reload did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Keys that are in force now.
    pub applied: Vec<String>,
    /// Keys that changed and need a restart.
    pub at_restart: Vec<String>,
}

/// The ledger with its sums.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerAnswer {
    /// Events.
    pub events: Sums,
    /// Media files.
    pub files: Sums,
    /// Bytes of the media files.
    pub bytes: Sums,
    /// Whether everything adds up.
    pub holds: bool,
}

/// One column of the ledger with its sums.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// stored + duplicate + rejected.
    pub received: u64,
    /// What was counted.
    #[serde(flatten)]
    pub column: Column,
    /// stored - delivered - dropped.
    pub pending: u64,
}
