//! Each section: its keys, defaults and ranges, with the reason for each number in `edge.toml`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::reader::{Otherwise, Reader};
use crate::types::{
    CameraGallery, Central, Consent, Control, Device, Environment, Gallery, Keys, Media, Metric, Mqtt,
    Objects, Privacy, Retention, Rows, SharedPeople, Sources, State, Sync,
};

/// Longest name of a camera or of an MQTT client, in bytes, as on the wire.
const NAME_BYTES_MAX: usize = 64;
/// Longest device id: with its prefix it names a Postgres role, which has at most 63 bytes.
const DEVICE_BYTES_MAX: usize = 48;
/// Longest path of a Unix socket that the kernel takes, in bytes.
const SOCKET_BYTES_MAX: usize = 107;
/// Largest threshold of the Euclidean distance: encodings that are not normalised have norms up to about 40.
const EUCLIDEAN_MAX: f64 = 100.0;
/// Largest cosine distance there is.
const COSINE_MAX: f64 = 2.0;
/// Bytes in a mebibyte.
const MIB: u64 = 1024 * 1024;

impl Device {
    pub(crate) fn read(r: &mut Reader) -> Self {
        let names =
            [("dev", Environment::Dev), ("staging", Environment::Staging), ("prod", Environment::Prod)];
        let missing =
            Otherwise::Missing("say which central side this appliance belongs to: dev, staging or prod");
        Self {
            id: r.required_text(
                "device.id",
                "give this appliance a name of its own, like \"house-17\"",
                device_id,
            ),
            site: r.text("device.site", "", |text| bounded(text, 200)),
            environment: r.choice("device.environment", missing, &names).unwrap_or(Environment::Dev),
        }
    }
}

impl State {
    pub(crate) fn read(r: &mut Reader) -> Self {
        Self { directory: r.path("state.directory", "/var/lib/gatehouse") }
    }
}

impl Mqtt {
    pub(crate) fn read(r: &mut Reader) -> Self {
        let mqtt = Self {
            url: r.text("mqtt.url", "mqtt://127.0.0.1:1883", |url| Endpoint::bare(url, &["mqtt", "mqtts"])),
            topic_root: r.text("mqtt.topic_root", "gatehouse", topic),
            client_id: r.optional_text("mqtt.client_id", |text| name(text, NAME_BYTES_MAX)),
            username: r.optional_text("mqtt.username", |text| filled(text).and(bounded(text, 256))),
            password_file: r.optional_path("mqtt.password_file"),
            ca_file: r.optional_path("mqtt.ca_file"),
            cert_file: r.optional_path("mqtt.cert_file"),
            key_file: r.optional_path("mqtt.key_file"),
            max_payload_bytes: r.bytes("mqtt.max_payload_bytes", 16 * MIB, MIB / 4..=255 * MIB, "bytes"),
        };
        if mqtt.password_file.is_some() && mqtt.username.is_none() {
            r.fault("mqtt.password_file", "needs mqtt.username as well");
        }
        let cert = Given { key: "mqtt.cert_file", is_set: mqtt.cert_file.is_some() };
        let key = Given { key: "mqtt.key_file", is_set: mqtt.key_file.is_some() };
        together(r, &[cert, key]);
        if mqtt.url.starts_with("mqtt://") && (mqtt.ca_file.is_some() || mqtt.cert_file.is_some()) {
            r.fault("mqtt.url", "is without TLS although certificates are given: write mqtts://");
        }
        mqtt
    }
}

/// One stranger in ten is a door that is open; one in a million cannot be measured at any door.
const TARGET_FPIR: RangeInclusive<f64> = 0.000_001..=0.1;
/// Slots of a gallery are 32-bit numbers.
const EXACT_LIMIT_MAX: u64 = u32::MAX as u64;

impl Gallery {
    pub(crate) fn read(r: &mut Reader) -> Self {
        let metrics = [("euclidean", Metric::Euclidean), ("cosine", Metric::Cosine)];
        let model =
            r.text("gallery.model", "dlib-128", |text| filled(text).and(bounded(text, NAME_BYTES_MAX)));
        let dimensions = r.integer("gallery.dimensions", 128, 2..=4096, "components") as usize;
        let metric = r.choice_or("gallery.metric", Metric::Euclidean, &metrics);
        let normalised = r.boolean("gallery.normalised", false);
        let range = 0.0..=match metric {
            Metric::Euclidean => EUCLIDEAN_MAX,
            Metric::Cosine => COSINE_MAX,
        };
        let target_fpir = r.live(|r| r.number_or("gallery.target_fpir", 0.001, TARGET_FPIR));
        let threshold = r.live(|r| r.number("gallery.threshold", Otherwise::Unset, range.clone()));
        let minimum_quality = r.live(|r| r.number_or("gallery.minimum_quality", 0.2, 0.0..=1.0));
        let limit = r.whole("gallery.exact_limit", Otherwise::Unset, 0..=EXACT_LIMIT_MAX, "templates");
        let exact_limit = limit.and_then(|limit| usize::try_from(limit).ok());
        let label_strangers = r.live(|r| r.boolean("gallery.label_strangers", false));
        r.know("gallery.cameras.<name>.threshold");
        let mut cameras = BTreeMap::new();
        for (camera, source) in r.names_under("gallery.cameras") {
            if let Err(words) = name(&camera, NAME_BYTES_MAX) {
                let key = format!("gallery.cameras.{camera}");
                r.discard(&key);
                r.fault_at(&source, &key, format!("is no camera name: {words}"));
                continue;
            }
            let missing = Otherwise::Missing("give the camera its threshold or remove its section");
            let key = format!("gallery.cameras.{camera}.threshold");
            if let Some(threshold) = r.live(|r| r.number(&key, missing, range.clone())) {
                cameras.insert(camera, CameraGallery { threshold });
            }
        }
        Self {
            model,
            dimensions,
            metric,
            normalised,
            target_fpir,
            threshold,
            minimum_quality,
            exact_limit,
            label_strangers,
            cameras,
        }
    }
}

impl Media {
    pub(crate) fn read(r: &mut Reader) -> Self {
        // Each is an object and a row for every picture.
        const THUMBNAILS_MAX: usize = 4;
        const TIB: u64 = MIB * MIB;
        Self {
            quota_bytes: r.bytes("media.quota_bytes", 8192 * MIB, 16 * MIB..=64 * TIB, "bytes"),
            reserve_free_bytes: r.bytes("media.reserve_free_bytes", 512 * MIB, 0..=64 * TIB, "bytes"),
            orphan_hours: r.integer("media.orphan_hours", 24, 1..=8760, "hours"),
            thumbnails: r.list("media.thumbnails", &[320], THUMBNAILS_MAX, 16..=2048, "edges in pixels"),
        }
    }
}

impl Retention {
    pub(crate) fn read(r: &mut Reader) -> Self {
        const DAYS: RangeInclusive<u64> = 1..=36_500;
        let delivered_days = r.integer("retention.delivered_days", 90, 1..=36_500, "days");
        let mut days = |key: &str| {
            let days = r.whole(key, Otherwise::Unset, DAYS, "days");
            days.and_then(|days| u32::try_from(days).ok())
        };
        Self {
            delivered_days,
            media_days: days("retention.media_days").unwrap_or(delivered_days),
            undelivered_days: days("retention.undelivered_days"),
            people_days: days("retention.people_days"),
            drop_events_when_full: r.boolean("retention.drop_events_when_full", false),
        }
    }
}

impl Privacy {
    pub(crate) fn read(r: &mut Reader) -> Self {
        let choices = [("required", Consent::Required), ("optional", Consent::Optional)];
        Self {
            consent: r.choice_or("privacy.consent", Consent::Optional, &choices),
            grace_days: r.integer("privacy.grace_days", 0, 0..=365, "days"),
        }
    }
}

impl Central {
    pub(crate) fn read(r: &mut Reader) -> Self {
        Self {
            objects: r.optional_section("central.objects", |r| Objects {
                endpoint: r.required_text(
                    "central.objects.endpoint",
                    "write http://host:port or https://host:port, or remove the section",
                    |url| Endpoint::bare(url, &["http", "https"]),
                ),
                region: r.text("central.objects.region", "us-east-1", |text| name(text, NAME_BYTES_MAX)),
                bucket: r.optional_text("central.objects.bucket", bucket),
                lines: r.boolean("central.objects.lines", false),
                access_key_file: r.optional_path("central.objects.access_key_file"),
                secret_key_file: r.optional_path("central.objects.secret_key_file"),
                ca_file: r.optional_path("central.objects.ca_file"),
            }),
            rows: r.optional_section("central.rows", Rows::read),
            people: SharedPeople { key_file: r.optional_path("central.people.key_file") },
        }
    }
}

impl Rows {
    fn read(r: &mut Reader) -> Self {
        let rows = Self {
            url: r.required_text(
                "central.rows.url",
                "write postgres://user@host:port/database, or remove the section",
                rows_url,
            ),
            password_file: r.optional_path("central.rows.password_file"),
            ca_file: r.optional_path("central.rows.ca_file"),
            cert_file: r.optional_path("central.rows.cert_file"),
            key_file: r.optional_path("central.rows.key_file"),
        };
        let (cert, key) = (rows.cert_file.is_some(), rows.key_file.is_some());
        let cert_file = Given { key: "central.rows.cert_file", is_set: cert };
        let key_file = Given { key: "central.rows.key_file", is_set: key };
        together(r, &[cert_file, key_file]);
        if cert && rows.url.ends_with("sslmode=disable") {
            r.fault("central.rows.url", "is without TLS although a certificate is given: leave sslmode out");
        }
        rows
    }
}

impl Sync {
    pub(crate) fn read(r: &mut Reader) -> Self {
        // Below a thousand bytes per second a picture takes hours.
        const BANDWIDTH: std::ops::RangeInclusive<u64> = 1000..=1_000_000_000;
        let second = Duration::from_secs(1);
        let sync = Self {
            batch_events: r.integer("sync.batch_events", 5000, 1..=10_000, "events") as usize,
            bandwidth_bytes_per_second: r.whole(
                "sync.bandwidth_bytes_per_second",
                Otherwise::Unset,
                BANDWIDTH,
                "bytes per second",
            ),
            media_hours: r.hours("sync.media_hours"),
            retry_min: r.duration("sync.retry_min", second, second / 10..=3600 * second),
            retry_max: r.duration("sync.retry_max", 300 * second, second..=86_400 * second),
        };
        if sync.retry_max < sync.retry_min {
            r.fault("sync.retry_max", "must not be shorter than sync.retry_min");
        }
        sync
    }
}

impl Keys {
    pub(crate) fn read(r: &mut Reader) -> Self {
        Self { root_key_file: r.optional_path("keys.root_key_file") }
    }
}

impl Control {
    pub(crate) fn read(r: &mut Reader) -> Self {
        let control = Self { socket: r.path("control.socket", "/run/gatehouse/control.sock") };
        if control.socket.as_os_str().len() > SOCKET_BYTES_MAX {
            r.fault(
                "control.socket",
                format!("is longer than {SOCKET_BYTES_MAX} bytes, the most for a Unix socket"),
            );
        }
        control
    }
}

impl Sources {
    pub(crate) fn read(r: &mut Reader) -> Self {
        Self {
            events_per_second: r.integer("sources.events_per_second", 100, 1..=100_000, "events per second"),
            burst: r.integer("sources.burst", 10_000, 1..=1_000_000, "events"),
            max_faces: r.integer("sources.max_faces", 16, 1..=64, "faces") as usize,
        }
    }
}

fn filled(text: &str) -> Result<(), String> {
    if text.trim().is_empty() { Err("is empty: write it or remove the key".to_owned()) } else { Ok(()) }
}

fn bounded(text: &str, bytes: usize) -> Result<(), String> {
    if text.len() > bytes || text.chars().any(char::is_control) {
        return Err(format!("must be at most {bytes} bytes without line ends and control characters"));
    }
    Ok(())
}

/// Whether a text can be the id of an appliance.
///
/// # Errors
/// What it must be, in words.
pub fn device_id(text: &str) -> Result<(), String> {
    name(text, DEVICE_BYTES_MAX)
}

fn name(text: &str, bytes: usize) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if text.is_empty() || text.len() > bytes || !text.chars().all(allowed) {
        return Err(format!("must be 1 to {bytes} of A-Z a-z 0-9 _ -"));
    }
    Ok(())
}

fn topic(text: &str) -> Result<(), String> {
    let level = |level: &str| {
        !level.is_empty() && !level.contains(['+', '#']) && !level.chars().any(char::is_control)
    };
    if text.len() > 128 || text.starts_with('$') || !text.split('/').all(level) {
        return Err("must be at most 128 bytes of topic levels, without + # $ and empty levels".to_owned());
    }
    Ok(())
}

fn bucket(text: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if !(3..=63).contains(&text.len()) || !text.chars().all(allowed) || text.contains("..") {
        return Err("must be 3 to 63 of a-z 0-9 . -".to_owned());
    }
    if edge(text.chars().next()) && edge(text.chars().last()) {
        return Ok(());
    }
    Err("must begin and end with one of a-z 0-9".to_owned())
}

/// A key and whether it is set.
struct Given {
    key: &'static str,
    is_set: bool,
}

/// Two keys of which each needs the other.
fn together(r: &mut Reader, keys: &[Given; 2]) {
    let [first, second] = keys;
    for (one, other) in [(first, second), (second, first)] {
        if one.is_set && !other.is_set {
            r.fault(one.key, format!("needs {}, too", other.key));
        }
    }
}

fn rows_url(url: &str) -> Result<(), String> {
    let endpoint = Endpoint::parse(url)?;
    if !endpoint.scheme.starts_with("postgres") {
        return Err(format!("begins with {}://: write postgres://", endpoint.scheme));
    }
    if endpoint.user.is_none() || endpoint.path.is_empty() || endpoint.path.contains('/') {
        return Err("must name user and database: postgres://user@host:port/database".to_owned());
    }
    let modes = ["", "sslmode=disable", "sslmode=prefer", "sslmode=require"];
    if !modes.contains(&endpoint.query.as_str()) {
        return Err("has a query other than sslmode=disable, sslmode=prefer or sslmode=require".to_owned());
    }
    Ok(())
}
