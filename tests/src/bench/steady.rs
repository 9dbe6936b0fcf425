//! What the daemon uses of the board at a steady rate and when idle: memory, processor time, wake-ups.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use gatehouse_testkit::camera::{Address, Camera, Listener};
use gatehouse_testkit::daemon::Daemon;
use gatehouse_testkit::synthetic::SyntheticPerson;
use serde_json::json;

use super::ingest::event;
use super::table::Table;

/// Events per second.
const PACE: usize = 1000;
/// How long they come.
const SECONDS: usize = 20;
/// Idle time before the measurement: the views are flushed after two seconds, and thresholds are derived.
const WARM_UP_PERIOD: Duration = Duration::from_secs(15);
/// How long it is measured.
const MEASURE_PERIOD: Duration = Duration::from_secs(10);
/// All answers are there within this after the last event.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Clock ticks per second in `/proc`: the same on all architectures of Linux that are served.
const TICKS: f64 = 100.0;

/// What `/proc` says of a process.
struct Usage {
    at: Instant,
    cpu: f64,
    resident: f64,
    /// Of each thread that lives.
    wakeups: HashMap<PathBuf, u64>,
}

/// Measures the running daemon.
///
/// # Errors
/// If answers are missing or the process has gone.
pub(super) async fn run(daemon: &Daemon, address: &Address, people: &[SyntheticPerson]) -> Result<Table> {
    let process = PathBuf::from(format!("/proc/{}", daemon.id().context("the daemon does not run")?));
    let camera = Camera::connect("steady", address);
    let answers =
        Listener::subscribe("steady-answers", address, &["gatehouse/steady/identification"], TIMEOUT).await?;
    let mut rng = Rng::with_seed(6);
    let events: Vec<_> =
        (0..PACE * SECONDS).map(|n| event(&format!("steady-{n}"), people, &mut rng)).collect();
    let count = events.len();
    let begin = usage(&process)?;
    let mut clock = tokio::time::interval(Duration::from_secs(1) / PACE as u32);
    for payload in events {
        clock.tick().await;
        let _receipt = camera.send("gatehouse/steady/event", payload, false);
    }
    let end = usage(&process)?;
    answers.until_count(count, TIMEOUT).await?;
    tokio::time::sleep(WARM_UP_PERIOD).await;
    let calm = usage(&process)?;
    tokio::time::sleep(MEASURE_PERIOD).await;
    let idle = usage(&process)?;

    let share = |from: &Usage, to: &Usage| 100.0 * (to.cpu - from.cpu) / (to.at - from.at).as_secs_f64();
    // One that has ended meanwhile does not wake up any more.
    let before = |thread| calm.wakeups.get(thread).copied().unwrap_or(0);
    let wakeups: u64 = idle.wakeups.iter().map(|(thread, now)| now.saturating_sub(before(thread))).sum();
    let wakeups = wakeups as f64 / (idle.at - calm.at).as_secs_f64();
    let mut table = Table::new(
        &format!(
            "Steady {PACE} events per second for {SECONDS} s, {} encodings (lower is better)",
            people.len() * super::ingest::SAMPLES
        ),
        &["what", "measured", "limit"],
    );
    table.rows.push(vec![json!("resident MB"), json!(end.resident / 1e6), json!(96)]);
    table.rows.push(vec![json!("percent of one core"), json!(share(&begin, &end)), json!(25)]);
    table.rows.push(vec![json!("percent of one core, idle"), json!(share(&calm, &idle)), json!(null)]);
    table.rows.push(vec![json!("wake-ups per second, idle"), json!(wakeups), json!(null)]);
    table.notes = vec![
        "limits: of the reference board; a core of this machine may do several times as much".to_owned(),
        "wake-ups: of all threads; most are sled's, whose thread pool cannot be made to sleep".to_owned(),
    ];
    Ok(table)
}

fn usage(process: &std::path::Path) -> Result<Usage> {
    let read = |file: PathBuf| std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()));
    let stat = read(process.join("stat"))?;
    // Behind the name, which may hold anything: field 3 is the first, 14 and 15 are the times.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    let field = |text: &str, name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim_matches([':', '\t', ' ']).split(' ').next()?.parse().ok()).unwrap_or(0)
    };
    let mut wakeups = HashMap::new();
    for thread in std::fs::read_dir(process.join("task"))? {
        let thread = thread?.path();
        let status = read(thread.join("status")).unwrap_or_default();
        wakeups.insert(thread, field(&status, "voluntary_ctxt_switches"));
    }
    Ok(Usage {
        at: Instant::now(),
        cpu: (ticks(11) + ticks(12)) / TICKS,
        resident: field(&read(process.join("status"))?, "VmRSS") as f64 * 1024.0,
        wakeups,
    })
}
