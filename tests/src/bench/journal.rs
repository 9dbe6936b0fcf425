//! Durable records per second of the journal, beside a bare append and fdatasync at the same group size, and beside
//! stores of others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use gatehouse_store::journal::{Entry, Journal, JournalOptions};
use gatehouse_store::keys::{KeyTable, RootKey};
use gatehouse_testkit::folder::Folder;
use serde_json::json;

use super::measure::{Durable, SPAN, Spread, bare_append, millis, written_bytes};
use super::table::Table;

mod peers;

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
        "Journal: durable records of 500 bytes (higher is better; waits and what is written, lower)",
        &["in flight", "store", "records/s", "p50 ms", "p99 ms", "written of payload", "ours of it"],
    );
    for group in GROUPS {
        let folder = Folder::new("journal")?;
        let ours = journal(&folder, group)?;
        let mut lines =
            vec![("gatehouse", ours), ("bare append", bare_append(folder.path(), PAYLOAD, group)?)];
        lines.extend(peers::measure(folder.path(), group)?);
        for (store, durable) in lines {
            table.rows.push(vec![
                json!(group),
                json!(store),
                json!(durable.rate),
                json!(durable.wait.p50),
                json!(durable.wait.p99),
                json!(durable.written),
                json!(ours.rate / durable.rate),
            ]);
        }
    }
    table.notes = vec![
        "gatehouse: sealed, checked, numbered; so many records are on their way at all times; the wait is of one record"
            .into(),
        "bare append: so many records in one write to one file, then one fdatasync, by one thread".into(),
        "fjall: a batch, then persist(SyncData); SQLite: a transaction, journal_mode wal, synchronous full".into(),
        "limits: 0.8 of bare append; at 128 in flight 1.2 written of payload (pages are of 4 KiB: small groups write more)"
            .into(),
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
    let (mut flying, mut waits) = (VecDeque::with_capacity(window), Vec::new());
    let (before, begin) = (written_bytes(), Instant::now());
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
    let written = (written_bytes() - before) as f64 / (waits.len() * PAYLOAD) as f64;
    journal.close();
    Ok(Durable { rate, wait: Spread::of(waits), written })
}
