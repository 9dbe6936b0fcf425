//! The settings as types. Meaning, unit, default and cost of each are in `edge.toml`, held equal by a test.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use gatehouse_model::Metric;
use serde::{Deserialize, Serialize};

use crate::hours::Hours;

/// Which central side an appliance belongs to; a device refuses a central side of another environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Development: the root key may be made at the first start.
    Dev,
    /// Rehearsal.
    Staging,
    /// The real thing.
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
    /// Where it stands, in the operator's words; may be empty.
    pub site: String,
    /// Which central side it belongs to.
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
    /// File with its password; else the credential `gatehouse.mqtt-password`.
    pub password_file: Option<PathBuf>,
    /// PEM of the authorities that may have signed the broker's certificate; the public ones where absent.
    pub ca_file: Option<PathBuf>,
    /// PEM of the client certificate chain; only together with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM of the client certificate's private key.
    pub key_file: Option<PathBuf>,
    /// Longest payload taken from the broker, in bytes.
    pub max_payload_bytes: u64,
}

/// `[gallery]`
#[derive(Debug, Clone, PartialEq)]
pub struct Gallery {
    /// Name of the model that made the encodings.
    pub model: String,
    /// Components of one encoding.
    pub dimensions: usize,
    /// The distance.
    pub metric: Metric,
    /// Whether all encodings of the model are of length 1.
    pub normalised: bool,
    /// Share of strangers that may be taken for somebody.
    pub target_fpir: f32,
    /// Largest distance that is a match; none: it follows from `target_fpir`.
    pub threshold: Option<f32>,
    /// Least quality of a face that is judged, 0 to 1.
    pub minimum_quality: f32,
    /// Templates up to which every search is exact; none: the device measures.
    pub exact_limit: Option<usize>,
    /// Whether strangers get a label for the day.
    pub label_strangers: bool,
    /// What differs for one camera, by camera name.
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
    /// Most bytes of sealed media files on disk.
    pub quota_bytes: u64,
    /// Bytes left free on the file system.
    pub reserve_free_bytes: u64,
    /// Hours that a media file waits for its event.
    pub orphan_hours: u32,
    /// Longest edges, in pixels, of the thumbnails that are made of each JPEG; none: none are made.
    pub thumbnails: Vec<u16>,
}

/// `[retention]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Days from their arrival that events and media files stay that the central side has.
    pub delivered_days: u32,
    /// The same for media files alone.
    pub media_days: u32,
    /// Days that those stay that it does not have; none: for ever.
    pub undelivered_days: Option<u32>,
    /// Days from their last visit or change that people stay enrolled; none: for ever.
    pub people_days: Option<u32>,
    /// Whether events that the central side does not have may be given up where a full disk leaves nothing else.
    pub drop_events_when_full: bool,
}

/// `[central]`
#[derive(Debug, Clone, PartialEq)]
pub struct Central {
    /// The S3 side.
    pub objects: Option<Objects>,
    /// The Postgres side.
    pub rows: Option<Rows>,
    /// People who are shared with other appliances through it.
    pub people: SharedPeople,
}

impl Central {
    /// Whether events go into the bucket as lines of JSON.
    pub fn lines(&self) -> bool {
        self.rows.is_none() && self.objects.as_ref().is_some_and(|objects| objects.lines)
    }
}

/// `[central.people]`
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SharedPeople {
    /// File with the deployment key; else the credential `gatehouse.deployment-key`, else people are not shared.
    pub key_file: Option<PathBuf>,
}

/// `[central.objects]`
#[derive(Debug, Clone, PartialEq)]
pub struct Objects {
    /// `http://host[:port]` or `https://host[:port]`.
    pub endpoint: String,
    /// Region that requests are signed for.
    pub region: String,
    /// Bucket; see [`crate::Config::bucket`] for the one to use.
    pub bucket: Option<String>,
    /// Whether events go into the bucket as lines of JSON, where there is no `[central.rows]`.
    pub lines: bool,
    /// File with the access key; else the credential `gatehouse.objects-access-key`.
    pub access_key_file: Option<PathBuf>,
    /// File with the secret key; else the credential `gatehouse.objects-secret-key`.
    pub secret_key_file: Option<PathBuf>,
    /// PEM of the authorities that may have signed the server's certificate; the public ones where absent.
    pub ca_file: Option<PathBuf>,
}

/// `[central.rows]`
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// `postgres://user@host[:port]/database[?sslmode=disable|prefer|require]`; see [`Rows::endpoint`].
    pub url: String,
    /// File with the password; else the credential `gatehouse.rows-password`.
    pub password_file: Option<PathBuf>,
    /// PEM of the authorities that may have signed the server's certificate; the public ones where absent.
    pub ca_file: Option<PathBuf>,
    /// PEM of the certificate to sign in with, and of its key; both or neither.
    pub cert_file: Option<PathBuf>,
    /// See `cert_file`.
    pub key_file: Option<PathBuf>,
}

/// `[sync]`
#[derive(Debug, Clone, PartialEq)]
pub struct Sync {
    /// Most events in one transaction.
    pub batch_events: usize,
    /// Bytes per second that all sinks send on average; none: as the line takes it.
    pub bandwidth_bytes_per_second: Option<u64>,
    /// When pictures and clips leave, by the local time of this machine; none: always.
    pub media_hours: Option<Hours>,
    /// Shortest wait after a failure.
    pub retry_min: Duration,
    /// Longest wait after a failure.
    pub retry_max: Duration,
}

/// `[keys]`
#[derive(Debug, Clone, PartialEq)]
pub struct Keys {
    /// File with the root key; else the credential `gatehouse.root-key`.
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
    /// Events per second that one camera may send for long.
    pub events_per_second: u32,
    /// Events that one camera may send at once.
    pub burst: u32,
    /// Most faces in one event.
    pub max_faces: usize,
}
