//! Durable records per second of the journal, beside a bare append and fdatasync at the same group size.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use gatehouse_store::journal::{Entry, Journal, JournalOptions};
use gatehouse_store::keys::{KeyTable, RootKey};
use gatehouse_testkit::folder::Folder;
use serde_json::json;

use super::measure::{Durable, SPAN, Spread, bare_append, millis};
use super::table::Table;

/// Records on their way at once.
const GROUPS: [usize; 4] = [1, 16, 128, 1024];
/// Payload of a record: an event with one face and a few attributes.
const PAYLOAD: usize = 500;

/// Measures all group sizes.
///
/// # Errors
/// Where the disk fails.
pub fn run() -> Result<Table> {
    let mut table = Table::new(
        "Journal: durable records of 500 bytes (higher is better, waits lower)",
        &["in flight", "records/s", "p50 ms", "p99 ms", "bare append/s", "bare p99 ms", "of bare"],
    );
    for group in GROUPS {
        let folder = Folder::new("journal")?;
        let ours = journal(&folder, group)?;
        let bare = bare_append(folder.path(), PAYLOAD, group)?;
        table.rows.push(vec![
            json!(group),
            json!(ours.rate),
            json!(ours.wait.p50),
            json!(ours.wait.p99),
            json!(bare.rate),
            json!(bare.wait.p99),
            json!(ours.rate / bare.rate),
        ]);
    }
    table.notes = vec![
        "ours: sealed, checked, numbered; so many records are on their way at all times".into(),
        "bare: so many records in one write to one file, then one fdatasync, by one thread".into(),
    ];
    Ok(table)
}

fn journal(folder: &Folder, window: usize) -> Result<Durable> {
    let directory = folder.path().join("journal");
    std::fs::create_dir(&directory)?;
    let root = RootKey::create(&folder.path().join("root.key"))?;
    let keys = Arc::new(KeyTable::open(&folder.path().join("keys"), &root)?);
    let (journal, _) = Journal::open(JournalOptions::new(&directory), keys, Box::new(drop))?;
    let payload: Vec<u8> = (0..PAYLOAD).map(|_| fastrand::u8(..)).collect();
    let (begin, mut flying, mut waits) = (Instant::now(), VecDeque::with_capacity(window), Vec::new());
    loop {
        let more = begin.elapsed() < SPAN;
        if more {
            // Somebody waits for these; events gather for a moment, which bounds no rate, but shows where one is alone.
            let entry = Entry { payload: payload.clone(), is_event: false };
            flying.push_back((Instant::now(), journal.append_blocking(entry)?));
        } else if flying.is_empty() {
            break;
        }
        if flying.len() >= window || !more {
            let (start, pending) = flying.pop_front().context("nothing is on its way")?;
            pending.wait_blocking()?;
            waits.push(millis(start, Instant::now()));
        }
    }
    let rate = waits.len() as f64 / begin.elapsed().as_secs_f64();
    journal.close();
    Ok(Durable { rate, wait: Spread::of(waits) })
}
