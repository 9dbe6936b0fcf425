//! `gatehouse central archive`: delivered events as Parquet files in the bucket, for analysis tools.
//!
//! A file contains a range of `seq` of one appliance, all of one day (UTC, by `received_at`). The ranges of an
//! appliance have no gap and no overlap. [`check`] proves completeness from the files alone. A day has several files
//! if events of it arrived late, because an offline appliance sends them under later numbers, or if the clock was
//! moved.
//!
//! A day is archived when no more events of it are expected: an event of another day follows, or the appliance has
//! reported after its end that nothing older is pending, or it ended more than [`SILENT_DEVICE_GRACE`] ago.
//!
//! Order per file: its range as a row of `gatehouse.archive`, the file, the verified object, then the row with size
//! and hash.
//!
//! After a crash: a recorded range is written again with the same events under the same key. Events are read by
//! number, one page at a time, without a cursor: they do not change, and no transaction stays open for the duration of
//! an upload.

mod check;
mod columns;
mod file;

use std::time::{Duration, Instant};

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use gatehouse_central::error::SyncError;
use gatehouse_central::objects::{LocalFile, Objects};
use gatehouse_central::rows::{
    BATCH_TIMEOUT, CALL_TIMEOUT, Link, SCHEMA_NEEDED, Value, timed, to_i64, to_u64,
};
use gatehouse_central::services::{self, Services};
use gatehouse_config::Config;
use parquet::errors::ParquetError;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

pub use check::{Checked, Fault, check};

/// Time after its end at which a day is archived although its appliance is silent. Later events get a file of their
/// own.
pub const SILENT_DEVICE_GRACE: TimeDelta = TimeDelta::days(30);

/// Maximum number of events of one file: at most an hour of work is lost when a connection breaks.
const FILE_EVENTS_MAX: i64 = 1_000_000;
/// Events per query: 128 MB with the largest attributes that a camera may send.
const PAGE_EVENTS: i64 = 500;
/// Prefix of the archive in the bucket.
const PREFIX: &str = "archive/events/";
const CONTENT_TYPE: &str = "application/vnd.apache.parquet";
/// Advisory lock for archiving and dropping of events. Any number that nothing else uses.
const LOCK: i64 = 0x6761_7465_6172_6368;
/// How long a held lock is requested again: the server detects the end of the previous run a moment later.
const LOCK_RETRY_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(100);

const DOING: &str = "archive events";

const PROGRESS: &str = "select c.device_id, c.seq, d.reported_at, d.pending_events, d.oldest_pending, coalesce(( \
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

/// Result of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// The last day, e.g. `2026-11-20`.
    pub until: String,
    /// Every appliance in the database.
    pub devices: Vec<OfDevice>,
}

/// Result for one appliance.
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
    /// The day that is not complete, if it delays the later ones.
    pub waits_for: Option<String>,
    /// Why it could not be archived.
    pub fault: Option<String>,
}

/// A period of time.
type TimeRange = std::ops::Range<DateTime<Utc>>;

struct DeviceProgress {
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

struct Archiver {
    link: Link,
    objects: Objects,
    /// The moment before which events are archived.
    end: DateTime<Utc>,
}

/// Archives all whole days up to `until`, or to yesterday. Archived days are not changed, so it may be repeated. An
/// appliance with missing events does not stop the others.
///
/// # Errors
/// [`SyncError`] if the database or bucket is unreachable or of another environment, another run is active, or `until`
/// is not over. What was archived before stays.
pub async fn archive(config: &Config, until: Option<NaiveDate>) -> Result<Archived, SyncError> {
    let Services { link, objects } = open(config).await?;
    let row = timed(DOING, CALL_TIMEOUT, link.client.query_one("select now()", &[])).await?;
    let today = row.get::<_, DateTime<Utc>>(0).date_naive();
    let until = until.unwrap_or(today - Days::new(1));
    if until >= today {
        return Err(SyncError::Setup(format!("{until} is not over (UTC): only whole days are archived")));
    }
    let archiver = Archiver { link, objects, end: day_bounds(until).end };
    let mut archived = Archived { until: until.to_string(), devices: Vec::new() };
    for row in timed(DOING, BATCH_TIMEOUT, archiver.link.client.query(PROGRESS, &[])).await? {
        archived.devices.push(archiver.archive_one(&row).await?);
    }
    Ok(archived)
}

/// Database and bucket of the right environment, and the lock.
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
        if begin.elapsed() > LOCK_RETRY_TIMEOUT {
            return Err(SyncError::Setup(
                "another archive, check or retention is running: wait until it ends".to_owned(),
            ));
        }
        tokio::time::sleep(LOCK_RETRY_INTERVAL).await;
    }
}

impl Archiver {
    async fn archive_one(&self, row: &Row) -> Result<OfDevice, SyncError> {
        let progress = DeviceProgress {
            delivered: row.get(1),
            reported_at: row.get(2),
            pending: row.get(3),
            oldest: row.get(4),
            archived: row.get(5),
        };
        let mut outcome =
            OfDevice { device_id: row.get(0), delivered: to_u64(progress.delivered), ..OfDevice::default() };
        match self.archive_device(&progress, &mut outcome).await {
            Err(error) if error.is_permanent() => outcome.fault = Some(error.once()),
            grown => grown?,
        }
        Ok(outcome)
    }

    async fn archive_device(
        &self,
        progress: &DeviceProgress,
        outcome: &mut OfDevice,
    ) -> Result<(), SyncError> {
        let device = outcome.device_id.clone();
        let unfinished = timed(DOING, CALL_TIMEOUT, self.link.client.query(UNFINISHED, &[&device])).await?;
        outcome.archived =
            to_u64(unfinished.first().map_or(progress.archived, |row| row.get::<_, i64>(0) - 1));
        for row in unfinished {
            let range = Range { first: row.get(0), last: row.get(1), day: row.get(2), key: row.get(3) };
            self.store_file(&device, &range, outcome).await?;
        }
        let Some(upto) = self.limit(&device, progress, outcome).await? else { return Ok(()) };
        let mut after = progress.archived;
        while after < upto {
            let range = self.plan(&device, after + 1, upto).await?;
            self.store_file(&device, &range, outcome).await?;
            after = range.last;
        }
        Ok(())
    }

    /// The last event that may be archived.
    async fn limit(
        &self,
        device: &str,
        progress: &DeviceProgress,
        outcome: &mut OfDevice,
    ) -> Result<Option<i64>, SyncError> {
        let after = progress.archived;
        let upto = progress.delivered;
        let last = self.last_before(device, after, upto, self.end..self.end).await?;
        if last != Some(upto) {
            return Ok(last);
        }
        // No event follows: is its day complete?
        let day = self.day_of(device, upto).await?;
        if progress.has_ended(day) {
            return Ok(last);
        }
        outcome.waits_for = Some(day.to_string());
        self.last_before(device, after, upto, day_bounds(day)).await
    }

    /// The last event before the end and outside a period.
    async fn last_before(
        &self,
        device: &str,
        after: i64,
        upto: i64,
        outside: TimeRange,
    ) -> Result<Option<i64>, SyncError> {
        let values: [&Value<'_>; 6] = [&device, &after, &upto, &self.end, &outside.start, &outside.end];
        let row = timed(DOING, BATCH_TIMEOUT, self.link.client.query_one(LAST_BEFORE, &values)).await?;
        Ok(row.get(0))
    }

    async fn day_of(&self, device: &str, seq: i64) -> Result<NaiveDate, SyncError> {
        let row = timed(DOING, CALL_TIMEOUT, self.link.client.query_opt(TIME_OF, &[&device, &seq])).await?;
        let row = row.ok_or_else(|| missing_event(seq))?;
        Ok(row.get::<_, DateTime<Utc>>(0).date_naive())
    }

    /// Records the range of the next file.
    async fn plan(&self, device: &str, first: i64, upto: i64) -> Result<Range, SyncError> {
        let day = self.day_of(device, first).await?;
        let TimeRange { start, end } = day_bounds(day);
        let most = upto.min(first + FILE_EVENTS_MAX - 1);
        let values: [&Value<'_>; 5] = [&device, &first, &most, &start, &end];
        let row = timed(DOING, BATCH_TIMEOUT, self.link.client.query_one(OTHER_DAY, &values)).await?;
        let last = row.get::<_, Option<i64>>(0).map_or(most, |other| other - 1);
        let range = Range { first, last, day, key: key(device, day, first, last) };
        let bucket = self.objects.bucket();
        let values: [&Value<'_>; 6] = [&device, &first, &last, &day, &bucket, &range.key];
        if timed(DOING, CALL_TIMEOUT, self.link.client.execute(PLAN, &values)).await? == 0 {
            return Err(row_changed(first));
        }
        Ok(range)
    }

    /// Writes a file and uploads it.
    async fn store_file(&self, device: &str, range: &Range, outcome: &mut OfDevice) -> Result<(), SyncError> {
        let written = self.write(device, range).await?;
        let (size, lost) = (to_i64(written.size), to_i64(written.lost));
        let checksum = format!("sha256:{}", written.sha256);
        let content = LocalFile { file: written.file, size: written.size, sha256: written.sha256 };
        self.objects.deposit(&range.key, CONTENT_TYPE, content).await?;
        let values: [&Value<'_>; 5] = [&device, &range.first, &lost, &size, &checksum];
        if timed(DOING, CALL_TIMEOUT, self.link.client.execute(DONE, &values)).await? == 0 {
            return Err(row_changed(range.first));
        }
        outcome.files += 1;
        outcome.events += to_u64(range.last - range.first + 1);
        outcome.bytes += written.size;
        outcome.archived = to_u64(range.last);
        Ok(())
    }

    async fn write(&self, device: &str, range: &Range) -> Result<file::Written, SyncError> {
        let TimeRange { start, end } = day_bounds(range.day);
        let mut writing = blocking(file::Writing::new).await?;
        let mut after = range.first - 1;
        while after < range.last {
            let values: [&Value<'_>; 6] = [&device, &after, &range.last, &start, &end, &PAGE_EVENTS];
            let page = timed(DOING, BATCH_TIMEOUT, self.link.client.query(columns::QUERY, &values)).await?;
            if page.is_empty() {
                return Err(missing_event(after + 1));
            }
            for row in page {
                if row.get::<_, i64>(0) != after + 1 {
                    return Err(missing_event(after + 1));
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

impl DeviceProgress {
    /// Whether no more events of a day are expected.
    fn has_ended(&self, day: NaiveDate) -> bool {
        let end = day_bounds(day).end;
        let nothing_older = self.pending == Some(0) || self.oldest.is_some_and(|oldest| oldest >= end);
        (self.reported_at.is_some_and(|reported_at| reported_at >= end) && nothing_older)
            || end + SILENT_DEVICE_GRACE < Utc::now()
    }
}

/// Start and end of a day.
fn day_bounds(day: NaiveDate) -> TimeRange {
    let start = day.and_time(NaiveTime::MIN).and_utc();
    start..start + TimeDelta::days(1)
}

/// The day of a time in microseconds since 1970.
fn day_of(micros: i64) -> NaiveDate {
    DateTime::from_timestamp_micros(micros).unwrap_or_default().date_naive()
}

fn key(device: &str, day: NaiveDate, first: i64, last: i64) -> String {
    format!("{PREFIX}date={day}/device={device}/{first}-{last}.parquet")
}

fn missing_event(seq: i64) -> SyncError {
    let message =
        format!("event {seq} is missing in gatehouse.events: rows were changed manually; restore it");
    SyncError::Refused { doing: DOING, code: "hole".into(), message }
}

fn row_changed(first: i64) -> SyncError {
    let message = format!(
        "gatehouse.archive was changed manually before event {first}: run `gatehouse central archive --check`"
    );
    SyncError::Refused { doing: DOING, code: "order".into(), message }
}

/// Runs file operations on a thread for blocking work.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ParquetError> + Send + 'static,
) -> Result<T, SyncError> {
    const FILE: &str = "write a file of the archive";
    tokio::task::spawn_blocking(work).await.map_err(SyncError::store(FILE))?.map_err(SyncError::store(FILE))
}
