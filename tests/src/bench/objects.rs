//! Files per second delivered to S3, compared with boto3 on the same files and server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gatehouse_testkit::broker::Broker;
use gatehouse_testkit::camera::{Address, Camera, all_taken};
use gatehouse_testkit::daemon::{Daemon, DaemonOptions};
use gatehouse_testkit::folder::Folder;
use gatehouse_testkit::minio::Minio;
use gatehouse_testkit::synthetic::EventMessage;
use gatehouse_testkit::wait;
use serde_json::json;

use super::ingest::settings;
use super::measure::millis;
use super::table::Table;
use crate::setup::BUCKET;

/// Names the Python that has boto3; `run` sets it.
const PYTHON: &str = "GATEHOUSE_BENCH_PYTHON";
/// Files at once: as many as the appliance sends, and what boto3's own command does.
const THREADS: [usize; 2] = [3, 10];
/// Files that the broker is given at once.
const PORTION: usize = 100;
/// Each step ends within this, or the benchmark fails.
const TIMEOUT: Duration = Duration::from_secs(300);
/// How often the ledger is asked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A load of files.
struct Load {
    name: &'static str,
    count: usize,
    bytes: usize,
}

const LOADS: [Load; 2] = [
    Load { name: "small.bin", count: 2_000, bytes: 20 * 1024 },
    Load { name: "large.bin", count: 20, bytes: 15 * 1024 * 1024 },
];

/// Measures both loads.
///
/// # Errors
/// If a service is missing or anything takes too long.
pub async fn run() -> Result<Table> {
    let (broker, minio) = (Broker::start()?, Minio::start()?);
    let mut settings: BTreeMap<String, String> = settings();
    settings.insert("sync".into(), "retry_min = \"100ms\"\nretry_max = \"1s\"\n".into());
    let mut daemon = Daemon::new(DaemonOptions {
        device: "bench".into(),
        mqtt_url: broker.url(),
        objects: Some(minio.objects()),
        settings,
        ..DaemonOptions::default()
    })?;
    daemon.central_init()?;
    daemon.start()?;
    daemon.wait_connected(TIMEOUT)?;
    let mut table = Table::new(
        "Files delivered to MinIO per second (higher is better)",
        &["load", "who", "files/s", "MB/s", "ours of it"],
    );
    for load in LOADS {
        let ours = ours(&daemon, &minio, &broker, &load).await?;
        let mut rates = vec![("gatehoused: opened, looked up, sent, looked up, journalled".to_owned(), ours)];
        if let Some(python) = std::env::var_os(PYTHON).map(PathBuf::from).filter(|path| path.exists()) {
            for threads in THREADS {
                let rate = boto(&python, &minio, &load, threads)?;
                rates.push((format!("boto3 upload_file, {threads} files at once"), rate));
            }
        }
        for (who, rate) in rates {
            let load_name = format!("{} of {} KiB", load.count, load.bytes / 1024);
            let megabytes = rate * load.bytes as f64 / 1e6;
            table.rows.push(vec![
                json!(load_name),
                json!(who),
                json!(rate),
                json!(megabytes),
                json!(ours / rate),
            ]);
        }
    }
    table.notes =
        vec!["boto3 sends files that lie open on the disk and looks at none of them afterwards".into()];
    Ok(table)
}

/// Takes the files in while the server is away, then counts from its return.
async fn ours(daemon: &Daemon, minio: &Minio, broker: &Broker, load: &Load) -> Result<f64> {
    minio.stop()?;
    let before = number(daemon, "delivered")?;
    let camera = Camera::connect("load", &Address::local(broker.port()));
    for first in (0..load.count).step_by(PORTION) {
        let mut receipts = Vec::new();
        for nth in first..load.count.min(first + PORTION) {
            let id = format!("{}-{nth}", load.bytes);
            let media = vec![load.name.to_owned()];
            let event =
                EventMessage { id: Some(id.clone()), kind: "motion".into(), media, ..Default::default() };
            receipts.push(camera.send("gatehouse/load/event", event.payload(), false));
            let topic = format!("gatehouse/load/media/{id}/{}", load.name);
            receipts.push(camera.send(&topic, content(nth, load.bytes), false));
        }
        all_taken(receipts, TIMEOUT).await?;
    }
    let all = before + load.count as u64;
    wait::until("the files to be stored", TIMEOUT, || {
        number(daemon, "pending").is_ok_and(|pending| pending == load.count as u64)
    })?;
    minio.restart()?;
    // From the first that is through: the server needs a moment to start, and the daemon one to try again.
    let (end, mut begin) = (Instant::now() + TIMEOUT, None);
    loop {
        let (now, have) = (Instant::now(), number(daemon, "delivered")?);
        ensure!(now < end, "{have} of {all} files arrived:\n{}", daemon.log_tail());
        match begin {
            None if have > before => begin = Some((now, have)),
            Some((start, from)) if have >= all => return Ok((have - from) as f64 * 1e3 / millis(start, now)),
            _ => {}
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn boto(python: &Path, minio: &Minio, load: &Load, threads: usize) -> Result<f64> {
    let folder = Folder::new("boto")?;
    for nth in 0..load.count {
        std::fs::write(folder.path().join(format!("{nth}-{}", load.name)), content(nth, load.bytes))?;
    }
    let objects = minio.objects();
    let output = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/objects.py"))
        .args([&objects.endpoint, &objects.access_key, &objects.secret_key, BUCKET])
        .arg(folder.path())
        .arg(threads.to_string())
        .output()?;
    ensure!(output.status.success(), "boto3 failed: {}", String::from_utf8_lossy(&output.stderr));
    let seconds: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().context("no seconds")?;
    Ok(load.count as f64 / seconds)
}

fn number(daemon: &Daemon, key: &str) -> Result<u64> {
    daemon.json(&["ledger"])?["files"][key].as_u64().context("a ledger without files")
}

fn content(nth: usize, bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    fastrand::Rng::with_seed(nth as u64).fill(&mut data);
    data
}
