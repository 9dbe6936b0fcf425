//! The final verification: what was sent is compared with the ledger, Postgres and S3. All counts are taken
//! independently of the daemon.

use std::collections::BTreeSet;

use anyhow::Result;
use gatehouse_testkit::postgres::Database;
use tokio::task::block_in_place;

use crate::answers::{Answers, Latency};
use crate::environment::{BUCKET, DEVICE, Environment};
use crate::report::Report;
use crate::screen::Screen;
use crate::traffic::Traffic;

/// Prints claims and remembers whether all hold.
struct Verification<'a> {
    screen: &'a Screen,
    holds: bool,
}

impl Verification<'_> {
    fn claim(&mut self, holds: bool, text: &str) {
        self.holds &= holds;
        let mark = if holds { self.screen.green("  ok ") } else { self.screen.red("WRONG") };
        self.screen.line(&format!("{mark} {text}"));
    }

    fn detail(&self, text: &str) {
        self.screen.line(&format!("      {text}"));
    }
}

/// Stops the daemon and compares all counts; true if they agree.
pub(crate) async fn run(
    screen: &Screen,
    mut environment: Environment,
    traffic: &Traffic,
    answers: &mut Answers,
) -> Result<bool> {
    let report = Report::read(&environment.daemon)?;
    let status = block_in_place(|| environment.daemon.terminate())?;
    screen.clear();
    let mut verification = Verification { screen, holds: true };
    verification.claim(status.success(), "gatehoused delivered the rest and exited");
    identifications(&mut verification, traffic, answers);
    ledger(&mut verification, &report, traffic);
    if let Some(rows) = &environment.rows {
        database(&mut verification, &rows.database, &report).await?;
    }
    objects(&mut verification, &environment, traffic).await?;
    let verdict = if verification.holds {
        screen.green("Everything adds up.")
    } else {
        screen.red("IT DOES NOT ADD UP.")
    };
    screen.line(&format!("\n{verdict}"));
    Ok(verification.holds)
}

/// Every valid event was answered.
fn identifications(verification: &mut Verification<'_>, traffic: &Traffic, answers: &mut Answers) {
    let (sent, answered) = (traffic.visits.len(), answers.identified.len());
    let Latency { p50, p99 } = answers.latency();
    let text = format!("{answered} of {sent} events answered; latency p50 {p50:.1} ms, p99 {p99:.1} ms");
    verification.claim(sent == answered, &text);
    let Answers { right, missed, strangers, wrong, replayed, refused, .. } = answers;
    verification.detail(&format!("{right} residents identified, {missed} missed: poor pictures, on purpose"));
    verification.detail(&format!("{strangers} strangers not matched, {wrong} people mistaken for another"));
    let text = format!("{replayed} repeated events marked as replayed, {refused} malformed refused");
    // A broker can deliver a message again, so there can be more, but never fewer.
    verification.claim(*replayed >= traffic.repeated && *refused >= traffic.malformed, &text);
}

/// The ledger adds up and agrees with what was sent.
fn ledger(verification: &mut Verification<'_>, report: &Report, traffic: &Traffic) {
    verification.claim(report.add_up(), "the ledger adds up:");
    for (column, name) in [("events", "events"), ("files", "pictures"), ("bytes", "bytes")] {
        verification.detail(&format!("{name:<9}{}", report.received(column)));
        verification.detail(&format!("{:<9}{}", "", report.stored(column)));
    }
    let (sent, pictures) = (traffic.visits.len() as u64, traffic.pictures());
    let agrees = report.number("events", "stored") == sent
        && report.number("files", "stored") == pictures
        && report.sum("events", "rejected") >= traffic.malformed
        && report.number("events", "duplicate") >= traffic.repeated;
    verification.claim(agrees, &format!("the cameras sent the same: {sent} events, {pictures} pictures"));
}

/// Postgres has every event exactly once.
async fn database(verification: &mut Verification<'_>, database: &Database, report: &Report) -> Result<()> {
    let client = database.ready().await?;
    let row = client
        .query_one(
            "SELECT count(*), count(DISTINCT seq), coalesce(min(seq), 0), coalesce(max(seq), 0)
             FROM gatehouse.events WHERE device_id = $1",
            &[&DEVICE],
        )
        .await?;
    let number = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
    let (count, distinct, first, last) = (number(0), number(1), number(2), number(3));
    let stored = report.number("events", "stored");
    let is_complete = count == stored && distinct == stored && first == 1.min(stored) && last == stored;
    let text = format!("Postgres: {count} events, numbered {first} to {last}, no gap, no duplicate");
    verification.claim(is_complete && report.number("events", "pending") == 0, &text);
    let query = "SELECT count(*) FROM gatehouse.files WHERE (s3_key LIKE '%/thumbnails/%') = $1";
    let (files, thumbnails) =
        (client.query_one(query, &[&false]).await?, client.query_one(query, &[&true]).await?);
    let (files, thumbnails) = (files.get::<_, i64>(0), thumbnails.get::<_, i64>(0));
    let agrees =
        u64::try_from(files).unwrap_or(0) == report.number("files", "delivered") && files == thumbnails;
    verification.claim(agrees, &format!("Postgres: {files} pictures, each with a thumbnail"));
    Ok(())
}

/// S3 has every picture byte for byte with its thumbnail, and no other object.
async fn objects(
    verification: &mut Verification<'_>,
    environment: &Environment,
    traffic: &Traffic,
) -> Result<()> {
    let objects = environment.s3.objects();
    let keys = objects.list(BUCKET, &format!("devices/{DEVICE}/events/")).await?;
    let (thumbnails, keys): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.contains("/thumbnails/"));
    let mut same = BTreeSet::new();
    for key in &keys {
        // devices/<device>/events/<yyyy>/<mm>/<dd>/<camera>/<event id>/<name>
        let parts: Vec<&str> = key.split('/').collect();
        let [.., camera, id, _] = parts[..] else { continue };
        let Some(visit) = traffic.visits.get(id).filter(|visit| visit.camera == camera) else { continue };
        if visit.picture.as_deref() == Some(objects.get(BUCKET, key).await?.as_slice()) {
            same.insert(id);
        }
    }
    let (stored, sent) = (keys.len() as u64, traffic.pictures());
    let text = format!("S3: {stored} pictures with thumbnails, {} identical to what was sent", same.len());
    let agrees = stored == sent && same.len() as u64 == sent && thumbnails.len() as u64 == sent;
    verification.claim(agrees, &text);
    Ok(())
}
