//! The cost of a backlog: memory and flash while it grows, and the start after a kill -9.
//!
//! Each step is a process of its own: memory that one gave back would hide what the next one takes, and a process that
//! is killed closes nothing.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gatehouse_gallery::{Encoding, GallerySettings};
use gatehouse_model::{CameraName, Event, EventKey, Metric, Timestamp};
use gatehouse_store::store::{ProbeFace, Store, StoreSettings};
use gatehouse_testkit::folder::Folder;
use gatehouse_testkit::synthetic::{DIMENSIONS, people};
use gatehouse_vault::keys::RootKey;
use serde_json::{Value, json};

use super::identify::resident_bytes;
use super::table::Table;

/// Events that are pending when the appliance starts.
const BACKLOGS: [u64; 5] = [0, 10_000, 100_000, 1_000_000, 5_000_000];
/// The largest of them that is measured unless all are asked for.
const QUICK_MAX: u64 = 100_000;
/// Enrolled people, and encodings of each: ten thousand templates.
const PEOPLE: usize = 2_000;
const SAMPLES: usize = 5;
/// Events on their way to the journal at once.
const WINDOW: u64 = 128;
/// Attributes that bring an event to about 500 bytes as a camera sends it without its encoding.
const ATTRIBUTES: usize = 350;

/// What a process of its own does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Step {
    /// Enrolls people, stores events, prints its memory, and waits to be killed.
    Fill,
    /// Opens what the killed process left, and prints time and memory.
    Open,
}

/// Measures all sizes.
///
/// # Errors
/// If a step fails.
pub fn run(full: bool) -> Result<Table> {
    let mut table = Table::new(
        "A backlog, 10,000 templates: what it takes, and the start over it after kill -9 (lower is better)",
        &[
            "pending",
            "MB resident while filled",
            "journal B/event",
            "index B/event",
            "views B/event",
            "start s",
            "MB resident after",
        ],
    );
    for pending in BACKLOGS.into_iter().filter(|pending| full || *pending <= QUICK_MAX) {
        let folder = Folder::new("backlog")?;
        let mut fill = step(Step::Fill, folder.path(), pending).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(fill.stdout.take().context("no output")?).read_line(&mut line)?;
        fill.kill()?;
        fill.wait()?;
        let filled: Value = serde_json::from_str(&line).context("the filling process failed")?;
        let per_event = |part: &str| -> Result<f64> {
            Ok(bytes_in(&folder.path().join("state").join(part))? as f64 / pending.max(1) as f64)
        };
        let (journal, index, views) = (per_event("journal")?, per_event("index")?, per_event("views")?);
        let output = step(Step::Open, folder.path(), pending).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "the start failed");
        let opened: Value = serde_json::from_slice(&output.stdout)?;
        let of_events = |bytes: f64| if pending == 0 { Value::Null } else { json!(bytes) };
        table.rows.push(vec![
            json!(pending),
            filled["resident"].clone(),
            of_events(journal),
            of_events(index),
            of_events(views),
            opened["seconds"].clone(),
            opened["resident"].clone(),
        ]);
    }
    table.notes = vec![
        "start: from opening the state directory to the first answer; READY is reported then".to_owned(),
        "journal, index and views: of everything in them, the people included".to_owned(),
    ];
    Ok(table)
}

fn step(step: Step, folder: &Path, events: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "gatehouse-bench".into()));
    let step = if step == Step::Fill { "fill" } else { "open" };
    command.args(["backlog", "--step", step, "--events", &events.to_string(), "--folder"]).arg(folder);
    command
}

/// Does one step, for [`run`], in a process of its own.
///
/// # Errors
/// If the disk fails.
pub async fn one_step(step: Step, folder: &Path, events: u64) -> Result<Value> {
    let begin = Instant::now();
    let (store, probe) = (open(folder)?, encodings(PEOPLE)?);
    if step == Step::Open {
        let answer = store.galleries.identify(&CameraName::try_from("bench")?, &faces(&probe[0]));
        ensure!(answer.gallery_size as usize == PEOPLE, "people are missing after a start");
        ensure!(store.feed.watch().borrow().seq >= events, "events are missing after a start");
        return Ok(
            json!({ "seconds": begin.elapsed().as_secs_f64(), "resident": resident_bytes() as f64 / 1e6 }),
        );
    }
    for (number, samples) in encodings(PEOPLE * SAMPLES)?.chunks(SAMPLES).enumerate() {
        store.people.enroll(&format!("p{number}"), "Person", samples.to_vec()).await?;
    }
    fill(&store, &probe, events).await?;
    Ok(json!({ "resident": resident_bytes() as f64 / 1e6 }))
}

fn faces(encoding: &Encoding) -> [ProbeFace; 1] {
    [ProbeFace { encoding: encoding.clone(), quality: Some(0.9) }]
}

/// Stores so many visits.
pub(super) async fn fill(store: &Store, probe: &[Encoding], events: u64) -> Result<()> {
    let camera = CameraName::try_from("bench")?;
    let attributes = format!("{{\"note\":\"{}\"}}", "x".repeat(ATTRIBUTES));
    for first in (0..events).step_by(WINDOW as usize) {
        let mut flying = Vec::new();
        for number in first..events.min(first + WINDOW) {
            let event = Event {
                key: EventKey { camera: camera.clone(), id: number.to_string().as_str().try_into()? },
                kind: "face".into(),
                occurred_at: None,
                received_at: Timestamp::now(),
                media: Vec::new(),
                attributes: attributes.clone(),
            };
            let answer = store.galleries.identify(&camera, &faces(&probe[number as usize % probe.len()]));
            flying.push(store.events.record(event, answer).await?);
        }
        for pending in flying {
            pending.await?;
        }
    }
    Ok(())
}

/// Opens the state below `folder`, with the root key in the same folder. A missing key is made.
pub(super) fn open(folder: &Path) -> Result<Store> {
    let file = folder.join("root.key");
    let root = if file.exists() { RootKey::read(&file)? } else { RootKey::create(&file)? };
    let gallery = GallerySettings {
        model: "dlib-resnet-v1".to_owned(),
        dimensions: DIMENSIONS,
        metric: Metric::Euclidean,
        normalised: false,
        threshold: 0.42,
        camera_thresholds: std::collections::HashMap::new(),
        minimum_quality: 0.0,
        exact_limit: usize::MAX,
    };
    let settings = StoreSettings {
        directory: folder.join("state"),
        gallery,
        media_quota_bytes: 1 << 30,
        reserve_free_bytes: 0,
        orphan_media: Duration::from_secs(3600),
        central_rows: true,
    };
    Ok(Store::open(settings, &root)?.0)
}

/// So many encodings of the same people.
pub(super) fn encodings(count: usize) -> Result<Vec<Encoding>> {
    let mut random = fastrand::Rng::with_seed(1);
    let people = people(1, PEOPLE);
    let samples = people.iter().cycle().take(count).map(|person| person.sample(&mut random));
    samples.map(|sample| Encoding::new(sample, DIMENSIONS).context("an encoding")).collect()
}

fn bytes_in(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() { bytes_in(&entry.path())? } else { about.len() };
    }
    Ok(bytes)
}
