//! Hand-made changes, and a prepared database.
#![allow(dead_code, reason = "the tests of each crate use a part of it")]

use gatehouse_admin as central;
use gatehouse_admin::SignIn;
use gatehouse_central::SyncError;
use gatehouse_central::rows::Identity;
use gatehouse_config::{Config, Environment, Rows, Secret};
use gatehouse_journal::Position;
use gatehouse_model::{Event, EventKey, Face, Identification, KeyId, OrderId, Outcome, Person, Timestamp};
use gatehouse_store::Store;
use gatehouse_store::clock::Known;
use gatehouse_store::record::{Media, ObjectPlace};
use gatehouse_store::store::Change;
use gatehouse_sync::rows::Writer;
use gatehouse_testkit::postgres::{Database, PASSWORD, Postgres};
use tempfile::TempDir;

/// 2026-11-20T10:00:00Z in microseconds.
pub(crate) const NOON: i64 = 1_795_168_800_000_000;
pub(crate) const HOUR: i64 = 3_600_000_000;
pub(crate) const DAY: i64 = 24 * HOUR;

/// The password of every enrolled device.
pub(crate) const DEVICE_PASSWORD: &str = "of-the-device";

/// A database with the schema, marked `dev`.
pub(crate) struct Bed {
    pub(crate) database: Database,
    pub(crate) folder: TempDir,
}

impl Bed {
    pub(crate) async fn new(name: &str) -> Self {
        let bed = Self::empty(name).await;
        central::init(&bed.config("dev")).await.unwrap();
        bed
    }

    /// Without a schema.
    pub(crate) async fn empty(name: &str) -> Self {
        Self::on(Postgres::shared().unwrap(), name).await
    }

    /// On a server of the test's own.
    pub(crate) async fn on(server: &Postgres, name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), PASSWORD).unwrap();
        Self { database: server.create_database(name).await.unwrap(), folder }
    }

    pub(crate) fn config(&self, environment: &str) -> Config {
        self.config_at(self.database.port, environment)
    }

    pub(crate) fn config_at(&self, port: u16, environment: &str) -> Config {
        let text = format!(
            "[device]\nid = \"edge-1\"\nenvironment = \"{environment}\"\n\
             [central.rows]\nurl = \"{}\"\npassword_file = \"{}\"\n",
            self.database.url_at(port),
            self.folder.path().join("password").display()
        );
        Config::from_text(&text).unwrap()
    }

    pub(crate) fn rows(&self) -> Rows {
        self.rows_at(self.database.port)
    }

    pub(crate) fn rows_at(&self, port: u16) -> Rows {
        Rows {
            url: self.database.url_at(port),
            password_file: Some(self.folder.path().join("password")),
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }

    /// The settings of a device with a role of its own.
    pub(crate) async fn enrolled(&self, device: &str) -> Rows {
        let password = Secret::new(DEVICE_PASSWORD.into());
        let role =
            central::enroll(&self.config("dev"), device, SignIn::Password(&password)).await.unwrap().role;
        let password_file = self.folder.path().join(device);
        std::fs::write(&password_file, DEVICE_PASSWORD).unwrap();
        let url = self.database.url().replace("//postgres@", &format!("//{role}@"));
        Rows { url, password_file: Some(password_file), ca_file: None, cert_file: None, key_file: None }
    }

    /// The role with which a device signs in.
    pub(crate) async fn role(&self, device: &str) -> String {
        self.text(&format!("select role_name from gatehouse.devices where device_id = '{device}'")).await
    }

    pub(crate) async fn writer(&self, device: &str) -> Writer {
        Writer::open(&self.rows(), identity(device)).await.unwrap()
    }

    /// The writer of `edge-1` with this state directory.
    pub(crate) async fn writer_of(&self, store: &Store) -> Writer {
        let identity = Identity { state_id: store.feed.state_id().to_owned(), ..identity("edge-1") };
        Writer::open(&self.rows(), identity).await.unwrap()
    }

    pub(crate) async fn count(&self, query: &str) -> i64 {
        self.database.connect().await.unwrap().query_one(query, &[]).await.unwrap().get(0)
    }

    pub(crate) async fn text(&self, query: &str) -> String {
        self.database.connect().await.unwrap().query_one(query, &[]).await.unwrap().get(0)
    }

    /// Whether the rows of every device are 1, 2, 3, ... up to `events` each.
    pub(crate) async fn assert_whole(&self, device: &str, events: i64) {
        let client = self.database.connect().await.unwrap();
        let query = "select whole, events, missing from gatehouse.completeness where device_id = $1";
        let row = client.query_one(query, &[&device]).await.unwrap();
        assert_eq!((row.get(0), row.get::<_, i64>(1), row.get::<_, i64>(2)), (true, events, 0));
    }
}

pub(crate) fn identity(device: &str) -> Identity {
    Identity {
        device: device.into(),
        site: "house \0 1".into(),
        environment: Environment::Dev,
        state_id: format!("state of {device}"),
    }
}

pub(crate) fn at(lsn: u64, seq: u64) -> Position {
    Position { lsn, seq }
}

pub(crate) fn key(id: &str) -> EventKey {
    EventKey { camera: "door".try_into().unwrap(), id: id.try_into().unwrap() }
}

pub(crate) fn event(lsn: u64, seq: u64) -> Change {
    let event = Event {
        key: key(&format!("e{seq}")),
        kind: "face".into(),
        occurred_at: Some(Timestamp(NOON)),
        received_at: Timestamp(NOON + i64::try_from(seq).unwrap()),
        media: Vec::new(),
        attributes: r#"{"zone":"porch","note":"ö"}"#.into(),
    };
    let answer =
        Identification { gallery_size: 3, model: "dlib-128".into(), faces: vec![face(None)], effort: None };
    let time = Known::unsure(event.received_at);
    Change::Event { position: at(lsn, seq), event, identification: answer, time }
}

pub(crate) fn events(range: std::ops::RangeInclusive<u64>) -> Vec<Change> {
    range.map(|n| event(n, n)).collect()
}

/// The same event, changed.
pub(crate) fn but(mut change: Change, f: impl FnOnce(&mut Event, &mut Identification<Person>)) -> Change {
    if let Change::Event { event, identification, time, .. } = &mut change {
        f(event, identification);
        *time = Known::unsure(event.received_at);
    }
    change
}

/// The same event, of a person who was recognised.
pub(crate) fn named(change: Change, person: &str) -> Change {
    but(change, |_, answer| answer.faces = vec![face(Some(person))])
}

pub(crate) fn face(person: Option<&str>) -> Face<Person> {
    Face {
        outcome: if person.is_some() { Outcome::Match } else { Outcome::Stranger },
        person: person.map(|id| Person { id: id.into(), name: format!("Name of {id}") }),
        distance: Some(0.3),
        threshold: 0.42,
        margin: Some(0.2),
        quality: None,
    }
}

pub(crate) fn file(lsn: u64, seq: u64, name: &str) -> Change {
    file_of("edge-1", lsn, seq, name)
}

pub(crate) fn file_of(device: &str, lsn: u64, seq: u64, name: &str) -> Change {
    Change::File {
        position: at(lsn, seq),
        media: Media {
            id: KeyId::from_bytes([u8::try_from(lsn).unwrap(); 16]),
            event: key("e1"),
            name: name.try_into().unwrap(),
            size: 1234,
            sha256: [7; 32],
            received_at: Timestamp(NOON),
        },
        place: ObjectPlace { bucket: "gatehouse-dev".into(), key: format!("devices/{device}/{name}") },
        content_type: "image/jpeg",
        fault: None,
    }
}

pub(crate) fn erasure(lsn: u64, seq: u64, person: &str) -> Change {
    Change::Erasure {
        position: at(lsn, seq),
        order: OrderId::random(),
        person_id: person.into(),
        reference: None,
        at: Timestamp(NOON),
    }
}

/// Delivers all, as the sink does; words of what was set aside.
pub(crate) async fn deliver_all(writer: &mut Writer, changes: &[Change]) -> Result<Vec<String>, SyncError> {
    let (mut rest, mut notes) = (changes, Vec::new());
    while !rest.is_empty() {
        let delivered = writer.deliver(rest).await?;
        assert!(delivered.taken > 0, "every delivery takes something");
        rest = &rest[delivered.taken..];
        notes.extend(delivered.set_aside);
    }
    Ok(notes)
}
