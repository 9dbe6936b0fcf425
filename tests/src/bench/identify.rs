//! Time of an identification with one thread and the probe in memory. Both engines of the gallery are compared with a
//! scan over `f32` vectors, with one read of the quantized templates, and with other search libraries on the same vectors
//! and probes, if Python has them.

mod crowd;
pub mod living;
mod oracle;
mod peers;

use std::collections::HashMap;
use std::hint::black_box;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gatehouse_gallery::{Encoding, Gallery, GallerySettings};
use gatehouse_model::{CameraName, KeyId, Metric};
use serde_json::{Value, json};

use super::table::Table;
use crowd::Crowd;
use oracle::Nearest;

/// Samples per person.
const SAMPLES: usize = 5;
/// Probes per measurement, half of them of strangers: enough for a 99th percentile.
const PROBES: usize = 400;
/// The gallery's default threshold.
const THRESHOLD: f32 = 0.42;
/// A measurement is repeated so often, and the best median counts: other work of the machine comes and goes.
const PASSES: usize = 3;
/// Microseconds per probe from which on one pass is long enough to even that out.
const LONG: f64 = 5_000.0;
/// A graph of a hundred thousand templates takes minutes.
const INDEX_TIMEOUT: Duration = Duration::from_secs(1800);
/// How long an index that is ready needs to let go of what it was made from.
const SETTLE_PERIOD: Duration = Duration::from_millis(200);

/// Sizes at which graphs are built as well as scans.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Graphs {
    None,
    /// Of peers, hnswlib's: at 100,000 the fastest to search and the first to be built.
    Hnswlib,
    /// Ours of a million takes the better part of an hour, theirs minutes.
    Peers,
    All,
}

impl Graphs {
    /// Those of the peers, by name.
    fn of_peers(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Hnswlib => &["hnswlib"],
            Self::Peers | Self::All => &["faiss", "hnswlib", "usearch"],
        }
    }
}

/// What is measured at one size.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Case {
    dimensions: usize,
    templates: usize,
    graphs: Graphs,
    /// Whether only a full run does it.
    is_long: bool,
}

const fn case(dimensions: usize, templates: usize, graphs: Graphs, is_long: bool) -> Case {
    Case { dimensions, templates, graphs, is_long }
}

/// In the order of the table. Some of the long ones repeat a size with graphs.
const CASES: [Case; 11] = [
    case(128, 1_000, Graphs::All, false),
    // Sketches have just begun, and weigh the most.
    case(128, 4_000, Graphs::All, false),
    case(128, 10_000, Graphs::All, false),
    case(128, 100_000, Graphs::All, false),
    case(128, 1_000_000, Graphs::None, false),
    case(128, 1_000_000, Graphs::Peers, true),
    case(512, 1_000, Graphs::All, false),
    case(512, 10_000, Graphs::All, false),
    case(512, 100_000, Graphs::None, false),
    case(512, 100_000, Graphs::All, true),
    case(512, 1_000_000, Graphs::Hnswlib, true),
];

/// Measures all sizes with all engines; graphs of the largest only where the run is `full`.
///
/// # Errors
/// If the graph is not built in time, or a peer fails.
pub fn run(full: bool) -> Result<Table> {
    let replaced = |case: &Case| {
        CASES.iter().any(|c| c.is_long && (c.dimensions, c.templates) == (case.dimensions, case.templates))
    };
    let chosen: Vec<Case> = CASES
        .into_iter()
        .filter(|case| if full { case.is_long || !replaced(case) } else { !case.is_long })
        .collect();
    let mut table = empty();
    for case in chosen {
        // A process for each: memory that one size gave back would hide what the next one takes.
        let place = CASES.iter().position(|c| *c == case).unwrap_or_default();
        let output = Command::new(std::env::current_exe()?)
            .args(["identify", "--size", &place.to_string()])
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "{} templates were not measured", case.templates);
        table.rows.extend(serde_json::from_slice::<Vec<Vec<Value>>>(&output.stdout)?);
    }
    Ok(table)
}

/// Measures one size, by its place among all, and gives the lines as JSON; for [`run`], in a process of its own.
///
/// # Errors
/// If there is no such size, and as [`run`].
pub fn one_size(place: usize) -> Result<Value> {
    let mut table = empty();
    measure(*CASES.get(place).context("no such size")?, PROBES, &mut table)?;
    Ok(json!(table.rows))
}

/// The table without lines.
fn empty() -> Table {
    let mut table = Table::new(
        "Identification, one thread, probe in memory (lower is better)",
        &[
            "engine",
            "dimensions",
            "templates",
            "p50 us",
            "p99 us",
            "of exact",
            "recall@1",
            "bytes/template",
            "of payload",
            "build s",
        ],
    );
    table.notes = vec![
        "one read: of the quantised templates, by the same thread".to_owned(),
        "of exact: the ratio of the median to that of gatehouse exact on the same templates".to_owned(),
        "recall: the nearest person's distance, of samples and mean, is that of an f32 scan to the bit; for the \
         exact engine the second person's, too; for peers, the row of the nearest sample"
            .to_owned(),
        "gatehouse compares with one mean template per five samples in addition; peers and the f32 scan do not"
            .to_owned(),
        "times: of the best of three passes over 400 probes; of one, where a probe takes more than 5 ms".to_owned(),
        "bytes/template: growth of the process's own memory (RssAnon), with lenses and threads, which are the same \
         whatever the size"
            .to_owned(),
        "payload: eight-bit and f32 components; peers hold f32, and search in calls of ten probes, the time \
         of which is shared out"
            .to_owned(),
        "graphs: 24 links, 200 candidates at construction, ours by one thread, those of peers by all processors; of \
         peers, the narrowest search that finds 99.9 %; at a million of 512-d only hnswlib's, the fastest one at 100,000"
            .to_owned(),
    ];
    if peers::python().is_none() {
        table.notes.push("no Python with hnswlib, usearch and faiss here: the peers are left out".to_owned());
    }
    table
}

/// Templates of synthetic people, and probes of which every second one is of a stranger.
struct Faces {
    /// One after the other, without a gap.
    templates: Vec<f32>,
    probes: Vec<Vec<f32>>,
}

fn draw(case: Case, probes: usize) -> Faces {
    let Case { dimensions, templates: size, .. } = case;
    let mut crowd = Crowd::new(dimensions, size as u64);
    let people = size / SAMPLES;
    let (mut templates, mut centres) = (Vec::with_capacity(size * dimensions), Vec::new());
    for number in 0..people {
        let person = crowd.person();
        (0..SAMPLES).for_each(|_| templates.extend(crowd.sample(&person)));
        if number % (people / probes).max(1) == 0 {
            centres.push(person);
        }
    }
    let probe = |number: usize| {
        let person =
            if number.is_multiple_of(2) { centres[number % centres.len()].clone() } else { crowd.person() };
        crowd.sample(&person)
    };
    Faces { probes: (0..probes).map(probe).collect(), templates }
}

/// All people are enrolled once per engine, and all engines get the same probes.
fn measure(case: Case, probes: usize, table: &mut Table) -> Result<()> {
    let Case { dimensions, templates: size, graphs, .. } = case;
    let Faces { templates, probes: asked } = draw(case, probes);
    let (plain, nearest) = timed(&asked, |probe| oracle::nearest(&templates, probe, SAMPLES));
    let people = oracle::with_means(&templates, dimensions, SAMPLES);
    let expected: Vec<Nearest> =
        asked.iter().map(|probe| oracle::nearest(&people, probe, SAMPLES + 1)).collect();
    drop(people);
    let encodings: Result<Vec<Encoding>, _> =
        asked.iter().map(|probe| Encoding::new(probe.clone(), dimensions)).collect();
    let encodings = encodings.context("a synthetic encoding is none")?;

    let mut exact = 1.0;
    let line = |engine: &str, (p50, p99): (f64, Option<f64>), exact: f64| {
        vec![json!(engine), json!(dimensions), json!(size), json!(p50), json!(p99), json!(p50 / exact)]
    };
    for (engine, exact_limit) in [("exact", usize::MAX), ("hnsw", 0)] {
        if engine == "hnsw" && graphs != Graphs::All {
            continue;
        }
        let ours = gallery(case, exact_limit, &templates, &encodings, &expected)?;
        if engine == "exact" {
            exact = ours.times.p50;
        }
        let mut row = line(&format!("gatehouse {engine}"), (ours.times.p50, Some(ours.times.p99)), exact);
        let payload = dimensions as f64 * 5.0;
        // What the lines before gave back and the system did not take hides the memory of this one.
        let bytes = Some(ours.bytes).filter(|bytes| *bytes > payload);
        let memory = [json!(bytes), json!(bytes.map(|bytes| bytes / payload)), json!(ours.ready)];
        row.extend([json!(ours.recall)].into_iter().chain(memory));
        table.rows.push(row);
    }
    let none = || [Value::Null, Value::Null, Value::Null];
    let mut row = line("f32 scan", (plain.p50, Some(plain.p99)), exact);
    row.extend([json!(1.0)].into_iter().chain(none()));
    table.rows.push(row);
    if let Some(python) = peers::python() {
        let rows: Vec<u32> = nearest.iter().map(|expected| expected.row).collect();
        let input = peers::Input {
            templates: &templates,
            probes: &asked.concat(),
            nearest: &rows,
            dimensions,
            graphs: graphs.of_peers(),
        };
        for peer in peers::measure(&python, &input)? {
            let number = |key: &str| peer[key].as_f64();
            let name = peer["engine"].as_str().unwrap_or("peer");
            let mut row = line(name, (number("p50").unwrap_or(f64::NAN), number("p99")), exact);
            row.extend([peer["recall"].clone(), Value::Null, Value::Null, peer["build"].clone()]);
            table.rows.push(row);
        }
    }
    let mut row = line("one read", (oracle::read_time(size * dimensions), None), exact);
    row.extend([Value::Null].into_iter().chain(none()));
    table.rows.push(row);
    Ok(())
}

/// What one engine did.
struct Ours {
    times: Times,
    recall: f64,
    bytes: f64,
    ready: f64,
}

/// Enrolls all people and searches all probes.
fn gallery(
    case: Case,
    exact_limit: usize,
    templates: &[f32],
    probes: &[Encoding],
    expected: &[Nearest],
) -> Result<Ours> {
    let before = own_bytes();
    let gallery = Gallery::new(settings(case.dimensions, exact_limit));
    let begin = Instant::now();
    for samples in templates.chunks_exact(case.dimensions * SAMPLES) {
        let samples: Result<Vec<Encoding>, _> = samples
            .chunks_exact(case.dimensions)
            .map(|s| Encoding::new(s.to_vec(), case.dimensions))
            .collect();
        gallery.add(KeyId::random(), &samples.context("a synthetic encoding is none")?);
    }
    while !gallery.is_indexed() {
        ensure!(begin.elapsed() < INDEX_TIMEOUT, "the graph of {} templates is not built", case.templates);
        std::thread::sleep(Duration::from_millis(2));
    }
    let ready = begin.elapsed().as_secs_f64();
    // What the last lens was made from goes a moment after it.
    std::thread::sleep(SETTLE_PERIOD);
    let bytes = own_bytes().saturating_sub(before) as f64 / case.templates as f64;
    let engine = if exact_limit == 0 { "hnsw" } else { "exact" };
    ensure!(gallery.engine().as_str() == engine, "{} answers instead of {engine}", gallery.engine().as_str());
    let camera = CameraName::try_from("bench").context("a camera name")?;
    let (times, answers) = timed(probes, |probe| gallery.identify(&camera, probe, None));
    let is_right = |(face, expected): (&gatehouse_model::Face<KeyId>, &Nearest)| {
        let is_nearest = face.distance == Some(expected.distance);
        // The exact engine must be right about the second person, too.
        if exact_limit > 0 {
            is_nearest && face.margin == Some(expected.second - expected.distance)
        } else {
            is_nearest
        }
    };
    let right = answers.iter().zip(expected).filter(|pair| is_right(*pair)).count();
    Ok(Ours { times, recall: right as f64 / probes.len() as f64, bytes, ready })
}

fn settings(dimensions: usize, exact_limit: usize) -> GallerySettings {
    GallerySettings {
        model: format!("synthetic-{dimensions}"),
        dimensions,
        metric: Metric::Euclidean,
        normalised: false,
        threshold: THRESHOLD,
        camera_thresholds: HashMap::new(),
        minimum_quality: 0.0,
        exact_limit,
    }
}

/// The times of the best pass, and the answers.
fn timed<P, A>(probes: &[P], mut ask: impl FnMut(&P) -> A) -> (Times, Vec<A>) {
    // The first round warms caches and is not counted.
    probes.iter().take(probes.len() / 10).for_each(|probe| drop(black_box(ask(probe))));
    let (mut best, mut answers) = (Times { p50: f64::INFINITY, p99: f64::INFINITY }, Vec::new());
    for _ in 0..PASSES {
        let mut times = Vec::new();
        answers.clear();
        for probe in probes {
            let begin = Instant::now();
            let answer = black_box(ask(black_box(probe)));
            times.push(begin.elapsed().as_secs_f64() * 1e6);
            answers.push(answer);
        }
        let pass = percentiles(times);
        best = if pass.p50 < best.p50 { pass } else { best };
        if best.p50 > LONG {
            break;
        }
    }
    (best, answers)
}

/// Times of one measurement in microseconds.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// Median.
    p50: f64,
    /// 99th percentile.
    p99: f64,
}

fn percentiles(mut times: Vec<f64>) -> Times {
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len() - 1)).copied();
    Times { p50: at(50).unwrap_or(0.0), p99: at(99).unwrap_or(0.0) }
}

/// Memory of this process, 0 where the system does not report it.
pub(super) fn resident_bytes() -> u64 {
    status_bytes("VmRSS:")
}

/// Memory of this process without what it maps of files, such as its code.
fn own_bytes() -> u64 {
    status_bytes("RssAnon:")
}

/// A value that the system reports about this process; 0 if it is missing.
fn status_bytes(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_engines_are_measured_and_agree() {
        let mut table = empty();
        measure(case(128, 1_250, Graphs::All, false), 40, &mut table).unwrap();
        assert!(table.rows.len() >= 4);
        for row in &table.rows {
            assert!(row[3].as_f64().unwrap() > 0.0, "{row:?}");
        }
        assert_eq!((&table.rows[0][0], &table.rows[0][6]), (&json!("gatehouse exact"), &json!(1.0)));
    }
}
