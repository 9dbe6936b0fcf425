//! `gatehouse central archive`: delivered events as Parquet files in the bucket, for tools that read many of them at once.
//!
//! A file holds a range of an appliance's numbers, all of one day (UTC, by `received_at`). The ranges of an appliance follow
//! each other without hole and double, since numbers do; that is what makes the archive whole, and what [`check`] proves
//! from the files alone. A day is one file, or several where events of it came late (an appliance that was away sends them
//! under later numbers) or its clock was moved.
//!
//! A day is archived when nothing of it is expected any more: an event of another day follows, or the appliance has said
//! after its end that nothing older waits, or it has been over for [`PATIENCE`].
//!
//! Order of one file: its range as a row of `gatehouse.archive`, the file, the object, looked at there, the row again with
//! what it is. Crash story: a range that was fixed is written again with the same events under the same key, whatever came
//! meanwhile. Events are read by number, a page each time, and not through a cursor: they do not change, and no transaction
//! stays open for as long as a slow line takes.

mod check;
mod columns;
mod file;

use std::time::{Duration, Instant};

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use gatehouse_central::error::SyncError;
use gatehouse_central::objects::Objects;
use gatehouse_central::rows::{
    BATCH_TIMEOUT, CALL_TIMEOUT, Link, SCHEMA_NEEDED, Value, timed, to_i64, to_u64,
};
use gatehouse_central::services::{self, Services};
use gatehouse_config::Config;
use parquet::errors::ParquetError;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

pub use check::{Checked, Fault, check};

/// How long after its end a day is archived although its appliance has not been heard of since: what comes after that makes
/// a file of its own.
pub const PATIENCE: TimeDelta = TimeDelta::days(30);

/// Most events of one file: an hour of work lost to a broken line at most.
const FILE_EVENTS_MAX: i64 = 1_000_000;
/// Events asked for at once: with the largest attributes that a camera may send, 128 MB.
const PAGE: i64 = 500;
/// Where the archive lies in the bucket.
const PREFIX: &str = "archive/events/";
const CONTENT_TYPE: &str = "application/vnd.apache.parquet";
/// Names the lock under which the archive grows and events are dropped; any number that nobody else uses.
const LOCK: i64 = 0x6761_7465_6172_6368;
/// How long a lock that is held is asked for again: the server notices the end of a run a moment after it, and one run
/// may follow another at once.
const LETTING_GO: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

const DOING: &str = "archive events";

const STANDINGS: &str = "select c.device_id, c.seq, d.reported_at, d.pending_events, d.oldest_pending, coalesce(( \
         select max(a.last_seq) from gatehouse.archive a where a.device_id = c.device_id), 0) \
     from gatehouse.device_cursors c join gatehouse.devices d using (device_id) order by c.device_id collate \"C\"";
const UNFINISHED: &str = "select first_seq, last_seq, day, s3_key from gatehouse.archive \
     where device_id = $1 and archived_at is null order by first_seq";
const LAST_BEFORE: &str = "select max(seq) from gatehouse.events where device_id = $1 and seq > $2 and seq <= $3 \
     and received_at < $4 and (received_at < $5 or received_at >= $6)";
const TIME_OF: &str = "select received_at from gatehouse.events where device_id = $1 and seq = $2";
const OTHER_DAY: &str = "select min(seq) from gatehouse.events where device_id = $1 and seq > $2 and seq <= $3 \
     and (received_at < $4 or received_at >= $5)";
const PLAN: &str = "insert into gatehouse.archive (device_id, first_seq, last_seq, day, s3_bucket, s3_key) \
     select $1, $2, $3, $4, $5, $6 where $2 = 1 + coalesce(( \
         select max(last_seq) from gatehouse.archive where device_id = $1), 0)";
const DONE: &str = "update gatehouse.archive set lost = $3, file_size = $4, checksum = $5, archived_at = now() \
     where device_id = $1 and first_seq = $2 and archived_at is null";

/// What was archived.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// The last day, e.g. `2026-11-20`.
    pub until: String,
    /// Every appliance that the database knows.
    pub devices: Vec<OfDevice>,
}

/// What was archived of one appliance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfDevice {
    /// Its id.
    pub device_id: String,
    /// Files written now.
    pub files: u64,
    /// Events in them.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Number of the last event in the archive.
    pub archived: u64,
    /// Number of the last event that was delivered.
    pub delivered: u64,
    /// The day whose end is not certain, where that is what holds up the rest.
    pub waits_for: Option<String>,
    /// What kept it from being archived, in words.
    pub fault: Option<String>,
}

struct Standing {
    delivered: i64,
    archived: i64,
    reported_at: Option<DateTime<Utc>>,
    pending: Option<i64>,
    oldest: Option<DateTime<Utc>>,
}

/// The events of one file.
struct Range {
    first: i64,
    last: i64,
    day: NaiveDate,
    key: String,
}

struct Archivist {
    link: Link,
    objects: Objects,
    /// The moment before which events are archived.
    end: DateTime<Utc>,
}

/// Archives all whole days up to `until`, or to yesterday. What is there already is left as it is, so it can be run at any
/// time. An appliance whose events have a hole does not stop the others.
///
/// # Errors
/// [`SyncError`] where database or bucket cannot be reached, are of another environment, somebody else is at it, or `until`
/// is not over. What was archived before stays.
pub async fn archive(config: &Config, until: Option<NaiveDate>) -> Result<Archived, SyncError> {
    let Services { link, objects } = open(config).await?;
    let row = timed(DOING, CALL_TIMEOUT, link.client.query_one("select now()", &[])).await?;
    let today = row.get::<_, DateTime<Utc>>(0).date_naive();
    let until = until.unwrap_or(today - Days::new(1));
    if until >= today {
        return Err(SyncError::Setup(format!("{until} is not over (UTC): only whole days are archived")));
    }
    let archivist = Archivist { link, objects, end: bounds(until).1 };
    let mut archived = Archived { until: until.to_string(), devices: Vec::new() };
    for row in timed(DOING, BATCH_TIMEOUT, archivist.link.client.query(STANDINGS, &[])).await? {
        archived.devices.push(archivist.all_of(&row).await?);
    }
    Ok(archived)
}

/// Database and bucket, both the right ones, and nobody else at it.
pub(super) async fn open(config: &Config) -> Result<Services, SyncError> {
    let link = super::prepared(config, SCHEMA_NEEDED).await?;
    services::sees_all(&link).await?;
    let objects = Objects::open(config, gatehouse_central::objects::Limits::default())?;
    objects.guard().await?;
    let begin = Instant::now();
    loop {
        let ask = link.client.query_one("select pg_try_advisory_lock($1)", &[&LOCK]);
        if timed(DOING, CALL_TIMEOUT, ask).await?.get(0) {
            return Ok(Services { link, objects });
        }
        if begin.elapsed() > LETTING_GO {
            return Err(SyncError::Setup(
                "another archive, check or retention is at work: wait for its end".to_owned(),
            ));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

impl Archivist {
    async fn all_of(&self, row: &Row) -> Result<OfDevice, SyncError> {
        let standing = Standing {
            delivered: row.get(1),
            reported_at: row.get(2),
            pending: row.get(3),
            oldest: row.get(4),
            archived: row.get(5),
        };
        let mut told =
            OfDevice { device_id: row.get(0), delivered: to_u64(standing.delivered), ..OfDevice::default() };
        match self.grow(&standing, &mut told).await {
            Err(error) if error.is_permanent() => told.fault = Some(error.once()),
            grown => grown?,
        }
        Ok(told)
    }

    async fn grow(&self, standing: &Standing, told: &mut OfDevice) -> Result<(), SyncError> {
        let device = told.device_id.clone();
        let unfinished = timed(DOING, CALL_TIMEOUT, self.link.client.query(UNFINISHED, &[&device])).await?;
        told.archived = to_u64(unfinished.first().map_or(standing.archived, |row| row.get::<_, i64>(0) - 1));
        for row in unfinished {
            let range = Range { first: row.get(0), last: row.get(1), day: row.get(2), key: row.get(3) };
            self.keep(&device, &range, told).await?;
        }
        let Some(upto) = self.limit(&device, standing, told).await? else { return Ok(()) };
        let mut after = standing.archived;
        while after < upto {
            let range = self.plan(&device, after + 1, upto).await?;
            self.keep(&device, &range, told).await?;
            after = range.last;
        }
        Ok(())
    }

    /// The last event that may be archived.
    async fn limit(
        &self,
        device: &str,
        standing: &Standing,
        told: &mut OfDevice,
    ) -> Result<Option<i64>, SyncError> {
        let (after, upto) = (standing.archived, standing.delivered);
        let last = self.last_before(device, after, upto, (self.end, self.end)).await?;
        if last != Some(upto) {
            return Ok(last);
        }
        // Nothing follows it: is its day complete?
        let day = self.day_of(device, upto).await?;
        if standing.has_ended(day) {
            return Ok(last);
        }
        told.waits_for = Some(day.to_string());
        self.last_before(device, after, upto, bounds(day)).await
    }

    /// The last event before the end, outside of some time.
    async fn last_before(
        &self,
        device: &str,
        after: i64,
        upto: i64,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Option<i64>, SyncError> {
        let values: [&Value<'_>; 6] = [&device, &after, &upto, &self.end, &from, &to];
        let row = timed(DOING, BATCH_TIMEOUT, self.link.client.query_one(LAST_BEFORE, &values)).await?;
        Ok(row.get(0))
    }

    async fn day_of(&self, device: &str, seq: i64) -> Result<NaiveDate, SyncError> {
        let row = timed(DOING, CALL_TIMEOUT, self.link.client.query_opt(TIME_OF, &[&device, &seq])).await?;
        let row = row.ok_or_else(|| hole(seq))?;
        Ok(row.get::<_, DateTime<Utc>>(0).date_naive())
    }

    /// Fixes the range of the next file.
    async fn plan(&self, device: &str, first: i64, upto: i64) -> Result<Range, SyncError> {
        let day = self.day_of(device, first).await?;
        let (from, to) = bounds(day);
        let most = upto.min(first + FILE_EVENTS_MAX - 1);
        let values: [&Value<'_>; 5] = [&device, &first, &most, &from, &to];
        let row = timed(DOING, BATCH_TIMEOUT, self.link.client.query_one(OTHER_DAY, &values)).await?;
        let last = row.get::<_, Option<i64>>(0).map_or(most, |other| other - 1);
        let range = Range { first, last, day, key: key(device, day, first, last) };
        let bucket = self.objects.bucket();
        let values: [&Value<'_>; 6] = [&device, &first, &last, &day, &bucket, &range.key];
        if timed(DOING, CALL_TIMEOUT, self.link.client.execute(PLAN, &values)).await? == 0 {
            return Err(changed(first));
        }
        Ok(range)
    }

    /// Writes a file and brings it to the bucket.
    async fn keep(&self, device: &str, range: &Range, told: &mut OfDevice) -> Result<(), SyncError> {
        let written = self.write(device, range).await?;
        let (size, lost) = (to_i64(written.size), to_i64(written.lost));
        let content = (written.file, written.size, written.sha256.as_str());
        self.objects.deposit(&range.key, CONTENT_TYPE, content).await?;
        let checksum = format!("sha256:{}", written.sha256);
        let values: [&Value<'_>; 5] = [&device, &range.first, &lost, &size, &checksum];
        if timed(DOING, CALL_TIMEOUT, self.link.client.execute(DONE, &values)).await? == 0 {
            return Err(changed(range.first));
        }
        told.files += 1;
        told.events += to_u64(range.last - range.first + 1);
        told.bytes += written.size;
        told.archived = to_u64(range.last);
        Ok(())
    }

    async fn write(&self, device: &str, range: &Range) -> Result<file::Written, SyncError> {
        let (from, to) = bounds(range.day);
        let mut writing = blocking(file::Writing::new).await?;
        let mut after = range.first - 1;
        while after < range.last {
            let values: [&Value<'_>; 6] = [&device, &after, &range.last, &from, &to, &PAGE];
            let page = timed(DOING, BATCH_TIMEOUT, self.link.client.query(columns::QUERY, &values)).await?;
            if page.is_empty() {
                return Err(hole(after + 1));
            }
            for row in page {
                if row.get::<_, i64>(0) != after + 1 {
                    return Err(hole(after + 1));
                }
                writing.columns().push(&row);
                after += 1;
                if writing.is_full() {
                    writing = blocking(move || writing.flush().map(|()| writing)).await?;
                }
            }
        }
        blocking(move || writing.finish()).await
    }
}

impl Standing {
    /// Whether no event of a day is expected any more.
    fn has_ended(&self, day: NaiveDate) -> bool {
        let (_, end) = bounds(day);
        let nothing_older = self.pending == Some(0) || self.oldest.is_some_and(|oldest| oldest >= end);
        (self.reported_at.is_some_and(|reported_at| reported_at >= end) && nothing_older)
            || end + PATIENCE < Utc::now()
    }
}

/// Beginning and end of a day.
pub(super) fn bounds(day: NaiveDate) -> (DateTime<Utc>, DateTime<Utc>) {
    let from = day.and_time(NaiveTime::MIN).and_utc();
    (from, from + TimeDelta::days(1))
}

/// The day of a time in microseconds since 1970.
fn day_of(micros: i64) -> NaiveDate {
    DateTime::from_timestamp_micros(micros).unwrap_or_default().date_naive()
}

fn key(device: &str, day: NaiveDate, first: i64, last: i64) -> String {
    format!("{PREFIX}date={day}/device={device}/{first}-{last}.parquet")
}

fn hole(seq: i64) -> SyncError {
    let words = format!(
        "event {seq} is not where it should be in gatehouse.events: somebody changed rows by hand; restore it"
    );
    SyncError::Refused { doing: DOING, code: "hole".into(), words }
}

fn changed(first: i64) -> SyncError {
    let words = format!(
        "gatehouse.archive was changed by hand where event {first} follows: look at it with `gatehouse central archive --check`"
    );
    SyncError::Refused { doing: DOING, code: "order".into(), words }
}

/// Work on a file, on a thread for blocking work.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ParquetError> + Send + 'static,
) -> Result<T, SyncError> {
    const FILE: &str = "write a file of the archive";
    tokio::task::spawn_blocking(work).await.map_err(SyncError::store(FILE))?.map_err(SyncError::store(FILE))
}
