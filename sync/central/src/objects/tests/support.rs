//! An S3 server and a device, for the tests of this crate and of the sinks (`sync/src/objects/tests.rs`).
#![allow(dead_code, reason = "each crate uses a part of it")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_central::objects::{Limits, Objects};
use gatehouse_config::Config;
use gatehouse_gallery::GallerySettings;
use gatehouse_model::{EventKey, Metric, Timestamp};
use gatehouse_store::files::MediaFiles;
use gatehouse_store::record::Media;
use gatehouse_store::store::{MediaTask, Part, StoreSettings};
use gatehouse_testkit::minio::Minio;
use gatehouse_testkit::moto::Moto;
use gatehouse_testkit::objects::Objects as Looker;
use gatehouse_testkit::s3::S3Server;
use gatehouse_vault::keys::{KeyTable, RootKey};

/// The bucket of the tests.
pub(crate) const BUCKET: &str = "gatehouse-dev";

/// A server that keeps objects.
pub(crate) enum Server {
    Here(S3Server),
    Minio(Minio),
    Moto(Moto),
}

impl Server {
    pub(crate) fn looker(&self) -> Looker {
        match self {
            Self::Here(server) => server.objects(),
            Self::Minio(server) => server.objects(),
            Self::Moto(server) => server.objects(),
        }
    }

    pub(crate) fn stop(&self) {
        match self {
            Self::Here(server) => server.stop().unwrap(),
            Self::Minio(server) => server.stop().unwrap(),
            Self::Moto(_) => panic!("moto keeps nothing over a stop"),
        }
    }

    pub(crate) fn restart(&self) {
        match self {
            Self::Here(server) => server.restart().unwrap(),
            Self::Minio(server) => server.restart().unwrap(),
            Self::Moto(_) => panic!("moto keeps nothing over a stop"),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Here(server) => server.port(),
            Self::Minio(server) => server.port(),
            Self::Moto(server) => server.port(),
        }
    }
}

/// Every server there is here.
pub(crate) fn servers() -> Vec<Server> {
    let here = Server::Here(S3Server::start().unwrap());
    let minio = Minio::start_if_present().unwrap().map(Server::Minio);
    [here].into_iter().chain(minio).collect()
}

/// Also moto, where its Python is named: it checks no signatures, forgets all when it stops, and ends each connection
/// after one answer.
pub(crate) fn lenient_servers() -> Vec<Server> {
    let moto = Moto::start_if_present().unwrap().map(Server::Moto);
    servers().into_iter().chain(moto).collect()
}

/// A folder with secrets and sealed files.
pub(crate) struct Device {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) files: MediaFiles,
}

impl Device {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyTable::open(&folder.path().join("keys"), &RootKey::from_bytes([7; 32])).unwrap();
        let (files, _) = MediaFiles::open(&folder.path().join("media"), Arc::new(keys)).unwrap();
        Self { folder, files }
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Settings for a server, with lines added to `[central.objects]`.
    pub(crate) fn config(&self, looker: &Looker, environment: &str, more: &str) -> Config {
        let access = self.write("access", &looker.access_key);
        let secret = self.write("secret", &looker.secret_key);
        let text = format!(
            "[device]\nid = \"gate-7\"\nenvironment = \"{environment}\"\n\
             [media]\nthumbnails = []\n\
             [central.objects]\nendpoint = \"{}\"\naccess_key_file = {access:?}\nsecret_key_file = {secret:?}\n\
             bucket = \"{BUCKET}\"\n{more}",
            looker.endpoint
        );
        Config::from_text(&text).unwrap()
    }

    pub(crate) fn objects(&self, looker: &Looker) -> Objects {
        Objects::open(&self.config(looker, "dev", ""), Limits::default()).unwrap()
    }

    /// A bucket that is ready.
    pub(crate) async fn prepared(&self, looker: &Looker) -> Objects {
        let objects = self.objects(looker);
        objects.make_bucket().await.unwrap();
        objects.make_mark().await.unwrap();
        objects
    }

    /// Seals a file as the store would.
    pub(crate) fn task(&self, name: &str, data: &[u8]) -> MediaTask {
        let stored = self.files.put(data).unwrap();
        let event = EventKey { camera: "front-door".try_into().unwrap(), id: "visit:1".try_into().unwrap() };
        let received_at = Timestamp::parse("2026-11-20T12:00:00Z").unwrap();
        let media = Media {
            id: stored.id,
            event,
            name: name.try_into().unwrap(),
            size: stored.size,
            sha256: stored.sha256,
            received_at,
        };
        MediaTask { media, event_received_at: received_at, content_type: "image/jpeg", part: Part::Whole }
    }
}

/// A store's, below the folder of a device.
pub(crate) fn settings(device: &Device) -> StoreSettings {
    StoreSettings {
        directory: device.folder.path().join("state"),
        gallery: GallerySettings {
            model: "test".into(),
            dimensions: 4,
            metric: Metric::Euclidean,
            normalised: false,
            threshold: 0.4,
            camera_thresholds: Default::default(),
            minimum_quality: 0.0,
            exact_limit: 100,
        },
        media_quota_bytes: 1 << 30,
        reserve_free_bytes: 0,
        orphan_media: Duration::from_secs(3600),
        central_rows: false,
    }
}

/// Bytes that differ everywhere.
pub(crate) fn content(size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(size as u64);
    let mut bytes = vec![0; size];
    random.fill(&mut bytes);
    bytes
}

/// A time that is short for a person and long for a server on this machine.
pub(crate) const SHORT_TIMEOUT: Duration = Duration::from_millis(500);
