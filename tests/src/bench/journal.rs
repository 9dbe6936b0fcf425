//! Durable records per second of the journal, compared with a bare append and fdatasync of the same group size, and with
//! other stores.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use gatehouse_journal::{Entry, Journal, JournalOptions, Pending};
use gatehouse_testkit::folder::Folder;
use gatehouse_vault::keys::{KeyTable, RootKey};
use serde_json::json;

use super::measure::{Durable, MEASURE_PERIOD, Spread, bare_append, millis, written_bytes};
use super::table::Table;

mod peers;

/// Records per fdatasync.
const GROUPS: [usize; 4] = [1, 16, 128, 1024];
/// Groups on their way: one fills while the other is written. A record that is alone has nothing to wait for.
const GROUPS_FLYING: usize = 2;
/// Ours and the bare append take turns so often, since a disk that others use is fast one moment and slow the next.
const ROUNDS: usize = 3;
/// Payload of a record: an event with one face and a few attributes.
const PAYLOAD: usize = 500;

/// Measures all group sizes.
///
/// # Errors
/// If the disk fails.
pub fn run() -> Result<Table> {
    let mut table = Table::new(
        "Journal: durable records of 500 bytes (higher is better; waits and what is written, lower)",
        &[
            "group",
            "store",
            "records/s",
            "per fdatasync",
            "p50 ms",
            "p99 ms",
            "written of payload",
            "ours of it",
        ],
    );
    for group in GROUPS {
        let (ours, bare) = pair(group)?;
        let mut lines = vec![("gatehouse", ours), ("bare append", bare)];
        lines.extend(peers::measure(Folder::new("peers")?.path(), group)?);
        for (store, durable) in lines {
            table.rows.push(vec![
                json!(group),
                json!(store),
                json!(durable.rate),
                json!(durable.group),
                json!(durable.wait.p50),
                json!(durable.wait.p99),
                json!(durable.written),
                json!(ours.rate / durable.rate),
            ]);
        }
    }
    table.notes = vec![
        "gatehouse: sealed, checked, numbered; at most two groups are on their way, so that one can fill while the other \
         is written, and a record waits for both; a group of 1 is alone"
            .into(),
        "per fdatasync: what was ready when the disk was free, which may be both groups at once".into(),
        "ours and the bare append take turns three times; the turn with the median of their ratio is shown".into(),
        "bare append: as many records as ours had per fdatasync in one write to one file, then one fdatasync, by one \
         thread; the wait is of one"
            .into(),
        "fjall: a batch, then persist(SyncData); SQLite: a transaction, journal_mode wal, synchronous full".into(),
        "limits: 0.8 of bare append; in groups of 128 1.2 written of payload (pages are of 4 KiB: small groups write more)"
            .into(),
    ];
    Ok(table)
}

/// Ours and the bare append with as many records per fdatasync, one right after the other: the round with the median of their ratio.
fn pair(group: usize) -> Result<(Durable, Durable)> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let folder = Folder::new("journal")?;
        let ours = journal(&folder, group)?;
        let reached = ours.group.round().max(1.0) as usize;
        rounds.push((ours, bare_append(folder.path(), PAYLOAD, reached)?));
    }
    rounds.sort_by(|a, b| (a.0.rate / a.1.rate).total_cmp(&(b.0.rate / b.1.rate)));
    Ok(rounds.swap_remove(ROUNDS / 2))
}

fn journal(folder: &Folder, group: usize) -> Result<Durable> {
    let groups = if group == 1 { 1 } else { GROUPS_FLYING };

    let directory = folder.path().join("journal");
    std::fs::create_dir(&directory)?;
    let root = RootKey::create(&folder.path().join("root.key"))?;
    let keys = Arc::new(KeyTable::open(&folder.path().join("keys"), &root)?);
    let commits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&commits);
    let on_commit = move |_| _ = counted.fetch_add(1, Ordering::Relaxed);
    let (journal, _) = Journal::open(JournalOptions::new(&directory), keys, Box::new(on_commit))?;
    let payload: Vec<u8> = (0..PAYLOAD).map(|_| fastrand::u8(..)).collect();
    let (mut flying, mut waits) = (VecDeque::with_capacity(groups), Vec::new());
    let (before, begin) = (written_bytes(), Instant::now());
    loop {
        let more = begin.elapsed() < MEASURE_PERIOD;
        if more {
            flying.push_back(append(&journal, &payload, group)?);
        } else if flying.is_empty() {
            break;
        }
        if flying.len() >= groups || !more {
            for (start, pending) in flying.pop_front().context("nothing is on its way")? {
                pending.wait_blocking()?;
                waits.push(millis(start, Instant::now()));
            }
        }
    }
    let rate = waits.len() as f64 / begin.elapsed().as_secs_f64();
    let written = (written_bytes() - before) as f64 / (waits.len() * PAYLOAD) as f64;
    journal.close();
    let group = waits.len() as f64 / commits.load(Ordering::Relaxed) as f64;
    Ok(Durable { rate, wait: Spread::of(waits), written, group })
}

/// A group, with the moment of each record.
fn append(journal: &Journal, payload: &[u8], group: usize) -> Result<Vec<(Instant, Pending)>> {
    let one = |_| {
        // A caller waits for these records. Events are collected for a moment, which matters only for a single record.
        let entry = Entry { payload: payload.to_vec(), is_event: false };
        Ok((Instant::now(), journal.append_blocking(entry)?))
    };
    (0..group).map(one).collect()
}
