//! The closing summary: what was sent, what the ledger says, what Postgres and S3 hold. Everything is counted from
//! outside, and compared.

use std::collections::BTreeSet;

use anyhow::Result;
use gatehouse_testkit::postgres::Database;
use tokio::task::block_in_place;

use crate::answers::Answers;
use crate::books::Books;
use crate::screen::Screen;
use crate::stage::{BUCKET, DEVICE, Stage};
use crate::traffic::Traffic;

/// Collects claims and whether they hold.
struct Proof<'a> {
    screen: &'a Screen,
    holds: bool,
}

impl Proof<'_> {
    fn claim(&mut self, holds: bool, words: &str) {
        self.holds &= holds;
        let mark = if holds { self.screen.green("  ok ") } else { self.screen.red("WRONG") };
        self.screen.line(&format!(" {mark}  {words}"));
    }
}

/// Ends the daemon and compares all books; true where they agree.
pub(crate) async fn close(
    screen: &Screen,
    mut stage: Stage,
    traffic: &Traffic,
    answers: &mut Answers,
) -> Result<bool> {
    let books = Books::read(&stage.daemon)?;
    let status = block_in_place(|| stage.daemon.terminate())?;
    screen.clear();
    let mut proof = Proof { screen, holds: true };
    proof.claim(status.success(), "gatehoused drained and ended in order");
    door(&mut proof, traffic, answers);
    ledger(&mut proof, &books, traffic);
    if let Some((_, database)) = &stage.rows {
        rows(&mut proof, database, &books).await?;
    }
    objects(&mut proof, &stage, traffic).await?;
    let verdict =
        if proof.holds { screen.green("Everything adds up.") } else { screen.red("IT DOES NOT ADD UP.") };
    screen.line(&format!("\n{}", screen.bold(&verdict)));
    Ok(proof.holds)
}

/// Every valid event was answered.
fn door(proof: &mut Proof<'_>, traffic: &Traffic, answers: &mut Answers) {
    let (sent, answered) = (traffic.visits.len(), answers.identified.len());
    let (p50, p99) = answers.latency();
    let words = format!(
        "the door got an answer to {answered} of {sent} events; PUBLISH to answer p50 {p50:.1} ms, p99 {p99:.1} ms"
    );
    proof.claim(sent == answered, &words);
    let words = format!(
        "       {} residents recognised, {} missed, {} strangers told as such, {} taken for somebody else",
        answers.right, answers.missed, answers.strangers, answers.wrong
    );
    proof.screen.line(&words);
    let words = format!(
        "{} repeated events were told as replayed, {} broken messages refused",
        answers.replayed, answers.refused
    );
    // A broker that delivers again gives more, never fewer.
    proof.claim(answers.replayed >= traffic.repeated && answers.refused >= traffic.malformed, &words);
}

/// The ledger adds up, and agrees with what was sent.
fn ledger(proof: &mut Proof<'_>, books: &Books, traffic: &Traffic) {
    for column in ["events", "files", "bytes"] {
        let (received, stored) = (books.received(column), books.stored(column));
        proof.claim(books.add_up(), &format!("ledger of {column}: {received}; {stored}"));
    }
    let (sent, pictures) = (traffic.visits.len() as u64, traffic.pictures());
    let agrees = books.number("events", "stored") == sent
        && books.number("files", "stored") == pictures
        && books.sum("events", "rejected") >= traffic.malformed
        && books.number("events", "duplicate") >= traffic.repeated;
    proof.claim(
        agrees,
        &format!("it agrees with the cameras: {sent} events and {pictures} pictures were sent"),
    );
}

/// Postgres holds every event once.
async fn rows(proof: &mut Proof<'_>, database: &Database, books: &Books) -> Result<()> {
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
    let stored = books.number("events", "stored");
    let is_whole = count == stored && distinct == stored && first == 1.min(stored) && last == stored;
    let words = format!("Postgres holds {count} events, numbered {first} to {last}, no hole and no double");
    proof.claim(is_whole && books.number("events", "pending") == 0, &words);
    let query = "SELECT count(*) FROM gatehouse.files WHERE (s3_key LIKE '%/thumbnails/%') = $1";
    let (files, thumbnails) =
        (client.query_one(query, &[&false]).await?, client.query_one(query, &[&true]).await?);
    let (files, thumbnails) = (files.get::<_, i64>(0), thumbnails.get::<_, i64>(0));
    let agrees =
        u64::try_from(files).unwrap_or(0) == books.number("files", "delivered") && files == thumbnails;
    proof.claim(agrees, &format!("Postgres lists {files} files, and a thumbnail of each"));
    Ok(())
}

/// S3 holds every picture byte for byte with its thumbnail, and no other.
async fn objects(proof: &mut Proof<'_>, stage: &Stage, traffic: &Traffic) -> Result<()> {
    let objects = stage.s3.objects();
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
    let (held, sent) = (keys.len() as u64, traffic.pictures());
    let words = format!(
        "S3 holds {held} pictures with thumbnails, {} of them byte for byte as the cameras sent them",
        same.len()
    );
    proof.claim(held == sent && same.len() as u64 == sent && thumbnails.len() as u64 == sent, &words);
    Ok(())
}
