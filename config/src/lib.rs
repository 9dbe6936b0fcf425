//! Settings of the appliance: typed, layered, strict.
//!
//! Later layers override earlier ones, key by key: defaults in code; the main file; `conf.d/*.toml` in the same folder
//! in byte order; `GATEHOUSE__SECTION__KEY` from the environment. An unknown key is a fault. All faults are reported
//! together, each with file, line and key.
//!
//! A secret is never a value here: secrets are files or systemd credentials (see [`Secret`]). No setting changes after
//! [`Config::load`]. No other crate reads a settings file.

mod duration;
mod endpoint;
mod fault;
mod hours;
mod kinds;
mod layer;
mod provision;
mod reader;
mod secret;
mod sections;
mod source;
mod suggest;
mod types;

use std::collections::BTreeMap;
use std::path::Path;

pub use duration::{duration_text, parse_duration};
pub use endpoint::Endpoint;
pub use fault::{Fault, Faults};
pub use hours::Hours;
pub use provision::Provisioning;
pub use secret::{SECRETS, Secret, SecretError, credential, read_secret};
pub use sections::device_id;
pub use source::{Entry, Source, Value};
pub use types::{
    CameraGallery, Central, Consent, Control, Device, Environment, Gallery, Keys, Media, Metric, Mqtt,
    Objects, Privacy, Retention, Rows, Sources, State, Sync,
};

use crate::layer::Layers;
use crate::reader::Reader;

/// The settings file of both programs unless another one is named.
pub const DEFAULT_CONFIG: &str = "/etc/gatehouse/gatehouse.toml";

/// The commented settings file that the package ships: every key, its meaning, unit, default and cost.
pub const EDGE_TOML: &str = include_str!("../edge.toml");

/// All settings, already validated.
#[derive(Debug, Clone)]
pub struct Config {
    /// The appliance.
    pub device: Device,
    /// Its state folder.
    pub state: State,
    /// The broker of the cameras.
    pub mqtt: Mqtt,
    /// How faces are compared.
    pub gallery: Gallery,
    /// Pictures and clips on disk.
    pub media: Media,
    /// Retention periods.
    pub retention: Retention,
    /// Consent of people.
    pub privacy: Privacy,
    /// The central side; both halves may be absent.
    pub central: Central,
    /// How delivery paces itself.
    pub sync: Sync,
    /// The root key.
    pub keys: Keys,
    /// The control socket.
    pub control: Control,
    /// Bounds on what one camera may send.
    pub sources: Sources,
    entries: BTreeMap<String, Entry>,
}

impl Config {
    /// Reads the main file at `path`, `conf.d/*.toml` in its folder, and the variables in `env` (all of the process's
    /// may be given; only names that start with `GATEHOUSE__` count).
    ///
    /// # Errors
    /// Every fault of every layer at once.
    pub fn load(path: &Path, env: &[(String, String)]) -> Result<Self, Faults> {
        Self::from_layers(Layers::read(path, env))
    }

    /// Reads one settings text as if it were the main file, without `conf.d` and environment.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn from_text(text: &str) -> Result<Self, Faults> {
        Self::from_layers(Layers::of_file("gatehouse.toml", text))
    }

    /// The variables of this process, as [`Config::load`] takes them; those that are not UTF-8 are left out.
    pub fn process_environment() -> Vec<(String, String)> {
        std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect()
    }

    fn from_layers(layers: Layers) -> Result<Self, Faults> {
        let mut reader = Reader::new(layers);
        let r = &mut reader;
        let config = Self {
            device: Device::read(r),
            state: State::read(r),
            mqtt: Mqtt::read(r),
            gallery: Gallery::read(r),
            media: Media::read(r),
            retention: r.live(Retention::read),
            privacy: Privacy::read(r),
            central: Central::read(r),
            sync: Sync::read(r),
            keys: Keys::read(r),
            control: Control::read(r),
            sources: Sources::read(r),
            entries: BTreeMap::new(),
        };
        let entries = reader.finish()?;
        Ok(Self { entries, ..config })
    }

    /// Every key that has a value or may have one, sorted, with the value and where it came from. Holds paths of
    /// secrets, never secrets.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Where the value of `key` (`mqtt.url`) came from; `None` for a key that does not exist.
    pub fn source(&self, key: &str) -> Option<&Source> {
        self.entries.get(key).map(|entry| &entry.source)
    }

    /// The MQTT client id: the configured one, else `gatehouse-<device id>`.
    pub fn mqtt_client_id(&self) -> String {
        self.mqtt.client_id.clone().unwrap_or_else(|| format!("gatehouse-{}", self.device.id))
    }

    /// The bucket for media files: the configured one, else `gatehouse-<environment>`; `None` without
    /// `[central.objects]`.
    pub fn bucket(&self) -> Option<String> {
        let objects = self.central.objects.as_ref()?;
        Some(objects.bucket.clone().unwrap_or_else(|| format!("gatehouse-{}", self.device.environment)))
    }
}

#[cfg(test)]
mod tests;
