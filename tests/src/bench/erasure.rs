//! The time of an erasure: it reads the journal once, so the limit is a plain read of its files.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use gatehouse_store::store::OrderedBy;
use gatehouse_testkit::folder::Folder;
use serde_json::json;

use super::backlog;
use super::table::Table;

/// Events in the journal: 90 days of one every eight seconds, and a small part of it.
const EVENTS: u64 = 1_000_000;
const QUICK: u64 = 100_000;
/// Enrolled people. Each was recognized in the same number of events.
const PEOPLE: usize = 2_000;
const BUFFER_BYTES: usize = 1 << 20;

/// Fills a journal, erases a person, and reads the files of the journal.
///
/// # Errors
/// If the disk fails, or the erasure does not find the visits.
pub async fn run(full: bool) -> Result<Table> {
    let events = if full { EVENTS } else { QUICK };
    let folder = Folder::new("erasure")?;
    let store = backlog::open(folder.path())?;
    let probe = backlog::encodings(PEOPLE)?;
    for (number, encoding) in probe.iter().enumerate() {
        store.people.enroll(&format!("p{number}"), "Person", vec![encoding.clone()]).await?;
    }
    backlog::fill(&store, &probe, events).await?;
    let begin = Instant::now();
    let erased = store.people.erase("p0", OrderedBy::User(0)).await.context("the erasure")?;
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(erased.visits >= events / PEOPLE as u64, "{} visits were found", erased.visits);
    store.close();
    let begin = Instant::now();
    let bytes = read_all(&folder.path().join("state/journal"))?;
    let limit = begin.elapsed().as_secs_f64();
    let mut table = Table::new(
        "Erasure of a person (lower is better)",
        &[
            "events in the journal",
            "visits of the person",
            "journal MB",
            "erasure s",
            "plain read s",
            "ratio",
        ],
    );
    table.rows.push(vec![
        json!(events),
        json!(erased.visits),
        json!(bytes as f64 / 1e6),
        json!(seconds),
        json!(limit),
        json!(seconds / limit),
    ]);
    table.notes =
        vec!["plain read: all files of the journal, from the page cache as for the erasure".to_owned()];
    Ok(table)
}

fn read_all(folder: &Path) -> Result<u64> {
    let (mut bytes, mut buffer) = (0, vec![0; BUFFER_BYTES]);
    for entry in std::fs::read_dir(folder)? {
        let mut file = File::open(entry?.path())?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => bytes += read as u64,
            }
        }
    }
    Ok(bytes)
}
