//! Nothing of an erased person is left: not on the appliance, not in the database, not in any version of an object.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gatehouse_admin as central;
use gatehouse_admin::delete::purge;
use gatehouse_admin::receipt::{Receipts, Which, signer};
use gatehouse_config::Config;
use gatehouse_gallery::{Encoding, GallerySettings};
use gatehouse_model::{Event, Metric, SinkState, Timestamp};
use gatehouse_receipt::{Bundle, Check, PlaceState};
use gatehouse_store::Store;
use gatehouse_store::deployment::DeploymentKey;
use gatehouse_store::store::{OrderedBy, ProbeFace, StoreSettings};
use gatehouse_sync::Sync;
use gatehouse_testkit::minio::Minio;
use gatehouse_testkit::postgres::{PASSWORD, SUPERUSER, installation};
use gatehouse_testkit::{jpeg, wait};
use gatehouse_vault::keys::RootKey;

use crate::files::{BUCKET, settings};
use crate::support::{Bed, key};

const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
const ID: &str = "needle-of-the-id";
const NAME: &str = "Needle of the Name";
const ATTRIBUTES: &str = "needle of the attributes";
const COMMENT: &str = "needle of the comment";

fn open(directory: &Path) -> Store {
    let gallery = GallerySettings {
        model: "dlib-128".into(),
        dimensions: 128,
        metric: Metric::Euclidean,
        normalised: false,
        threshold: 0.42,
        camera_thresholds: Default::default(),
        minimum_quality: 0.0,
        exact_limit: 10_000,
    };
    let settings = StoreSettings {
        directory: directory.to_owned(),
        gallery,
        media_quota_bytes: 10 << 20,
        reserve_free_bytes: 0,
        orphan_media: Duration::from_secs(3600),
        central_rows: true,
    };
    Store::open(settings, &RootKey::from_bytes([7; 32])).unwrap().0
}

fn encoding(of: usize) -> Encoding {
    let mut values = vec![0.0; 128];
    values[of] = 1.4;
    Encoding::new(values, 128).unwrap()
}

/// A picture with a comment segment (JPEG, ITU-T T.81, B.2.4.5).
fn picture(comment: &str) -> Vec<u8> {
    let mut bytes = jpeg::jpeg(1, 640, 480).unwrap();
    let length = u16::try_from(comment.len() + 2).unwrap().to_be_bytes();
    let segment = [&[0xff, 0xfe], length.as_slice(), comment.as_bytes()].concat();
    bytes.splice(2..2, segment);
    bytes
}

async fn visit(store: &Store, id: &str, of: usize, note: &str) {
    let event = Event {
        key: key(id),
        kind: "face".into(),
        occurred_at: None,
        received_at: Timestamp::now(),
        media: Vec::new(),
        attributes: format!("{{\"note\":\"{note}\"}}"),
    };
    let face = ProbeFace { encoding: encoding(of), quality: None };
    let answer = store.galleries.identify(&event.key.camera, &[face]);
    store.events.record(event, answer).await.unwrap().await.unwrap();
    store.media.put(key(id), "face.jpg".try_into().unwrap(), picture(note)).await.unwrap();
}

async fn settled(sync: &Sync) {
    wait::until_async("all to be delivered", WAIT_TIMEOUT, || async {
        sync.now(WAIT_TIMEOUT).await;
        let status = sync.status().await.unwrap();
        let delivered = status.sinks.iter().filter(|sink| sink.configured);
        delivered
            .into_iter()
            .all(|sink| sink.state == SinkState::Idle && sink.pending == 0 && sink.error.is_none())
    })
    .await
    .unwrap();
}

fn dump(bed: &Bed) -> Vec<u8> {
    let program = installation().unwrap().join("bin/pg_dump");
    let output = Command::new(program)
        .args(["--host=127.0.0.1", "--username", SUPERUSER, "--dbname", &bed.database.name])
        .arg(format!("--port={}", bed.database.port))
        .env("PGPASSWORD", PASSWORD)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|part| part == needle.as_bytes())
}

/// Files below a folder that contain a text.
fn found_in(folder: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(found_in(&path, needle));
        } else if std::fs::read(&path).is_ok_and(|bytes| contains(&bytes, needle)) {
            found.push(path.display().to_string());
        }
    }
    found
}

async fn receipt(config: &Config) -> Bundle {
    let key = signer(config, "7c".repeat(32).as_bytes()).unwrap();
    Receipts::open(config).await.unwrap().issue(Which::Person(ID), &key).await.unwrap()
}

fn of_objects(receipt: &Bundle) -> PlaceState {
    let mut places = receipt.cover().places.iter();
    *places.find(|(place, _)| place.is_objects()).unwrap().1
}

fn with_people(config: Config, bed: &Bed, secret: &str) -> Config {
    let file = bed.folder.path().join("deployment-key");
    std::fs::write(&file, secret).unwrap();
    let mut config = config;
    config.central.people.key_file = Some(file);
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_of_an_erased_person_is_left_anywhere() {
    let Some(minio) = Minio::start_if_present().unwrap() else { return };
    let (bed, server) = (Bed::new("erasure").await, minio.objects());
    let secret = DeploymentKey::generate().to_string();
    let config = with_people(settings(&bed, &server, "dev"), &bed, &secret);
    central::init(&config).await.unwrap();
    server.keep_versions(BUCKET).await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path());
    store.people.share(std::sync::Arc::new(DeploymentKey::new(secret.as_bytes()).unwrap()));
    store.people.enroll(ID, NAME, vec![encoding(0)]).await.unwrap();
    store.people.enroll("bert", "Bert", vec![encoding(5)]).await.unwrap();
    let sync = Sync::start(&config, &store);
    visit(&store, "of-her", 0, ATTRIBUTES).await;
    visit(&store, "of-him", 5, "of him").await;
    // The comment is in a picture of its own.
    store.media.put(key("of-her"), "large.jpg".try_into().unwrap(), picture(COMMENT)).await.unwrap();
    settled(&sync).await;
    central::person(&config, ID).await.unwrap();
    // A second version of an object.
    let keys = server.list(BUCKET, "devices/").await.unwrap();
    let large = keys.iter().find(|key| key.ends_with("large.jpg")).unwrap();
    let bytes = server.get(BUCKET, large).await.unwrap();
    server.put(BUCKET, large, bytes).await.unwrap();
    // The search finds what is there.
    for needle in [ID, NAME, ATTRIBUTES] {
        assert!(contains(&dump(&bed), needle), "{needle}");
    }
    assert!(!found_in(minio.files(), COMMENT).is_empty());

    let erased = store.people.erase(ID, OrderedBy::User(0)).await.unwrap();
    assert_eq!((erased.visits, erased.files), (1, 2));
    settled(&sync).await;
    let counts = "select events_scrubbed * 1000 + files_erased from gatehouse.erasures";
    let files = bed.count("select count(*) from gatehouse.files where status = 'erased'").await;
    assert!(files >= 2, "the pictures and their thumbnails");
    assert_eq!(bed.count(counts).await, 1000 + files);
    assert!(matches!(of_objects(&receipt(&config).await), PlaceState::Pending { .. }));
    assert_eq!(purge(&config).await.unwrap().files, u64::try_from(files).unwrap());
    let receipt = receipt(&config).await;
    assert!(matches!(of_objects(&receipt), PlaceState::Done { .. }), "{receipt}");
    let by_objects = receipt.statements().find(|statement| statement.place.is_objects()).unwrap();
    assert_eq!(by_objects.verified.get(&Check::VersionsAbsent), Some(&u64::try_from(files).unwrap()));
    for needle in [ID, NAME, ATTRIBUTES, COMMENT] {
        assert!(!contains(receipt.to_string().as_bytes(), needle), "{needle} on the receipt");
    }
    // The server moves removed objects to a trash folder, which it empties every 5 minutes and when it starts.
    minio.stop().unwrap();
    minio.restart().unwrap();
    for needle in [ID, NAME, ATTRIBUTES, COMMENT] {
        assert!(!contains(&dump(&bed), needle), "{needle} in the database");
        assert_eq!(found_in(state.path(), needle), Vec::<String>::new(), "{needle} on the appliance");
        wait::until("the objects to be removed", WAIT_TIMEOUT, || found_in(minio.files(), needle).is_empty())
            .unwrap();
    }
    let left = server.list(BUCKET, "devices/").await.unwrap();
    assert!(!left.is_empty() && left.iter().all(|key| key.contains("of-him")), "{left:?}");
    sync.stop(WAIT_TIMEOUT).await;
    store.close();
}
