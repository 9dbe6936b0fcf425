//! Replies on the control socket. Times are RFC 3339 in UTC.

use std::collections::BTreeMap;

use gatehouse_config::Value;
use gatehouse_gallery::Basis;
use gatehouse_model::{Effort, Face, Outcome, Person, SinkState};
use gatehouse_store::clock::ClockSource;
use gatehouse_store::ledger::Column;
use gatehouse_store::people::PersonSummary;
use gatehouse_store::record::Sink;
use gatehouse_store::store::Erased;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// The state of the appliance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Device id.
    pub device: String,
    /// Site, if one is set.
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
    /// Model of the second gallery.
    pub candidate: Option<String>,
    /// Whether the gallery in use differs from the one in the settings.
    pub settings_differ: bool,
    /// People in the gallery in use.
    pub people: u64,
    /// Templates in the gallery.
    pub templates: u64,
    /// Largest distance of a match, for cameras without a threshold; 0 if nothing matches.
    pub threshold: f32,
    /// The source of the threshold.
    pub threshold_basis: Basis,
    /// Why there is no threshold, and what to do.
    pub no_threshold: Option<String>,
    /// Number of the newest stored event.
    pub head_seq: u64,
    /// Events not delivered yet.
    pub pending_events: u64,
    /// Media files not delivered yet.
    pub pending_media: u64,
    /// Arrival of the oldest of them.
    pub oldest_pending: Option<String>,
    /// Bytes of media on disk.
    pub media_bytes: u64,
    /// Bytes of media allowed on disk.
    pub media_quota_bytes: u64,
    /// Bytes free on the disk of the state directory.
    pub free_bytes: Option<u64>,
    /// Payload bytes of received messages that are not durable yet.
    pub in_flight_bytes: u64,
    /// The clock.
    #[serde(default)]
    pub clock: ClockLine,
    /// Each sink.
    pub sinks: Vec<SinkLine>,
}

/// State of timestamp correction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockLine {
    /// The corrected time.
    pub time: String,
    /// Its uncertainty; none without a reference time since the start of the machine.
    pub uncertainty_ms: Option<u64>,
    /// Source of the last reference time: `system` (a time server), `rows` (the central database).
    pub source: Option<ClockSource>,
    /// The wall clock of the machine.
    pub wall: String,
    /// The error of the wall clock beyond the uncertainty, in milliseconds.
    pub wrong_by_ms: u64,
}

/// The result of an order to erase a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PersonErasure {
    /// The person is erased.
    Done(Erased),
    /// The person is erased at the end of the grace period (`expires_at`).
    Ordered(PersonSummary),
}

/// A part of the data of a person, newest visits first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PersonExportPage {
    /// Device id.
    pub device: String,
    /// The person.
    pub person: PersonSummary,
    /// Visits in which the person was recognized.
    pub visits: Vec<ExportedVisit>,
    /// Where the next page begins; none on the last one.
    pub next: Option<u64>,
    /// Encodings by gallery, only on the first page.
    pub templates: Vec<ExportedTemplates>,
}

/// A visit of a person, without any data of other people.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExportedVisit {
    /// Number of the event.
    pub seq: u64,
    /// Camera name.
    pub camera: String,
    /// Event id of the camera.
    pub event_id: String,
    /// Arrival.
    pub received_at: String,
    /// The faces in which the person was recognized.
    pub faces: Vec<FaceLine>,
    /// Number of faces of other people, about whom nothing is exported.
    pub other_faces: usize,
    /// Attributes given by the camera. They are left out if they may describe another person.
    pub attributes: Option<JsonText>,
    /// Whether attributes were left out.
    pub attributes_left_out: bool,
    /// Pictures and clips.
    pub files: Vec<MediaLine>,
}

/// Encodings of a person in one gallery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportedTemplates {
    /// Name of the model that made them.
    pub model: String,
    /// Numbers in one encoding.
    pub dimensions: usize,
    /// How many there are.
    pub count: usize,
    /// The encodings, only on request.
    pub encodings: Option<Vec<Vec<f32>>>,
}

/// Delivery to one sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkLine {
    /// The sink.
    pub sink: Sink,
    /// Whether it is configured.
    pub configured: bool,
    /// Its current state.
    pub state: SinkState,
    /// Error of the last attempt; none after a success.
    pub error: Option<String>,
    /// Since when it fails, otherwise since when it is in this state.
    pub since: String,
    /// Time of the next attempt after a failure.
    pub next_retry: Option<String>,
    /// Events or media files that wait for it.
    pub pending: u64,
    /// Arrival of the oldest of them.
    pub oldest_pending: Option<String>,
    /// Delivered since the start of the daemon.
    pub delivered: u64,
    /// Changes of people that were received since then.
    #[serde(default)]
    pub taken: u64,
    /// Rejected by the server, and set aside or stored in a reduced form, since the start.
    pub set_aside: u64,
    /// Description of the last of them.
    pub last_set_aside: Option<String>,
}

/// The connection to the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// Host and port.
    pub address: String,
    /// Whether it is connected.
    pub connected: bool,
    /// The last error, while not connected.
    pub error: Option<String>,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The subject of the check.
    pub what: String,
    /// The result.
    pub grade: Grade,
    /// Description of the result.
    pub words: String,
    /// What to do next, if there is anything.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub advice: Option<String>,
}

/// The grade of a [`Finding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// No problem.
    Ok,
    /// It works, but an operator should know.
    Note,
    /// It does not work.
    Wrong,
}

impl Finding {
    /// A check without a problem.
    pub fn ok(what: &str, words: impl Into<String>) -> Self {
        Self { what: what.into(), grade: Grade::Ok, words: words.into(), advice: None }
    }

    /// A check that an operator should know of.
    pub fn note(what: &str, words: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), grade: Grade::Note, words: words.into(), advice: Some(advice.into()) }
    }

    /// A check that failed.
    pub fn wrong(what: &str, words: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), grade: Grade::Wrong, words: words.into(), advice: Some(advice.into()) }
    }
}

/// The result of a search in the gallery.
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

/// The identification of one face.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaceLine {
    /// The decision.
    pub outcome: Outcome,
    /// The matched person, while enrolled.
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
    /// Event id of the camera.
    pub event_id: String,
    /// Correlation id: the same in the log and in the central database.
    pub correlation: String,
    /// Kind of the event.
    pub kind: String,
    /// Time of the camera, if it is plausible.
    pub occurred_at: Option<String>,
    /// Time of arrival, corrected as far as possible.
    pub received_at: String,
    /// Its uncertainty; none if unknown.
    #[serde(default)]
    pub clock_uncertainty_ms: Option<u64>,
    /// The wall clock at arrival, which was published with the answer.
    #[serde(default)]
    pub clock_said: String,
    /// People in the gallery at that time.
    pub gallery_size: u32,
    /// Model of the gallery.
    pub model: String,
    /// Engine and time, if known.
    #[serde(flatten)]
    pub effort: Option<Effort>,
    /// The identification of each face.
    pub faces: Vec<FaceLine>,
    /// Announced media files.
    pub media: Vec<String>,
    /// Attributes; only for a single event, not in a list.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attributes: Option<JsonText>,
}

/// JSON as its original text: numbers keep every digit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonText(Box<RawValue>);

impl JsonText {
    /// The text if it is JSON, otherwise the text as a JSON string.
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
    /// Whether the file is on the appliance.
    pub on_disk: bool,
    /// Bucket and key of the delivered object.
    pub place: Option<String>,
    /// Longest edges of its delivered thumbnails, in pixels.
    #[serde(default)]
    pub thumbnails: Vec<u16>,
    /// Why it cannot be shown, if it is a damaged picture.
    #[serde(default)]
    pub fault: Option<String>,
}

/// The line before the bytes of a media file.
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
    /// The value; for a secret the path of its file. None if the key is not set and has no default.
    pub value: Option<Value>,
    /// File and line, environment, or default.
    pub source: String,
    /// Whether the files have a new value that a restart applies.
    pub restart_needed: bool,
}

/// The result of a reload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Keys with new values in force.
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
    /// Whether the ledger adds up.
    pub holds: bool,
}

/// One column of the ledger with its sums.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// stored + duplicate + rejected.
    pub received: u64,
    /// The counts.
    #[serde(flatten)]
    pub column: Column,
    /// stored - delivered - dropped.
    pub pending: u64,
}
