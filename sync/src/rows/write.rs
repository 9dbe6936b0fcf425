//! The writer of central rows: contract 4 in one transaction per batch.
//!
//! Order within the transaction: lock the device's cursor and check whose it is; events (binary COPY into a
//! table of the session, then one INSERT, since row-level security refuses COPY); stand-ins for
//! events that the local disk lost; files; erasures; the cursor, last. Partitions are made before it, each in a
//! transaction of its own, so that devices do not wait for each other.
//!
//! Exactly once: a change at or before the cursor is left out, and whoever moves the cursor holds its row lock. A
//! connection that is lost during COMMIT leaves the outcome open; the next sign-in reads the cursor, which tells.
//! No hole: `seq` of what is written goes on from the cursor's by one each; where the journal jumps, rows of kind
//! `lost` stand in, so that a loss is seen and everything after it still arrives.
//! Poison: what Postgres refuses for its content is found by halving the batch, and written in a reduced form.

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
use gatehouse_store::clock::{self, ClockSource, Truth};
use gatehouse_store::store::{Change, People};
use tokio_postgres::{Statement, ToStatement};

use crate::rows::batch::{self, Batch, Files};
use crate::rows::copy::{self, Form};
use crate::rows::erase::Erasure;
use crate::rows::people_sync::{self, Taken};

/// Months whose partitions are remembered as made; a batch spans one or two, a wrong clock a few more.
const MONTHS_MAX: usize = 100;

const INSERT_LOST: &str = "insert into gatehouse.events (device_id, seq, event_id, camera, kind, received_at, \
     identification, attributes) \
     select $1, n, 'lost-' || n, 'lost', 'lost', $4, '{}', '{}' from generate_series($2::bigint, $3::bigint) n";

const MOVE_CURSOR: &str =
    "update gatehouse.device_cursors set lsn = $2, seq = $3, moved_at = now() where device_id = $1";

/// A signed-in session that writes one device's changes.
pub struct Writer {
    link: Link,
    identity: Identity,
    cursor: Position,
    last: Option<LastEvent>,
    months: BTreeSet<(i32, u32)>,
    statements: Statements,
    /// True between BEGIN and the end of its transaction: a call that was cut off leaves it so.
    open: bool,
    /// Whether people are shared.
    people: bool,
    /// Bytes of events sent and not yet taken by [`Writer::take_sent`].
    sent: AtomicU64,
    /// Most changes in the next transaction: halved by refusals, doubled by successes.
    changes_max: usize,
}

struct Statements {
    lock: Statement,
    copy: Statement,
    insert: Statement,
    cursor: Statement,
}

/// What [`Writer::deliver`] did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Changes from the front of the slice that are now central (or were already).
    pub taken: usize,
    /// Events written.
    pub events: u64,
    /// What was written in a reduced form or left out, in words.
    pub set_aside: Vec<String>,
}

impl Writer {
    /// Connects and signs in, changing nothing that is there. Look at [`Writer::last_event`] and
    /// [`Writer::cursor`] before the first delivery.
    ///
    /// # Errors
    /// [`SyncError`]; where the database is not the right one, nothing was written.
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
            sent: AtomicU64::new(0),
            changes_max: usize::MAX,
        })
    }

    /// The event at the cursor, as it was at sign-in.
    pub fn last_event(&self) -> Option<&LastEvent> {
        self.last.as_ref()
    }

    /// Notes in the database that this appliance is there, and what waits on it.
    ///
    /// # Errors
    /// [`SyncError`] where the call fails.
    pub async fn announce(&self, waiting: Waiting) -> Result<(), SyncError> {
        rows::announce(&self.link, &self.identity, waiting).await
    }

    /// What time it is by this server; none where its clock cannot be right either.
    ///
    /// # Errors
    /// [`SyncError`] where the call fails.
    pub async fn time(&self) -> Result<Option<Truth>, SyncError> {
        let from = clock::uptime();
        let asked = self.link.client.query_one("select clock_timestamp()", &[]);
        let told: DateTime<Utc> = timed("ask Postgres for the time", CALL_TIMEOUT, asked).await?.get(0);
        let to = clock::uptime();
        Ok(Truth::asked(ClockSource::Rows, Timestamp(told.timestamp_micros()), from, to))
    }

    /// Shares people from now on, where the schema has them: everybody known here is given first. Words where they
    /// cannot be shared although all else can go on.
    ///
    /// # Errors
    /// [`SyncError`] where a call fails.
    pub async fn share_people(&mut self, people: &People) -> Result<Option<String>, SyncError> {
        let Some(key) = people.deployment() else { return Ok(None) };
        self.people = match shared_people::begin(&self.link, &self.identity.device, key).await {
            Ok(shared) => shared,
            Err(SyncError::Guard(fault)) => return Ok(Some(format!("people are not shared: {fault}"))),
            Err(error) => return Err(error),
        };
        match self.people {
            true => people_sync::give_all(&self.link, &self.identity.device, people).await.map(|()| None),
            false => Ok(Some(format!("people are not shared: {}", shared_people::TOO_OLD))),
        }
    }

    /// Takes in the next people that changed at the central side, if they are shared.
    pub(crate) async fn take_people(&self, people: &People) -> Result<Taken, SyncError> {
        match self.people {
            true => people_sync::take(&self.link, &self.identity.device, people).await,
            false => Ok(Taken::default()),
        }
    }

    /// Resolves when people changed at the central side (true), or the connection is gone (false).
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

    /// How far this device has delivered, as the database says.
    pub fn cursor(&self) -> Position {
        self.cursor
    }

    /// Tells erasures out of their turn, each in a transaction of its own.
    pub(crate) async fn erase(&self, changes: &[Change]) -> Result<(), SyncError> {
        for erasure in changes.iter().filter_map(Erasure::of) {
            if self.people {
                erasure.bury(&self.link, &self.identity.device).await?;
            }
            erasure.scrub(&self.link, &self.identity.device).await?;
        }
        Ok(())
    }

    /// Delivers a part from the front of `changes` (ascending), at least one of them; those at or before the cursor
    /// count as delivered.
    ///
    /// # Errors
    /// [`SyncError`]. The writer is then of no further use: open a new one.
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
            // After a deadline the session may hang: only one that answers can be used to look for the poison.
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
            return Err(SyncError::Unreachable { doing: BEGIN, words: "the session was cut off".to_owned() });
        }
        self.ensure_months(batch).await?;
        self.give_people(batch, form).await?;
        self.open = true;
        let (client, identity) = (&self.link.client, &self.identity);
        let device: [&Value<'_>; 1] = [&identity.device];
        // Both leave in one packet: a round trip less on a slow line.
        let begin = timed(BEGIN, CALL_TIMEOUT, client.batch_execute("begin"));
        let (begun, row) =
            tokio::join!(begin, timed(BEGIN, CALL_TIMEOUT, client.query_opt(&self.statements.lock, &device)));
        begun?;
        let row = row?.ok_or(GuardFault::NotPrepared {
            place: "the database",
            words: "this appliance's cursor is gone".to_owned(),
        })?;
        if rows::verify(&row, identity)? != self.cursor {
            let words = "another session of this appliance has moved its cursor".to_owned();
            return Err(SyncError::Busy { doing: BEGIN, code: "cursor".to_owned(), words });
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

    /// Everything from BEGIN to COMMIT; under the deadline of the caller.
    async fn fill(&self, batch: &Batch<'_>, form: &Form) -> Result<(), SyncError> {
        if batch.events.is_empty() {
            return self.follow(batch, form).await;
        }
        self.copy_events(batch, form).await?;
        // What follows leaves with it: a round trip less on a slow line. Where the first fails so does the rest, and COMMIT
        // rolls back.
        let insert = self.execute("write events to Postgres", &self.statements.insert, &[]);
        let (inserted, followed) = tokio::join!(insert, self.follow(batch, form));
        inserted.and(followed)
    }

    /// All but the events, and at the end the cursor and COMMIT, in one packet.
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
        for erasure in &batch.erasures {
            erasure.scrub(&self.link, device).await?;
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

    /// Before the transaction: others wait for the lock of whoever changes people.
    async fn give_people(&self, batch: &Batch<'_>, form: &Form) -> Result<(), SyncError> {
        if !self.people {
            return Ok(());
        }
        let device = &self.identity.device;
        for erasure in &batch.erasures {
            erasure.bury(&self.link, device).await?;
        }
        match form {
            Form::Whole => shared_people::give(&self.link, device, &batch.people).await,
            _ => Ok(()),
        }
    }

    async fn ensure_months(&mut self, batch: &Batch<'_>) -> Result<(), SyncError> {
        const PARTITION: &str = "make a partition in Postgres";
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
