//! The lines sink: events as newline-delimited JSON in the bucket, for deployments without Postgres.
//!
//! It replaces the rows sink and follows its rules: the journal is the queue, the bucket is authoritative for the
//! cursor, and the local cursor only says what may be removed locally. A file is named by the journal position that it
//! follows. So the name of the next one is known without a listing, and a file is only created, never replaced.
//!
//! After a crash: a file that was written and not recorded is found under the next name. Its metadata say where it
//! ends, so nothing is written twice. A request that a server executes late finds the name in use.
//!
//! Files are compressed, because lines repeat much and the connection may be slow. They name no person, because they
//! cannot be changed later and an erasure must not need to.

mod format;

use std::sync::Arc;

use gatehouse_central::error::{GuardFault, SyncError};
use gatehouse_central::objects::{Limits, Objects, Put};
use gatehouse_central::throttle::Throttle;
use gatehouse_config::Config;
use gatehouse_journal::Position;
use gatehouse_store::store::{Change, Feed};

use crate::sink::{Progress, SinkDriver};

/// Compression level. Higher levels cost an appliance more time than they save on the connection.
const ZSTD_LEVEL: i32 = 3;
/// Number of irrelevant journal records after which the cursor moves anyway.
const QUIET_RECORDS: u64 = 4096;
/// MIME type of a file.
const CONTENT_TYPE: &str = "application/zstd";
/// Names of the metadata of a file: the position at which it ends.
const UPTO_LSN: &str = "upto-lsn";
const UPTO_SEQ: &str = "upto-seq";

const READING: &str = "read the journal";

/// The sink.
pub(crate) struct NdjsonSink {
    config: Config,
    feed: Feed,
    throttle: Arc<Throttle>,
    session: Option<Session>,
}

struct Session {
    objects: Arc<Objects>,
    /// Position up to which the bucket is complete.
    cursor: Position,
    /// Position up to which the journal was read. It is past the cursor if the records after it are irrelevant.
    after: Position,
}

impl NdjsonSink {
    /// For a configuration with `[central.objects]`. Nothing is sent yet.
    pub(crate) fn new(config: &Config, feed: Feed, throttle: Arc<Throttle>) -> Self {
        Self { config: config.clone(), feed, throttle, session: None }
    }

    /// The folder contains the id of the state directory, so that two of them with one device id are not mixed.
    fn key(&self, after: Position) -> String {
        let (device, state) = (&self.config.device.id, self.feed.state_id());
        format!("devices/{device}/lines/{state}/{:020}.ndjson.zst", after.lsn)
    }

    /// Finds the cursor of the bucket: follows the files after the local cursor that were not recorded.
    async fn open(&self) -> Result<Session, SyncError> {
        let objects = Arc::new(Objects::open(&self.config, Limits::default())?);
        objects.guard().await?;
        let mut cursor = self.feed.rows_cursor();
        while let Some(metadata_of) = objects.metadata_of(&self.key(cursor)).await? {
            cursor = end_of(&metadata_of)
                .filter(|end| end.lsn > cursor.lsn)
                .ok_or_else(|| foreign_file(&self.key(cursor)))?;
            let head = *self.feed.watch().borrow();
            if cursor.lsn > head.lsn {
                return Err(GuardFault::Ahead { theirs: cursor.lsn, ours: head.lsn }.into());
            }
        }
        self.advance_cursor(cursor).await?;
        Ok(Session { objects, cursor, after: cursor })
    }

    async fn advance_cursor(&self, upto: Position) -> Result<(), SyncError> {
        self.feed.rows_delivered(upto).await.map_err(SyncError::store("move the local cursor"))
    }

    async fn push_with(&self, session: &mut Session) -> Result<Progress, SyncError> {
        let (feed, after, limit) = (self.feed.clone(), session.after, self.config.sync.batch_events.max(1));
        let read = tokio::task::spawn_blocking(move || feed.changes(after, limit)).await;
        let changes = read.map_err(SyncError::store(READING))?.map_err(SyncError::store(READING))?;
        let Some(end) = changes.last().map(Change::position) else { return Ok(Progress::default()) };
        let more = changes.len() >= limit;
        let text = format::lines(&self.config.device.id, session.cursor, &changes);
        if text.is_empty() && end.lsn - session.cursor.lsn < QUIET_RECORDS {
            session.after = end;
            return Ok(Progress { more: end.lsn < self.feed.watch().borrow().lsn, ..Progress::default() });
        }
        let (lsn, seq) = (end.lsn.to_string(), end.seq.to_string());
        let metadata = [(UPTO_LSN, lsn.as_str()), (UPTO_SEQ, seq.as_str())];
        let key = self.key(session.cursor);
        let compressed = compressed(&text)?;
        self.throttle.pay(compressed.len() as u64);
        match session.objects.put_new(&key, CONTENT_TYPE, compressed, &metadata).await? {
            Put::Written => {}
            // Written before and not recorded, or by a late request. The next session finds it and goes on after it.
            Put::Taken => {
                let message = format!("`{key}` is there already");
                return Err(SyncError::Busy { doing: "write lines to S3", code: "taken".into(), message });
            }
        }
        let delivered = end.seq - session.cursor.seq;
        self.advance_cursor(end).await?;
        (session.cursor, session.after) = (end, end);
        Ok(Progress { delivered, more, ..Progress::default() })
    }
}

fn compressed(text: &str) -> Result<Vec<u8>, SyncError> {
    zstd::bulk::compress(text.as_bytes(), ZSTD_LEVEL).map_err(SyncError::store("compress lines"))
}

/// The position at which a file ends, according to its metadata.
fn end_of(metadata_of: &[(String, String)]) -> Option<Position> {
    let number = |name: &str| metadata_of.iter().find(|(known, _)| known == name)?.1.parse().ok();
    Some(Position { lsn: number(UPTO_LSN)?, seq: number(UPTO_SEQ)? })
}

fn foreign_file(key: &str) -> SyncError {
    let message = format!("`{key}` has no metadata about its end: another program wrote it; move it away");
    SyncError::Refused { doing: "read lines in S3", code: "conflict".into(), message }
}

impl SinkDriver for NdjsonSink {
    async fn push(&mut self) -> Result<Progress, SyncError> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.open().await?,
        };
        // An interrupted or failed push drops the session. The next one reads the cursor of the bucket again.
        let pushed = self.push_with(&mut session).await?;
        self.session = Some(session);
        Ok(pushed)
    }

    fn reset(&mut self) {
        self.session = None;
    }
}

#[cfg(test)]
mod tests;
