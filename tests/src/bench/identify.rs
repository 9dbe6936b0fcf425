//! Time to say who somebody is, with one thread and the probe in memory: both engines of the gallery beside a plain
//! scan over `f32` vectors and the time it takes to read the quantised templates once.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use gatehouse_store::gallery::{Encoding, Gallery, GallerySettings, Metric};
use gatehouse_store::keys::KeyId;
use gatehouse_store::names::CameraName;
use gatehouse_store::record::Outcome;
use gatehouse_testkit::synthetic::{DIMENSIONS, SyntheticPerson, people, stranger};
use serde_json::json;

use super::table::Table;

/// Templates per table line.
const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
/// Templates per person.
const SAMPLES: usize = 5;
/// Probes per measurement, half of them of strangers: enough for a 99th percentile.
const PROBES: usize = 1_000;
/// The gallery's default threshold.
const THRESHOLD: f32 = 0.42;
/// A graph of the largest size takes about a minute.
const INDEX_PATIENCE: Duration = Duration::from_secs(900);

/// Measures all sizes with all engines.
///
/// # Errors
/// Where the graph is not built in time.
pub fn run() -> Result<Table> {
    run_sizes(&SIZES, PROBES)
}

fn run_sizes(sizes: &[usize], probes: usize) -> Result<Table> {
    let mut table = Table::new(
        "Identification, 128-d, one thread (lower is better)",
        &[
            "templates",
            "engine",
            "p50 us",
            "p99 us",
            "of f32 scan",
            "limit us",
            "of limit",
            "same answer %",
            "bytes/template",
            "ready s",
        ],
    );
    for &size in sizes {
        measure(size, probes, &mut table)?;
    }
    table.notes = vec![
        "limit: one read of the quantised templates by the same thread".to_owned(),
        "same answer: outcome and person as the f32 scan gives them; half the probes are strangers"
            .to_owned(),
        "the engine `exact` is the one that answers up to `exact_limit`; `hnsw` beyond it".to_owned(),
    ];
    Ok(table)
}

/// One size: everybody is enrolled once per engine, and all engines get the same probes.
fn measure(size: usize, probes: usize, table: &mut Table) -> Result<()> {
    let mut random = Rng::with_seed(size as u64);
    let residents = people(size as u64, size / SAMPLES);
    let mut enrolled = Vec::with_capacity(residents.len());
    for person in &residents {
        enrolled.push((KeyId::random(), encodings(person.samples(&mut random, SAMPLES))?));
    }
    let asked = questions(&residents, probes, &mut random)?;
    let scan = Scan::new(&enrolled);
    let (plain, truth) = timed(&asked, |probe| scan.identify(probe));
    let limit = read_time(size);

    for (engine, exact_limit) in [("exact", usize::MAX), ("hnsw", 0)] {
        let before = resident_bytes();
        let begin = Instant::now();
        let gallery = Gallery::new(settings(exact_limit));
        for (person, samples) in &enrolled {
            gallery.add(*person, samples);
        }
        while !gallery.is_indexed() {
            ensure!(begin.elapsed() < INDEX_PATIENCE, "the graph of {size} templates is not built in time");
            std::thread::sleep(Duration::from_millis(5));
        }
        let ready = begin.elapsed().as_secs_f64();
        let bytes = resident_bytes().saturating_sub(before) / size as u64;
        ensure!(gallery.engine() == engine, "{} answers instead of {engine}", gallery.engine());
        let camera = CameraName::try_from("bench").context("a camera name")?;
        let (times, answers) = timed(&asked, |probe| {
            let face = gallery.identify(&camera, probe, None);
            (face.outcome, face.person)
        });
        let same = answers.iter().zip(&truth).filter(|(a, b)| a == b).count();
        table.rows.push(line(
            size,
            engine,
            times,
            plain,
            limit,
            same as f64 / probes as f64,
            Some((bytes, ready)),
        ));
    }
    table.rows.push(line(size, "f32 scan", plain, plain, limit, 1.0, None));
    Ok(())
}

fn line(
    size: usize,
    engine: &str,
    (p50, p99): (f64, f64),
    plain: (f64, f64),
    limit: f64,
    same: f64,
    gallery: Option<(u64, f64)>,
) -> Vec<serde_json::Value> {
    vec![
        json!(size),
        json!(engine),
        json!(p50),
        json!(p99),
        json!(p50 / plain.0),
        json!(limit),
        json!(p50 / limit),
        json!(same * 100.0),
        gallery.map_or(json!(null), |(bytes, _)| json!(bytes)),
        gallery.map_or(json!(null), |(_, ready)| json!(ready)),
    ]
}

fn settings(exact_limit: usize) -> GallerySettings {
    GallerySettings {
        model: "dlib-128".to_owned(),
        dimensions: DIMENSIONS,
        metric: Metric::Euclidean,
        threshold: THRESHOLD,
        camera_thresholds: HashMap::new(),
        minimum_quality: 0.0,
        exact_limit,
    }
}

fn encodings(samples: Vec<Vec<f32>>) -> Result<Vec<Encoding>> {
    let encodings: Result<_, _> = samples.into_iter().map(|s| Encoding::new(s, DIMENSIONS)).collect();
    encodings.context("a synthetic encoding is none")
}

/// Residents and strangers in turn.
fn questions(residents: &[SyntheticPerson], count: usize, random: &mut Rng) -> Result<Vec<Encoding>> {
    let samples = (0..count).map(|number| match number % 2 {
        0 => residents[random.usize(..residents.len())].sample(random),
        _ => stranger(random).sample(random),
    });
    encodings(samples.collect())
}

/// Median and 99th percentile in microseconds, and the answers.
fn timed<A>(probes: &[Encoding], mut ask: impl FnMut(&Encoding) -> A) -> ((f64, f64), Vec<A>) {
    // The first round warms caches and is not counted.
    probes.iter().take(probes.len() / 10).for_each(|probe| drop(black_box(ask(probe))));
    let (mut times, mut answers) = (Vec::new(), Vec::new());
    for probe in probes {
        let begin = Instant::now();
        let answer = black_box(ask(black_box(probe)));
        times.push(begin.elapsed().as_secs_f64() * 1e6);
        answers.push(answer);
    }
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len() - 1)).copied();
    ((at(50).unwrap_or(0.0), at(99).unwrap_or(0.0)), answers)
}

/// The peer, and the oracle: every `f32` vector, one after another.
struct Scan {
    vectors: Vec<f32>,
    owners: Vec<KeyId>,
}

impl Scan {
    fn new(enrolled: &[(KeyId, Vec<Encoding>)]) -> Self {
        let samples = enrolled.iter().flat_map(|(person, samples)| samples.iter().map(move |s| (*person, s)));
        let (owners, vectors): (Vec<KeyId>, Vec<&[f32]>) = samples.map(|(p, s)| (p, s.as_slice())).unzip();
        Self { vectors: vectors.concat(), owners }
    }

    fn identify(&self, probe: &Encoding) -> (Outcome, Option<KeyId>) {
        let (mut best, mut second): (Option<(f32, KeyId)>, f32) = (None, f32::INFINITY);
        for (vector, owner) in self.vectors.chunks_exact(DIMENSIONS).zip(&self.owners) {
            let square = square_distance(probe.as_slice(), vector);
            match best {
                Some((nearest, person)) if person == *owner => best = Some((nearest.min(square), person)),
                Some((nearest, _)) if nearest <= square => second = second.min(square),
                earlier => {
                    second = earlier.map_or(second, |(nearest, _)| nearest);
                    best = Some((square, *owner));
                }
            }
        }
        let Some((nearest, person)) = best.map(|(square, person)| (square.sqrt(), person)) else {
            return (Outcome::Stranger, None);
        };
        let second = second.sqrt();
        let is_close =
            second <= THRESHOLD && second - nearest < gatehouse_store::gallery::AMBIGUITY_RATIO * THRESHOLD;
        match nearest <= THRESHOLD {
            true if is_close => (Outcome::Ambiguous, None),
            true => (Outcome::Match, Some(person)),
            false => (Outcome::Stranger, None),
        }
    }
}

/// As a careful programmer writes it: sixteen sums that the compiler keeps in vector registers.
fn square_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    for (x, y) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
        for i in 0..16 {
            lanes[i] += (x[i] - y[i]) * (x[i] - y[i]);
        }
    }
    lanes.iter().sum()
}

/// Microseconds to read as many bytes as the quantised templates have.
fn read_time(templates: usize) -> f64 {
    let words = vec![1_u64; templates * DIMENSIONS / 8];
    let mut times: Vec<f64> = (0..50)
        .map(|_| {
            let begin = Instant::now();
            black_box(black_box(&words).iter().sum::<u64>());
            begin.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Memory of this process, 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_engines_are_measured_and_agree() {
        let table = run_sizes(&[250], 40).unwrap();
        assert_eq!(table.rows.len(), 3);
        for row in &table.rows {
            assert!(row[2].as_f64().unwrap() > 0.0, "{row:?}");
        }
        assert_eq!(table.rows[0][7], 100.0, "the exact engine is exact");
    }
}
