//! The settings as types. Meaning, unit, default and cost of each are in `edge.toml`, held equal by a test.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use gatehouse_model::Metric;
use serde::{Deserialize, Serialize};

use crate::hours::Hours;

/// Environment of the central services. An appliance refuses central services of another environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Development: a root key may be made at the first start.
    Dev,
    /// Staging: a rehearsal of production.
    Staging,
    /// Production.
    Prod,
}

impl Environment {
    /// `dev`, `staging` or `prod`, as in database and bucket names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Staging => "staging",
            Self::Prod => "prod",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `[device]`
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Name of the appliance: 1 to 48 of `A-Za-z0-9_-`, unique among all appliances of the environment.
    pub id: String,
    /// Location as free text; may be empty.
    pub site: String,
    /// Environment of the central services.
    pub environment: Environment,
}

/// `[state]`
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Folder of everything durable.
    pub directory: PathBuf,
}

/// `[mqtt]`
#[derive(Debug, Clone, PartialEq)]
pub struct Mqtt {
    /// `mqtt://host[:port]` or `mqtts://host[:port]`; see [`Mqtt::endpoint`].
    pub url: String,
    /// First level of every topic.
    pub topic_root: String,
    /// Client id; see [`crate::Config::mqtt_client_id`] for the one to use.
    pub client_id: Option<String>,
    /// User name for the broker.
    pub username: Option<String>,
    /// File with its password; if none, the credential `gatehouse.mqtt-password` is used.
    pub password_file: Option<PathBuf>,
    /// PEM of the authorities that may have signed the broker's certificate; the public ones if absent.
    pub ca_file: Option<PathBuf>,
    /// PEM of the client certificate chain; only together with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM of the client certificate's private key.
    pub key_file: Option<PathBuf>,
    /// Longest payload accepted from the broker, in bytes.
    pub max_payload_bytes: u64,
}

/// `[gallery]`
#[derive(Debug, Clone, PartialEq)]
pub struct Gallery {
    /// Name of the model that made the encodings.
    pub model: String,
    /// Components of one encoding.
    pub dimensions: usize,
    /// Distance between two encodings.
    pub metric: Metric,
    /// Whether all encodings of the model are of length 1.
    pub normalised: bool,
    /// Share of strangers that may be accepted as an enrolled person.
    pub target_fpir: f32,
    /// Largest distance that is a match; if none, it is derived from `target_fpir`.
    pub threshold: Option<f32>,
    /// Minimum quality of a face that is judged, 0 to 1.
    pub minimum_quality: f32,
    /// Templates up to which every search is exact; if none, the appliance measures.
    pub exact_limit: Option<usize>,
    /// Whether strangers get a label for the day.
    pub label_strangers: bool,
    /// Settings of single cameras, by camera name.
    pub cameras: BTreeMap<String, CameraGallery>,
}

/// `[gallery.cameras.<name>]`
#[derive(Debug, Clone, PartialEq)]
pub struct CameraGallery {
    /// Largest distance that is a match at this camera.
    pub threshold: f32,
}

/// `[media]`
#[derive(Debug, Clone, PartialEq)]
pub struct Media {
    /// Maximum bytes of sealed media files on disk.
    pub quota_bytes: u64,
    /// Bytes left free on the file system.
    pub reserve_free_bytes: u64,
    /// Hours that a media file waits for its event.
    pub orphan_hours: u32,
    /// Longest edges, in pixels, of the thumbnails of each JPEG; if empty, none are made.
    pub thumbnails: Vec<u16>,
}

/// `[retention]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Days after arrival that delivered events and media files stay.
    pub delivered_days: u32,
    /// The same for media files only.
    pub media_days: u32,
    /// Days that undelivered ones stay; if none, forever.
    pub undelivered_days: Option<u32>,
    /// Days after their last visit or change that people stay enrolled; if none, forever.
    pub people_days: Option<u32>,
    /// Whether undelivered events are dropped when the disk is full and all files are removed.
    pub drop_events_when_full: bool,
}

/// `[privacy]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privacy {
    /// Whether a person is enrolled only with the reference of a consent.
    pub consent: Consent,
    /// Days between the order of an erasure and the erasure; 0 is at once.
    pub grace_days: u32,
}

impl Privacy {
    /// The grace period of an erasure; none if a person is erased at once.
    pub fn grace(&self) -> Option<Duration> {
        const DAY: Duration = Duration::from_secs(86_400);
        (self.grace_days > 0).then(|| DAY.saturating_mul(self.grace_days))
    }
}

/// Whether an enrollment needs the reference of a consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// An enrollment without one is refused.
    Required,
    /// An enrollment without one is accepted.
    Optional,
}

/// `[central]`
#[derive(Debug, Clone, PartialEq)]
pub struct Central {
    /// Central S3.
    pub objects: Option<Objects>,
    /// Central Postgres.
    pub rows: Option<Rows>,
    /// People that are shared with other appliances.
    pub people: SharedPeople,
}

impl Central {
    /// Whether events are stored in the bucket as lines of JSON.
    pub fn lines(&self) -> bool {
        self.rows.is_none() && self.objects.as_ref().is_some_and(|objects| objects.lines)
    }
}

/// `[central.people]`
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SharedPeople {
    /// File with the deployment key; if none, the credential `gatehouse.deployment-key` is used. Without either, people
    /// are not shared.
    pub key_file: Option<PathBuf>,
}

/// `[central.objects]`
#[derive(Debug, Clone, PartialEq)]
pub struct Objects {
    /// `http://host[:port]` or `https://host[:port]`.
    pub endpoint: String,
    /// Region for which requests are signed.
    pub region: String,
    /// Bucket; see [`crate::Config::bucket`] for the one to use.
    pub bucket: Option<String>,
    /// Whether events go into the bucket as lines of JSON, where there is no `[central.rows]`.
    pub lines: bool,
    /// File with the access key; if none, the credential `gatehouse.objects-access-key` is used.
    pub access_key_file: Option<PathBuf>,
    /// File with the secret key; if none, the credential `gatehouse.objects-secret-key` is used.
    pub secret_key_file: Option<PathBuf>,
    /// PEM of the authorities that may have signed the server's certificate; the public ones if absent.
    pub ca_file: Option<PathBuf>,
}

/// `[central.rows]`
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// `postgres://user@host[:port]/database[?sslmode=disable|prefer|require]`; see [`Rows::endpoint`].
    pub url: String,
    /// File with the password; if none, the credential `gatehouse.rows-password` is used.
    pub password_file: Option<PathBuf>,
    /// PEM of the authorities that may have signed the server's certificate; the public ones if absent.
    pub ca_file: Option<PathBuf>,
    /// PEM of the client certificate; only together with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM of the certificate's private key.
    pub key_file: Option<PathBuf>,
}

/// `[sync]`
#[derive(Debug, Clone, PartialEq)]
pub struct Sync {
    /// Maximum number of events in one transaction.
    pub batch_events: usize,
    /// Bytes per second that all sinks send on average; if none, there is no limit.
    pub bandwidth_bytes_per_second: Option<u64>,
    /// Hours in which pictures and clips are sent, by the local time of this machine; if none, always.
    pub media_hours: Option<Hours>,
    /// Shortest wait after a failure.
    pub retry_min: Duration,
    /// Longest wait after a failure.
    pub retry_max: Duration,
}

/// `[keys]`
#[derive(Debug, Clone, PartialEq)]
pub struct Keys {
    /// File with the root key; if none, the credential `gatehouse.root-key` is used.
    pub root_key_file: Option<PathBuf>,
}

/// `[control]`
#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    /// Unix socket of the operator's tool.
    pub socket: PathBuf,
}

/// `[sources]`
#[derive(Debug, Clone, PartialEq)]
pub struct Sources {
    /// Events per second that one camera may send on average.
    pub events_per_second: u32,
    /// Events that one camera may send at once.
    pub burst: u32,
    /// Maximum number of faces in one event.
    pub max_faces: usize,
}
