//! The writer of central rows: contract 4, one transaction per batch.
//!
//! Order within the transaction: lock and verify the cursor of the device; events (binary COPY into a temporary table,
//! then one INSERT, because row-level security refuses COPY); rows of kind `lost`; files; erasures; the cursor, last.
//! Partitions are created before, each in its own transaction, so that devices do not wait for each other.
//!
//! - Exactly once: changes at or before the cursor are skipped, and moving the cursor requires its row lock. If a
//!   connection breaks during COMMIT, the outcome is unknown, and the next sign-in reads the cursor.
//! - No gap: `seq` increases by one from the cursor. Rows of kind `lost` replace events missing in the journal, so
//!   that a loss is visible and all later events still arrive.
//! - Refused data: what Postgres refuses for its content is found by halving the batch, and written in a reduced form.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Datelike, Utc};
use futures_util::SinkExt as _;
use gatehouse_central::error::{GuardFault, SyncError};
use gatehouse_central::rows::{
    self, BATCH_TIMEOUT, CALL_TIMEOUT, Identity, LastEvent, Link, Standing, Value, Waiting, shared_people,
    timed, to_datetime, to_i64,
};
use gatehouse_config::Rows as RowsConfig;
use gatehouse_journal::Position;
use gatehouse_model::Timestamp;
use gatehouse_store::clock::{self, ClockSource, ReferenceTime};
use gatehouse_store::store::{Change, Feed, People};
use tokio_postgres::{Statement, ToStatement};

use crate::rows::batch::{self, Batch, Files};
use crate::rows::copy::{self, Form};
use crate::rows::erase::Erasure;
use crate::rows::erasure_statements::ErasureStatements;
use crate::rows::people_sync::{self, Taken};

/// Months whose partitions are known to exist. A batch spans one or two, with a wrong clock a few more.
const MONTHS_MAX: usize = 100;

const INSERT_LOST: &str = "insert into gatehouse.events (device_id, seq, event_id, camera, kind, received_at, \
     identification, attributes) \
     select $1, n, 'lost-' || n, 'lost', 'lost', $4, '{}', '{}' from generate_series($2::bigint, $3::bigint) n";

const MOVE_CURSOR: &str =
    "update gatehouse.device_cursors set lsn = $2, seq = $3, moved_at = now() where device_id = $1";

/// A signed-in session that writes the changes of one device.
pub struct Writer {
    link: Link,
    identity: Identity,
    cursor: Position,
    last: Option<LastEvent>,
    months: BTreeSet<(i32, u32)>,
    statements: Statements,
    /// True from BEGIN to the end of the transaction. An interrupted call leaves it true.
    open: bool,
    /// Whether people are shared.
    people: bool,
    /// Signs statements about erasures; none where people are not shared.
    signed: Option<ErasureStatements>,
    /// Bytes of events sent since the last [`Writer::take_sent`].
    sent: AtomicU64,
    /// Maximum number of changes of the next transaction. A refusal halves it, a success doubles it.
    changes_max: usize,
}

struct Statements {
    lock: Statement,
    copy: Statement,
    insert: Statement,
    cursor: Statement,
}

/// Result of [`Writer::deliver`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Changes at the front of the slice that are central now, or were already.
    pub taken: usize,
    /// Events written.
    pub events: u64,
    /// What was written in a reduced form or left out, as texts.
    pub set_aside: Vec<String>,
}

impl Writer {
    /// Connects and signs in. Existing rows are not changed. Check [`Writer::last_event`] and [`Writer::cursor`]
    /// before the first delivery.
    ///
    /// # Errors
    /// [`SyncError`]. If the database is not the right one, nothing was written.
    pub async fn open(rows: &RowsConfig, identity: Identity) -> Result<Self, SyncError> {
        const DOING: &str = "prepare statements at Postgres";
        let mut link = rows::connect(rows).await?;
        let Standing { cursor, last } = rows::sign_in(&mut link, &identity).await?;
        timed(DOING, CALL_TIMEOUT, link.client.batch_execute(copy::STAGING)).await?;
        let statements = Statements {
            lock: timed(DOING, CALL_TIMEOUT, link.client.prepare(rows::LOCK_CURSOR)).await?,
            copy: timed(DOING, CALL_TIMEOUT, link.client.prepare(copy::STATEMENT)).await?,
            insert: timed(DOING, CALL_TIMEOUT, link.client.prepare(copy::INSERT)).await?,
            cursor: timed(DOING, CALL_TIMEOUT, link.client.prepare(MOVE_CURSOR)).await?,
        };
        Ok(Self {
            link,
            identity,
            cursor,
            last,
            months: BTreeSet::new(),
            statements,
            open: false,
            people: false,
            signed: None,
            sent: AtomicU64::new(0),
            changes_max: usize::MAX,
        })
    }

    /// The event at the cursor, as it was at sign-in.
    pub fn last_event(&self) -> Option<&LastEvent> {
        self.last.as_ref()
    }

    /// Records in the database that this appliance is connected, and its pending items.
    ///
    /// # Errors
    /// [`SyncError`] where the call fails.
    pub async fn announce(&self, waiting: Waiting) -> Result<(), SyncError> {
        rows::announce(&self.link, &self.identity, waiting).await
    }

    /// The time of this server. None if its clock cannot be correct either.
    ///
    /// # Errors
    /// [`SyncError`] where the call fails.
    pub async fn time(&self) -> Result<Option<ReferenceTime>, SyncError> {
        let from = clock::uptime();
        let asked = self.link.client.query_one("select clock_timestamp()", &[]);
        let server_time: DateTime<Utc> =
            timed("query the time of Postgres", CALL_TIMEOUT, asked).await?.get(0);
        let to = clock::uptime();
        Ok(ReferenceTime::asked(ClockSource::Rows, Timestamp(server_time.timestamp_micros()), from, to))
    }

    /// Starts to share people, if the schema supports it. Known people are uploaded first. Returns a text if people
    /// cannot be shared although everything else works.
    ///
    /// # Errors
    /// [`SyncError`] where a call fails.
    pub async fn share_people(&mut self, people: &People, feed: &Feed) -> Result<Option<String>, SyncError> {
        let device = &self.identity.device;
        let Some(key) = people.deployment() else { return Ok(None) };
        self.people = match shared_people::start_sharing(&self.link, device, key).await {
            Ok(shared) => shared,
            Err(SyncError::Guard(fault)) => return Ok(Some(format!("people are not shared: {fault}"))),
            Err(error) => return Err(error),
        };
        match self.people {
            true => {
                let signed = self.signed.insert(ErasureStatements::new(&self.identity, feed).await?);
                people_sync::reconcile(&self.link, device, people, signed).await
            }
            false => Ok(Some(format!("people are not shared: {}", shared_people::TOO_OLD))),
        }
    }

    /// Reports that this database has a lower cursor than it has confirmed for `delivered` before.
    pub(crate) async fn report_restore(&self, delivered: u64) -> Result<(), SyncError> {
        shared_people::report_restore(&self.link, &self.identity.device, delivered).await
    }

    /// Downloads the next changes of people, if people are shared.
    pub(crate) async fn take_people(&self, people: &People) -> Result<Taken, SyncError> {
        match &self.signed {
            Some(signed) => people_sync::take(&self.link, &self.identity.device, people, signed).await,
            None => Ok(Taken::default()),
        }
    }

    /// Resolves when people changed centrally (true), or the connection is closed (false).
    pub(crate) async fn people_changed(&mut self) -> bool {
        match self.people {
            true => self.link.news.changed().await.is_ok(),
            false => std::future::pending().await,
        }
    }

    /// Bytes of events that were sent since the last call.
    pub(crate) fn take_sent(&self) -> u64 {
        self.sent.swap(0, Ordering::Relaxed)
    }

    /// How far this device has delivered, according to the database.
    pub fn cursor(&self) -> Position {
        self.cursor
    }

    /// Sends erasures ahead of their batch, each in its own transaction.
    pub(crate) async fn erase(&self, changes: &[Change]) -> Result<(), SyncError> {
        for erasure in changes.iter().filter_map(Erasure::of) {
            if self.people {
                erasure.erase_everywhere(&self.link, &self.identity.device).await?;
            }
            erasure.erase_from_events(&self.link, &self.identity.device).await?;
        }
        Ok(())
    }

    /// Delivers a part from the front of `changes` (ascending), at least one of them. Changes at or before the cursor
    /// count as delivered.
    ///
    /// # Errors
    /// [`SyncError`]. The writer must not be used further: open a new one.
    pub async fn deliver(&mut self, changes: &[Change]) -> Result<Delivered, SyncError> {
        let known = changes.partition_point(|change| change.position().lsn <= self.cursor.lsn);
        let fresh = &changes[known..];
        if fresh.is_empty() {
            return Ok(Delivered { taken: known, ..Delivered::default() });
        }
        let mut take = self.changes_max.clamp(1, fresh.len());
        let mut form = Form::Whole;
        loop {
            let batch = Batch::new(self.cursor, &fresh[..take])?;
            let error = match self.write(&batch, &form).await {
                Ok(()) => {
                    if take >= self.changes_max {
                        self.changes_max = self.changes_max.saturating_mul(2);
                    }
                    self.cursor = batch.end;
                    return Ok(Delivered {
                        taken: known + take,
                        events: batch.rows(),
                        set_aside: batch.notes(&form),
                    });
                }
                Err(error) => error,
            };
            // After a timeout the session may hang. Only a responsive session can be used to find the refused change.
            if !error.is_permanent() {
                return Err(error);
            }
            self.roll_back().await?;
            if take > 1 {
                take /= 2;
                self.changes_max = take;
            } else {
                form = batch.reduced(&form, error)?;
            }
        }
    }

    async fn write(&mut self, batch: &Batch<'_>, form: &Form) -> Result<(), SyncError> {
        const BEGIN: &str = "lock the cursor in Postgres";
        if self.open {
            return Err(SyncError::Unreachable {
                doing: BEGIN,
                message: "the session was interrupted".to_owned(),
            });
        }
        self.ensure_months(batch).await?;
        self.upload_people(batch, form).await?;
        self.open = true;
        let (client, identity) = (&self.link.client, &self.identity);
        let device: [&Value<'_>; 1] = [&identity.device];
        // Both are sent in one packet, which saves a round trip on a slow connection.
        let begin = timed(BEGIN, CALL_TIMEOUT, client.batch_execute("begin"));
        let (begun, row) =
            tokio::join!(begin, timed(BEGIN, CALL_TIMEOUT, client.query_opt(&self.statements.lock, &device)));
        begun?;
        let row = row?.ok_or(GuardFault::NotPrepared {
            place: "the database",
            message: "the cursor of this appliance is missing".to_owned(),
        })?;
        if rows::verify(&row, identity)? != self.cursor {
            let message = "another session of this appliance has moved its cursor".to_owned();
            return Err(SyncError::Busy { doing: BEGIN, code: "cursor".to_owned(), message });
        }
        match tokio::time::timeout(BATCH_TIMEOUT, self.fill(batch, form)).await {
            Ok(filled) => filled?,
            Err(_) => {
                return Err(SyncError::Deadline { doing: "write rows to Postgres", after: BATCH_TIMEOUT });
            }
        }
        self.open = false;
        Ok(())
    }

    /// Everything from BEGIN to COMMIT. The caller sets the deadline.
    async fn fill(&self, batch: &Batch<'_>, form: &Form) -> Result<(), SyncError> {
        if batch.events.is_empty() {
            return self.follow(batch, form).await;
        }
        self.copy_events(batch, form).await?;
        // The rest is sent in the same packet, which saves a round trip on a slow connection. If the first statement
        // fails, so do all others, and COMMIT rolls back.
        let insert = self.execute("write events to Postgres", &self.statements.insert, &[]);
        let (inserted, followed) = tokio::join!(insert, self.follow(batch, form));
        inserted.and(followed)
    }

    /// Everything except the events, then the cursor and COMMIT in one packet.
    async fn follow(&self, batch: &Batch<'_>, form: &Form) -> Result<(), SyncError> {
        const DOING: &str = "write rows to Postgres";
        let device = &self.identity.device;
        for lost in &batch.lost {
            let at = to_datetime(lost.received_at);
            self.execute(DOING, INSERT_LOST, &[device, &to_i64(lost.from), &to_i64(lost.to), &at]).await?;
        }
        if !batch.files.is_empty() && *form == Form::Whole {
            self.insert_files(&Files::new(&batch.files)).await?;
        }
        if !batch.erased_files.is_empty() {
            let erase = "select gatehouse.erase_files($1, $2)";
            self.execute(DOING, erase, &[device, &batch.erased_files]).await?;
        }
        for erasure in &batch.erasures {
            erasure.erase_from_events(&self.link, device).await?;
        }
        if let Some(signed) = &self.signed {
            for statement in &batch.statements {
                signed.send(&self.link, device, statement).await?;
            }
        }
        let (lsn, seq) = (to_i64(batch.end.lsn), to_i64(batch.end.seq));
        let values: [&Value<'_>; 3] = [device, &lsn, &seq];
        let cursor = self.execute(DOING, &self.statements.cursor, &values);
        let commit = timed("commit at Postgres", CALL_TIMEOUT, self.link.client.batch_execute("commit"));
        let (moved, committed) = tokio::join!(cursor, commit);
        moved.and(committed)
    }

    async fn insert_files(&self, files: &Files<'_>) -> Result<(), SyncError> {
        const DOING: &str = "write rows of files to Postgres";
        let Files { ids, buckets, keys, sizes, mimes, sums, entities, faults } = files;
        let device = &self.identity.device;
        let columns: [&Value<'_>; 9] = [device, ids, buckets, keys, sizes, mimes, sums, entities, faults];
        self.execute(DOING, batch::INSERT_FILES, &columns).await
    }

    async fn execute<S>(
        &self,
        doing: &'static str,
        statement: &S,
        values: &[&Value<'_>],
    ) -> Result<(), SyncError>
    where
        S: ?Sized + ToStatement,
    {
        timed(doing, BATCH_TIMEOUT, self.link.client.execute(statement, values)).await.map(drop)
    }

    async fn copy_events(&self, batch: &Batch<'_>, form: &Form) -> Result<(), SyncError> {
        const DOING: &str = "copy events to Postgres";
        let mut sink =
            Box::pin(timed(DOING, BATCH_TIMEOUT, self.link.client.copy_in(&self.statements.copy)).await?);
        let mut rows = copy::Rows::new();
        for visit in &batch.events {
            rows.push(&self.identity.device, visit, form);
            if let Some(piece) = rows.piece() {
                self.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
                timed(DOING, BATCH_TIMEOUT, sink.feed(piece)).await?;
            }
        }
        let rest = rows.finish();
        self.sent.fetch_add(rest.len() as u64, Ordering::Relaxed);
        timed(DOING, BATCH_TIMEOUT, sink.feed(rest)).await?;
        timed(DOING, BATCH_TIMEOUT, sink.as_mut().finish()).await?;
        Ok(())
    }

    /// Before the transaction, because other appliances wait for the lock on people.
    async fn upload_people(&self, batch: &Batch<'_>, form: &Form) -> Result<(), SyncError> {
        if !self.people {
            return Ok(());
        }
        let device = &self.identity.device;
        for erasure in &batch.erasures {
            erasure.erase_everywhere(&self.link, device).await?;
        }
        match form {
            Form::Whole => shared_people::upload(&self.link, device, &batch.people).await,
            _ => Ok(()),
        }
    }

    async fn ensure_months(&mut self, batch: &Batch<'_>) -> Result<(), SyncError> {
        const PARTITION: &str = "create a partition in Postgres";
        for at in batch.times().map(to_datetime) {
            if self.months.contains(&month(at)) {
                continue;
            }
            let client = &self.link.client;
            timed(PARTITION, CALL_TIMEOUT, client.execute("select gatehouse.ensure_month($1)", &[&at]))
                .await?;
            if self.months.len() >= MONTHS_MAX {
                self.months.clear();
            }
            self.months.insert(month(at));
        }
        Ok(())
    }

    async fn roll_back(&mut self) -> Result<(), SyncError> {
        timed("roll back at Postgres", CALL_TIMEOUT, self.link.client.batch_execute("rollback")).await?;
        self.open = false;
        Ok(())
    }
}

fn month(at: DateTime<Utc>) -> (i32, u32) {
    (at.year(), at.month())
}
