//! The catch-up after weeks without a network: its duration, and that memory does not grow with the backlog.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::backlog;
use super::table::Table;
use crate::setup::Setup;

/// Events that wait; a month of one every quarter of a second, and a small part of it.
const MONTH: u64 = 10_000_000;
const QUICK: u64 = 200_000;
/// Enrolled people, with one encoding each.
const PEOPLE: usize = 2_000;
/// The whole catch-up ends within this, or the benchmark fails.
const TIMEOUT: Duration = Duration::from_secs(3600);
/// How often memory and the cursor are looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// What is asked for, in MB.
const LIMIT: u32 = 128;

/// Fills a journal while nothing runs, then has the daemon deliver it to Postgres.
///
/// # Errors
/// If a service is missing, or anything takes too long.
pub async fn run(full: bool) -> Result<Table> {
    let events = if full { MONTH } else { QUICK };
    let mut setup = Setup::build(BTreeMap::new()).await?;
    fill(&setup, events).await?;
    let client = setup.database.ready().await?;
    setup.start()?;
    let process = setup.daemon.id().context("the daemon does not run")?;
    let (begin, mut resident) = (Instant::now(), Vec::new());
    loop {
        resident.push(memory(process, "VmRSS:")?);
        let row = client.query_opt("SELECT seq FROM gatehouse.device_cursors", &[]).await?;
        let have = row.map_or(0, |row| row.get::<_, i64>(0));
        if have >= i64::try_from(events)? {
            break;
        }
        ensure!(begin.elapsed() < TIMEOUT, "{have} of {events} arrived:\n{}", setup.daemon.log_tail());
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let rows = client.query_one("SELECT count(*), count(DISTINCT seq) FROM gatehouse.events", &[]).await?;
    let (rows, numbers) = (rows.get::<_, i64>(0), rows.get::<_, i64>(1));
    ensure!(rows == numbers && rows == i64::try_from(events)?, "{rows} rows, {numbers} numbers of {events}");
    let half = resident.len() / 2;
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
    let mut table =
        Table::new("Catch-up with Postgres after weeks without a network", &["what", "measured", "limit"]);
    for (what, measured, limit) in [
        ("events that waited, all of them there once", json!(events), json!(null)),
        ("seconds from READY", json!(seconds), json!(null)),
        ("events/s", json!(events as f64 / seconds), json!(null)),
        ("MB resident, first half", json!(mean(&resident[..half])), json!(LIMIT)),
        ("MB resident, second half", json!(mean(&resident[half..])), json!(LIMIT)),
        ("MB resident, most", json!(memory(process, "VmHWM:")?), json!(LIMIT)),
    ] {
        table.rows.push(vec![json!(what), measured, limit]);
    }
    table.notes =
        vec![format!("{PEOPLE} people enrolled; the server runs with fsync off, on the same cores")];
    Ok(table)
}

/// What the daemon finds when it starts.
async fn fill(setup: &Setup, events: u64) -> Result<()> {
    let state = setup.daemon.state();
    let store = backlog::open(state.parent().context("a state folder without a parent")?)?;
    let probe = backlog::encodings(PEOPLE)?;
    for (number, encoding) in probe.iter().enumerate() {
        store.people.enroll(&format!("p{number}"), "Person", vec![encoding.clone()]).await?;
    }
    backlog::fill(&store, &probe, events).await?;
    store.close();
    Ok(())
}

/// A line of what the system says of the process, in MB.
fn memory(process: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    let kib: f64 = line.trim().split(' ').next().unwrap_or_default().parse()?;
    Ok(kib * 1024.0 / 1e6)
}
