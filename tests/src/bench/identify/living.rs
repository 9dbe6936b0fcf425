//! A gallery that changes while it is searched: what enrollments and a rebuild cost concurrent searches, and how soon a
//! store with many people answers.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gatehouse_gallery::{Encoding, Gallery};
use gatehouse_model::{CameraName, KeyId};
use gatehouse_store::Store;
use gatehouse_store::store::ProbeFace;
use gatehouse_store::store::StoreSettings;
use gatehouse_testkit::folder::Folder;
use gatehouse_vault::keys::RootKey;
use serde_json::{Value, json};

use super::crowd::Crowd;
use super::{INDEX_TIMEOUT, SAMPLES, Times, percentiles, resident_bytes, settings, timed};
use crate::bench::table::Table;

const DIMENSIONS: usize = 128;
/// Templates in the gallery while people are enrolled and erased.
const MANY: usize = 100_000;
/// Templates of a rebuilt graph: enough for some seconds.
const SOME: usize = 20_000;
/// Probes per measurement.
const PROBES: usize = 2_000;
/// From one enrollment to the next: a thousand people per second.
const PAUSE: Duration = Duration::from_millis(1);
/// Samples per person where the start is measured: as many as a person may have.
const SAMPLES_AT_START: usize = 32;

/// Measures all of it.
///
/// # Errors
/// If the disk fails or a graph is not built in time.
pub fn run(runtime: &tokio::runtime::Runtime) -> Result<Table> {
    let mut table = Table::new(
        "A gallery that changes, 128 dimensions (lower is better)",
        &["what", "templates", "p50 us", "p99 us", "of alone", "bytes/template more", "seconds"],
    );
    during_enrollments(&mut table)?;
    during_a_rebuild(&mut table)?;
    start(runtime, &mut table)?;
    table.notes = vec![
        "people come and go: one with five samples is enrolled and one erased every millisecond, by another thread".into(),
        "rebuild: a person was erased, and another thread rebuilds the graph while the old one is searched".into(),
        "start: from opening a state directory of people with 32 samples each to the first answer".into(),
    ];
    Ok(table)
}

fn line(what: &str, templates: usize, times: Times, alone: f64, more: Option<f64>) -> Vec<Value> {
    vec![
        json!(what),
        json!(templates),
        json!(times.p50),
        json!(times.p99),
        json!(times.p50 / alone),
        json!(more),
        Value::Null,
    ]
}

/// A filled gallery at rest, with probes for it.
fn filled(templates: usize, exact_limit: usize, crowd: &mut Crowd) -> Result<(Gallery, Vec<Encoding>)> {
    let gallery = Gallery::new(settings(DIMENSIONS, exact_limit));
    let mut probes = Vec::new();
    for number in 0..templates / SAMPLES {
        let person = crowd.person();
        gallery.add(KeyId::random(), &samples(crowd, &person, SAMPLES)?);
        if number % (templates / SAMPLES / PROBES).max(1) == 0 {
            probes.extend(samples(crowd, &person, 1)?);
        }
    }
    settle(&gallery)?;
    Ok((gallery, probes))
}

fn samples(crowd: &mut Crowd, person: &[f32], count: usize) -> Result<Vec<Encoding>> {
    let samples = (0..count).map(|_| Encoding::new(crowd.sample(person), DIMENSIONS));
    samples.collect::<Result<_, _>>().context("a synthetic encoding is none")
}

fn settle(gallery: &Gallery) -> Result<()> {
    let begin = Instant::now();
    while !gallery.is_indexed() {
        ensure!(begin.elapsed() < INDEX_TIMEOUT, "the index does not come to rest");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn door() -> Result<CameraName> {
    CameraName::try_from("bench").context("a camera name")
}

fn during_enrollments(table: &mut Table) -> Result<()> {
    let mut crowd = Crowd::new(DIMENSIONS, 1);
    let (gallery, probes) = filled(MANY, usize::MAX, &mut crowd)?;
    let camera = door()?;
    let ask = |probe: &Encoding| gallery.identify(&camera, probe, None);
    let (alone, _) = timed(&probes, ask);
    let people: Result<Vec<_>> = (0..100)
        .map(|_| {
            let person = crowd.person();
            samples(&mut crowd, &person, SAMPLES)
        })
        .collect();
    let people = people?;
    let is_over = AtomicBool::new(false);
    let (during_changes, _) = std::thread::scope(|scope| {
        scope.spawn(|| {
            for person in people.iter().cycle() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let key = KeyId::random();
                gallery.add(key, person);
                std::thread::sleep(PAUSE);
                gallery.remove(&key);
            }
        });
        let times = timed(&probes, ask);
        is_over.store(true, Ordering::Relaxed);
        times
    });
    table.rows.push(line("exact, alone", MANY, alone, alone.p50, None));
    table.rows.push(line("exact, people come and go", MANY, during_changes, alone.p50, None));
    Ok(())
}

fn during_a_rebuild(table: &mut Table) -> Result<()> {
    let mut crowd = Crowd::new(DIMENSIONS, 2);
    let (gallery, probes) = filled(SOME, 0, &mut crowd)?;
    let camera = door()?;
    let (alone, _) = timed(&probes, |probe| gallery.identify(&camera, probe, None));
    let extra = KeyId::random();
    gallery.add(extra, &probes[..1]);
    settle(&gallery)?;
    let before = resident_bytes();
    let begin = Instant::now();
    gallery.remove(&extra);
    ensure!(!gallery.is_indexed(), "the graph is not rebuilt");
    let (mut times, mut most) = (Vec::new(), before);
    for probe in probes.iter().cycle() {
        let begin = Instant::now();
        black_box(gallery.identify(&camera, probe, None));
        times.push(begin.elapsed().as_secs_f64() * 1e6);
        if gallery.is_indexed() {
            break;
        }
        if times.len().is_multiple_of(PROBES) {
            most = most.max(resident_bytes());
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let more = most.saturating_sub(before) as f64 / SOME as f64;
    table.rows.push(line("hnsw, alone", SOME, alone, alone.p50, None));
    let mut row = line("hnsw, rebuild", SOME, percentiles(times), alone.p50, Some(more));
    row[6] = json!(seconds);
    table.rows.push(row);
    Ok(())
}

/// From opening a state directory to the first answer.
fn start(runtime: &tokio::runtime::Runtime, table: &mut Table) -> Result<()> {
    let folder = Folder::new("start")?;
    let root = RootKey::create(&folder.path().join("root.key"))?;
    let open = || {
        let settings = StoreSettings {
            directory: folder.path().join("state"),
            gallery: settings(DIMENSIONS, usize::MAX),
            media_quota_bytes: 1 << 20,
            reserve_free_bytes: 0,
            orphan_media: Duration::from_secs(3600),
            central_rows: false,
        };
        Store::open(settings, &root).map(|(store, _)| store)
    };
    let mut crowd = Crowd::new(DIMENSIONS, 3);
    let _context = runtime.enter();
    let store = open()?;
    let mut probe = Vec::new();
    for number in 0..MANY / SAMPLES_AT_START {
        let person = crowd.person();
        probe = samples(&mut crowd, &person, 1)?;
        let samples = samples(&mut crowd, &person, SAMPLES_AT_START)?;
        runtime.block_on(store.people.enroll(&format!("p{number}"), "Person", samples))?;
    }
    drop(store);
    let begin = Instant::now();
    let store = open()?;
    let faces = [ProbeFace { encoding: probe.remove(0), quality: None }];
    let answer = store.galleries.identify(&door()?, &faces);
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(answer.gallery_size as usize == MANY / SAMPLES_AT_START, "people are missing after a start");
    table.rows.push(vec![
        json!("start"),
        json!(MANY),
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
        json!(seconds),
    ]);
    Ok(())
}
