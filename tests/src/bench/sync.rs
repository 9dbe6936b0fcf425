//! Events per second delivered to central Postgres, compared with a bare COPY of the same rows on the same server.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use gatehouse_testkit::camera::{Camera, all_taken};
use gatehouse_testkit::postgres::Stop;
use gatehouse_testkit::synthetic::people;
use serde_json::json;

use super::ingest::{event, settings};
use super::measure::millis;
use super::table::Table;
use crate::setup::Setup;

/// Events of the backlog.
const BACKLOG: usize = 50_000;
/// Events that the broker is given at once.
const PORTION: usize = 5_000;
/// Enrolled people.
const PEOPLE: usize = 50;
/// Each step ends within this, or the benchmark fails.
const TIMEOUT: Duration = Duration::from_secs(300);
/// How often the bare COPY runs; the best counts.
const COPIES: usize = 3;

/// Measures the delivery of a backlog.
///
/// # Errors
/// If a service is missing or anything takes too long.
pub async fn run() -> Result<Table> {
    let mut settings = settings();
    settings.insert("sync".into(), "retry_min = \"100ms\"\nretry_max = \"1s\"\n".into());
    let mut setup = Setup::build(settings).await?;
    setup.start()?;
    setup.postgres.stop(Stop::Fast)?;
    fill(&setup).await?;
    setup.postgres.restart()?;
    let ours = delivered(&setup).await?;
    let mut table = Table::new(
        &format!("Events delivered to Postgres per second, backlog of {BACKLOG} (higher is better)"),
        &["what", "events/s", "ours of it"],
    );
    let plain = copied(&setup, "INCLUDING DEFAULTS").await?;
    let indexed = copied(&setup, "INCLUDING DEFAULTS INCLUDING INDEXES").await?;
    for (what, rate) in [
        ("gatehoused: read, opened, written with its cursor, committed, cursor journalled", ours),
        ("bare COPY of the same rows into a table with the same indexes", indexed),
        ("bare COPY of the same rows into a table without an index", plain),
    ] {
        table.rows.push(vec![json!(what), json!(rate), json!(ours / rate)]);
    }
    table.notes =
        vec!["the server runs with fsync off; COPY reads a file on the machine of the server".into()];
    Ok(table)
}

/// Fills the journal while Postgres is away.
async fn fill(setup: &Setup) -> Result<()> {
    let people = people(1, PEOPLE);
    let mut rng = Rng::with_seed(2);
    for person in &people {
        setup.daemon.enroll(&person.id, &person.name, &person.samples(&mut rng, 2))?;
    }
    let camera = Camera::connect("flood", &setup.address());
    for portion in 0..BACKLOG / PORTION {
        let receipts = (0..PORTION).map(|number| {
            let payload = event(&format!("event-{portion}-{number}"), &people, &mut rng);
            camera.send("gatehouse/flood/event", payload, false)
        });
        all_taken(receipts.collect(), TIMEOUT).await?;
    }
    let all = BACKLOG as u64;
    setup.until_ledger("the backlog to be stored", TIMEOUT, |ledger| {
        ledger.number("events", "stored") == all
    })?;
    Ok(())
}

/// By the cursor at the central side, from the first tenth to the end.
async fn delivered(setup: &Setup) -> Result<f64> {
    let client = setup.database.ready().await?;
    setup.daemon.json(&["sync", "now"])?;
    let (end, mut begin) = (Instant::now() + TIMEOUT, None);
    loop {
        let rows = client.query("SELECT seq FROM gatehouse.device_cursors", &[]).await?;
        let (now, have) = (Instant::now(), rows.first().map_or(0, |row| row.get::<_, i64>(0)));
        anyhow::ensure!(now < end, "{have} of {BACKLOG} events arrived:\n{}", setup.daemon.log_tail());
        match begin {
            None if have >= i64::try_from(BACKLOG / 10)? => begin = Some((now, have)),
            Some((start, from)) if have >= i64::try_from(BACKLOG)? => {
                return Ok((have - from) as f64 * 1e3 / millis(start, now));
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn copied(setup: &Setup, like: &str) -> Result<f64> {
    let client = setup.database.ready().await?;
    let folder: String = client.query_one("SHOW data_directory", &[]).await?.get(0);
    let file = format!("{folder}/bench.copy");
    client.batch_execute(&format!("COPY (SELECT * FROM gatehouse.events) TO '{file}'")).await?;
    let mut best: Option<Duration> = None;
    for _ in 0..COPIES {
        let table = format!("DROP TABLE IF EXISTS bare; CREATE TABLE bare (LIKE gatehouse.events {like})");
        client.batch_execute(&table).await?;
        let start = Instant::now();
        client.batch_execute(&format!("COPY bare FROM '{file}'")).await?;
        let took = start.elapsed();
        best = Some(best.map_or(took, |best| best.min(took)));
    }
    Ok(BACKLOG as f64 / best.context("no copy ran")?.as_secs_f64())
}
