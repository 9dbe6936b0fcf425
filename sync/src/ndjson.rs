//! The lines sink: events as newline-delimited JSON in the bucket, for houses whose central side has no Postgres.
//!
//! It takes the place of the rows sink and keeps its rules: the journal is the queue, the central side knows where it
//! stands, the local cursor only says what may be forgotten. A file is named by the journal position that it follows, so
//! the next one's name is known without a list, and it is written only where nothing is. Crash story: a file that was
//! written and not noted is found under the next name; what it says of its end is taken over and nothing is written
//! twice. A request that a server carries out late finds the name taken.
//!
//! Lines say much of the same again and again, and the line may be thin: they leave compressed.
//! Nobody is named: what lies in such files cannot be taken back, so an erasure has nothing to look for there.

mod format;

use std::sync::Arc;

use gatehouse_central::error::{GuardFault, SyncError};
use gatehouse_central::objects::{Limits, Objects, Put};
use gatehouse_central::throttle::Throttle;
use gatehouse_config::Config;
use gatehouse_journal::Position;
use gatehouse_store::store::{Change, Feed};

use crate::sink::{Outlet, Progress};

/// How hard lines are pressed: further costs an appliance more time than it saves on the line.
const ZSTD_LEVEL: i32 = 3;
/// Journal records without interest after which the cursor is moved all the same.
const QUIET_RECORDS: u64 = 4096;
/// MIME type of a file.
const CONTENT_TYPE: &str = "application/zstd";
/// Names of what a file says of itself: where it ends.
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
    /// How far the bucket has everything.
    cursor: Position,
    /// How far the journal was read; past the cursor where nothing of interest came.
    after: Position,
}

impl NdjsonSink {
    /// For a configuration with `[central.objects]`. Nothing is sent yet.
    pub(crate) fn new(config: &Config, feed: Feed, throttle: Arc<Throttle>) -> Self {
        Self { config: config.clone(), feed, throttle, session: None }
    }

    /// Below a folder of the state directory's own: a second one under the same device id is not mixed with it.
    fn key(&self, after: Position) -> String {
        let (device, state) = (&self.config.device.id, self.feed.state_id());
        format!("devices/{device}/lines/{state}/{:020}.ndjson.zst", after.lsn)
    }

    /// Finds where the bucket stands: the files that follow the local cursor and were not noted.
    async fn open(&self) -> Result<Session, SyncError> {
        let objects = Arc::new(Objects::open(&self.config, Limits::default())?);
        objects.guard().await?;
        let mut cursor = self.feed.rows_cursor();
        while let Some(said) = objects.said(&self.key(cursor)).await? {
            cursor =
                end_of(&said).filter(|end| end.lsn > cursor.lsn).ok_or_else(|| strange(&self.key(cursor)))?;
            let head = *self.feed.watch().borrow();
            if cursor.lsn > head.lsn {
                return Err(GuardFault::Ahead { theirs: cursor.lsn, ours: head.lsn }.into());
            }
        }
        self.moved(cursor).await?;
        Ok(Session { objects, cursor, after: cursor })
    }

    async fn moved(&self, upto: Position) -> Result<(), SyncError> {
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
        let says = [(UPTO_LSN, lsn.as_str()), (UPTO_SEQ, seq.as_str())];
        let key = self.key(session.cursor);
        let pressed = pressed(&text)?;
        self.throttle.pay(pressed.len() as u64);
        match session.objects.put_new(&key, CONTENT_TYPE, pressed, &says).await? {
            Put::Written => {}
            // Written before and not noted, or by a request of before that came late: the next look takes it over.
            Put::Taken => {
                let words = format!("`{key}` is there already");
                return Err(SyncError::Busy { doing: "write lines to S3", code: "taken".into(), words });
            }
        }
        let delivered = end.seq - session.cursor.seq;
        self.moved(end).await?;
        (session.cursor, session.after) = (end, end);
        Ok(Progress { delivered, more, ..Progress::default() })
    }
}

fn pressed(text: &str) -> Result<Vec<u8>, SyncError> {
    zstd::bulk::compress(text.as_bytes(), ZSTD_LEVEL).map_err(SyncError::store("compress lines"))
}

/// The position that a file says that it ends at.
fn end_of(said: &[(String, String)]) -> Option<Position> {
    let number = |name: &str| said.iter().find(|(known, _)| known == name)?.1.parse().ok();
    Some(Position { lsn: number(UPTO_LSN)?, seq: number(UPTO_SEQ)? })
}

fn strange(key: &str) -> SyncError {
    let words = format!("`{key}` does not say where it ends: somebody else wrote it; move it away");
    SyncError::Refused { doing: "read lines in S3", code: "conflict".into(), words }
}

impl Outlet for NdjsonSink {
    async fn push(&mut self) -> Result<Progress, SyncError> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.open().await?,
        };
        // A push that is cut off or fails loses the session: the next one looks where the bucket stands.
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
