//! A setup whose connection to the central services can fail, and the messages of its camera.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context, Result};
use fastrand::Rng;
use gatehouse_testkit::camera::{Camera, Receipt, all_taken};
use gatehouse_testkit::postgres::Postgres;
use gatehouse_testkit::proxy::Proxy;
use gatehouse_testkit::synthetic::{EventMessage, people};
use gatehouse_testkit::wait;

use crate::faults::Outcome;
use crate::setup::{BUCKET, Setup};

/// For all that waits to arrive once nothing is wrong any more.
const TIMEOUT: Duration = Duration::from_secs(180);
/// Bytes of a picture.
const PICTURE: usize = 20_000;
/// Bytes of a clip, which leaves in two parts.
const CLIP: usize = 6 * 1024 * 1024;
/// Back-off in milliseconds instead of minutes, and no limit to what a camera may send.
const SYNC: &str = "retry_min = \"100ms\"\nretry_max = \"1s\"\n";
const SOURCES: &str = "events_per_second = 10000\nburst = 10000\n";

/// What comes with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Nothing.
    Event,
    /// A small file.
    Picture,
    /// A file of several parts.
    Clip,
}

/// An event that the broker took.
struct Sent {
    id: String,
    file: Option<File>,
}

/// A file that can be made again.
struct File {
    seed: u64,
    bytes: usize,
}

impl File {
    fn content(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes];
        Rng::with_seed(self.seed).fill(&mut bytes);
        bytes
    }
}

/// Setup, the proxies before its central side, and its camera.
pub(crate) struct Site {
    pub(crate) setup: Setup,
    pub(crate) rows_line: Proxy,
    /// Takes the place of the first database server.
    pub(crate) standby: Option<Postgres>,
    camera: Camera,
    face: Vec<f32>,
    random: Rng,
    sent: Vec<Sent>,
    /// How many of these were found to have arrived.
    counted: usize,
}

impl Site {
    pub(crate) async fn build(seed: u64) -> Result<Self> {
        let settings = [("sync", SYNC), ("sources", SOURCES)];
        let settings = settings.map(|(section, lines)| (section.to_owned(), lines.to_owned()));
        let mut setup = Setup::build(BTreeMap::from(settings)).await?;
        let rows_line = Proxy::start(setup.postgres.port())?;
        let url = setup.database.url_at(rows_line.port());
        setup.daemon.reconfigure(|options| {
            options.rows_url = Some(url);
            // A name server that is away is given up soon.
            options.environment.push(("RES_OPTIONS".into(), "timeout:1 attempts:1".into()));
        })?;
        setup.start()?;
        let camera = Camera::connect("site", &setup.address());
        let mut random = Rng::with_seed(seed);
        let face = people(seed, 1)[0].sample(&mut random);
        Ok(Self { setup, rows_line, standby: None, camera, face, random, sent: Vec::new(), counted: 0 })
    }

    /// Lets the camera send an event, and a file with it; the receipts show when the broker has them.
    pub(crate) fn send(&mut self, load: Load) -> Vec<Receipt> {
        let id = format!("visit-{}", self.sent.len());
        let bytes = match load {
            Load::Event => None,
            Load::Picture => Some(PICTURE),
            Load::Clip => Some(CLIP),
        };
        let file = bytes.map(|bytes| File { seed: self.random.u64(..), bytes });
        let media = file.iter().map(|_| "a.bin".to_owned()).collect();
        let event = EventMessage { media, ..EventMessage::face(&id, self.face.clone()) };
        let mut receipts = vec![self.camera.send("gatehouse/site/event", event.payload(), false)];
        if let Some(file) = &file {
            let topic = format!("gatehouse/site/media/{id}/a.bin");
            receipts.push(self.camera.send(&topic, file.content(), false));
        }
        self.sent.push(Sent { id, file });
        receipts
    }

    /// The same, so many times, and waits until the broker has everything.
    pub(crate) async fn send_all(&mut self, load: Load, times: usize) -> Result<()> {
        let receipts = (0..times).flat_map(|_| self.send(load)).collect();
        all_taken(receipts, TIMEOUT).await
    }

    /// Messages that the broker has not taken yet.
    pub(crate) fn waiting(&self) -> usize {
        self.camera.waiting()
    }

    /// What `gatehouse sync status` says of a sink, without the numbers.
    pub(crate) fn says(&self, sink: &str) -> String {
        let output =
            self.setup.daemon.cli(&["sync", "status"]).map(|answer| answer.stdout).unwrap_or_default();
        let line = output.lines().find_map(|line| line.strip_prefix(sink)?.strip_prefix(": "));
        line.unwrap_or_default().to_owned()
    }

    /// Waits until everything has arrived, and counts what has not, what is there twice, and what differs.
    pub(crate) async fn count(&mut self, outcome: &mut Outcome) -> Result<()> {
        while self.waiting() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (events, files) = (self.sent.len() as u64, self.files(0).count() as u64);
        let ledger = self.setup.until_ledger("everything to be delivered", TIMEOUT, |ledger| {
            let delivered = |column| ledger.number(column, "delivered");
            delivered("events") >= events && delivered("files") >= files
        });
        match ledger {
            Ok(ledger) if ledger.adds_up() && ledger.number("events", "pending") == 0 => {}
            Ok(ledger) => outcome.lost(1, &format!("the ledger does not add up: {:#}", ledger.0)),
            Err(error) => outcome.lost(1, &format!("{error:#}")),
        }
        self.count_rows(files, outcome).await?;
        self.count_objects(outcome).await?;
        let quiet = || async { self.says("database").is_empty() && self.says("objects").is_empty() };
        if wait::until_async("no complaint any more", TIMEOUT, quiet).await.is_err() {
            let (rows, objects) = (self.says("database"), self.says("objects"));
            outcome.unsaid(&format!("all has arrived, and the status says: {rows}; {objects}"));
        }
        outcome.acknowledged +=
            self.sent[self.counted..].len() as u64 + self.files(self.counted).count() as u64;
        self.counted = self.sent.len();
        Ok(())
    }

    fn files(&self, from: usize) -> impl Iterator<Item = (&str, &File)> {
        self.sent[from..].iter().filter_map(|sent| Some((sent.id.as_str(), sent.file.as_ref()?)))
    }

    async fn count_rows(&self, files: u64, outcome: &mut Outcome) -> Result<()> {
        let client = self.setup.database.ready().await?;
        let query = "select event_id, count(*), count(distinct seq) from gatehouse.events group by 1";
        let rows = client.query(query, &[]).await?;
        let rows: HashMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        for sent in self.sent.iter().filter(|sent| !rows.contains_key(&sent.id)) {
            outcome.lost(1, &format!("no row of {}", sent.id));
        }
        outcome.doubles += rows.values().map(|count| count.unsigned_abs() - 1).sum::<u64>();
        let query = "select count(*) - count(distinct seq), bool_and(whole) from gatehouse.events, \
                     gatehouse.completeness";
        let row = client.query_one(query, &[]).await?;
        outcome.doubles += row.get::<_, i64>(0).unsigned_abs();
        if row.get::<_, Option<bool>>(1) == Some(false) {
            outcome.lost(1, "the database has a hole");
        }
        // The row of a file follows its object.
        let query = "select count(*) from gatehouse.files";
        let arrived = || async {
            let row = client.query_one(query, &[]).await;
            row.is_ok_and(|row| row.get::<_, i64>(0).unsigned_abs() == files)
        };
        if wait::until_async("the rows of the files", TIMEOUT, arrived).await.is_err() {
            outcome.lost(1, "files without a row, or rows without a file");
        }
        Ok(())
    }

    async fn count_objects(&self, outcome: &mut Outcome) -> Result<()> {
        let looker = self.setup.s3.objects();
        let keys = looker.list(BUCKET, "devices/").await.context("the bucket")?;
        let key = |id: &str| keys.iter().find(|key| key.ends_with(&format!("/site/{id}/a.bin")));
        for (id, file) in self.files(self.counted) {
            let same = match key(id) {
                Some(key) => looker.get(BUCKET, key).await.is_ok_and(|bytes| bytes == file.content()),
                None => false,
            };
            if !same {
                outcome.lost(1, &format!("the object of {id} is not there as it was sent"));
            }
        }
        let others = keys.len() - self.files(0).filter(|(id, _)| key(id).is_some()).count();
        outcome.doubles += others as u64;
        Ok(())
    }
}
