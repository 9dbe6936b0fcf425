//! `gatehouse central retention`: drops completely archived months from `gatehouse.events`.
//!
//! A month is dropped if each of its events is in a file of `gatehouse.archive`, by appliance and day, and each of
//! these files was just read back and matches its row. The comparison is repeated under a lock, and the month is
//! dropped in the same transaction as its record and its line in the audit log. So intentional drops can be
//! distinguished from missing data. Late events create their month again. It stays until a later run.

mod audit;

use chrono::{DateTime, Datelike as _, Months, NaiveDate, Utc};
use gatehouse_central::error::SyncError;
use gatehouse_central::rows::{BATCH_TIMEOUT, CALL_TIMEOUT, Value, timed, to_u64};
use gatehouse_central::services::Services;
use gatehouse_config::Config;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use self::audit::{AuditRetained, audit};
use super::archive;

/// Files of one month per query.
const PAGE_ROWS: i64 = 500;

const DOING: &str = "drop events";

const PARTITIONS: &str = "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid \
     where i.inhparent = 'gatehouse.events'::regclass and c.relname ~ '^events_[0-9]{4}_[0-9]{2}$' order by c.relname";
const FILES: &str = "select s3_key, file_size, checksum from gatehouse.archive \
     where day >= $1 and day < $2 and archived_at is not null and dropped_at is null and s3_key > $3 \
     order by s3_key limit $4";
const NOTE: &str = "update gatehouse.archive set dropped_at = now() \
     where day >= $1 and day < $2 and archived_at is not null and dropped_at is null";

/// Result of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// Whether dropping was requested.
    pub ordered: bool,
    /// The months that are older than the retention period.
    pub months: Vec<Month>,
}

/// One month of events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Month {
    /// e.g. `2025-01`.
    pub month: String,
    /// Events in it.
    pub events: u64,
    /// Files of the archive that hold them.
    pub files: u64,
    /// Why it is kept. None if it may be dropped.
    pub stays: Option<String>,
    /// Whether it was dropped.
    pub dropped: bool,
}

/// Examines the months before the last `keep` whole ones, and drops the archived ones if `drop` is set.
///
/// # Errors
/// [`SyncError`] if the database or bucket is unreachable or of another environment, or another run is active. Months
/// dropped before an error stay dropped.
pub async fn retention(config: &Config, keep: u32, drop: bool) -> Result<Retained, SyncError> {
    let mut services = archive::open(config).await?;
    let row = timed(DOING, CALL_TIMEOUT, services.link.client.query_one("select now()", &[])).await?;
    let kept = before(row.get(0), keep)?;
    let mut retained = Retained { ordered: drop, months: Vec::new() };
    for row in timed(DOING, CALL_TIMEOUT, services.link.client.query(PARTITIONS, &[])).await? {
        let Some(partition) = Partition::named(row.get(0)).filter(|partition| partition.to <= kept) else {
            continue;
        };
        let mut month = partition.judged(&services).await?;
        if drop && month.stays.is_none() {
            month.stays = partition.dropped(&mut services, &month).await?;
            month.dropped = month.stays.is_none();
        }
        retained.months.push(month);
    }
    Ok(retained)
}

/// The first day of the last `keep` whole months before the present one.
fn before(now: DateTime<Utc>, keep: u32) -> Result<NaiveDate, SyncError> {
    let first = now.date_naive().with_day(1).and_then(|first| first.checked_sub_months(Months::new(keep)));
    first.ok_or_else(|| SyncError::Setup(format!("{keep} months ago is out of range: name fewer months")))
}

struct Partition {
    name: String,
    from: NaiveDate,
    /// The first day of the next month.
    to: NaiveDate,
}

impl Partition {
    fn named(name: &str) -> Option<Self> {
        let (year, month) = name.strip_prefix("events_")?.split_once('_')?;
        let from = NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, 1)?;
        Some(Self { name: name.to_owned(), from, to: from.checked_add_months(Months::new(1))? })
    }

    /// Compares a month with the archive: the first differing day of an appliance, or both counts. The name is one of
    /// [`PARTITIONS`] and needs no quoting.
    fn comparison(&self) -> String {
        format!(
            "select coalesce(sum(n), 0)::bigint, coalesce(sum(files), 0)::bigint, \
                 min(device_id || ', ' || day || ': ' || coalesce(n, 0) || ' events, ' || coalesce(m, 0) || ' of them archived') \
                 filter (where (n, s) is distinct from (m, t)) \
             from (select device_id, (received_at at time zone 'UTC')::date as day, count(*) as n, sum(seq) as s \
                     from gatehouse.{} group by 1, 2) e \
             full join (select device_id, day, sum(events)::bigint as m, sum((first_seq + last_seq)::numeric * events / 2) as t, \
                     count(*) as files from gatehouse.archive where day >= $1 and day < $2 and archived_at is not null \
                     and dropped_at is null group by 1, 2) a using (device_id, day)",
            self.name
        )
    }

    async fn judged(&self, services: &Services) -> Result<Month, SyncError> {
        let days: [&Value<'_>; 2] = [&self.from, &self.to];
        let row =
            timed(DOING, BATCH_TIMEOUT, services.link.client.query_one(&self.comparison(), &days)).await?;
        let stays: Option<String> = row.get(2);
        Ok(Month {
            month: self.from.format("%Y-%m").to_string(),
            events: to_u64(row.get(0)),
            files: to_u64(row.get(1)),
            stays: match stays {
                Some(day) => Some(format!("not completely archived ({day})")),
                None => self.missing_file(services).await?,
            },
            dropped: false,
        })
    }

    /// Reads the files of the month back. Returns a text about the first that does not match its row.
    async fn missing_file(&self, services: &Services) -> Result<Option<String>, SyncError> {
        let mut after = String::new();
        loop {
            let values: [&Value<'_>; 4] = [&self.from, &self.to, &after, &PAGE_ROWS];
            let page = timed(DOING, BATCH_TIMEOUT, services.link.client.query(FILES, &values)).await?;
            let Some(last) = page.last() else { return Ok(None) };
            after = last.get(0);
            for row in page {
                let (key, size, checksum): (&str, i64, &str) = (row.get(0), row.get(1), row.get(2));
                let same = match services.objects.read_back(key).await? {
                    None => return Ok(Some(format!("`{key}` is not in the bucket"))),
                    Some(content) => {
                        content.size == to_u64(size) && format!("sha256:{}", content.sha256) == checksum
                    }
                };
                if !same {
                    return Ok(Some(format!("`{key}` differs from what was archived")));
                }
            }
        }
    }

    /// Drops the month, unless it changed meanwhile.
    async fn dropped(&self, services: &mut Services, month: &Month) -> Result<Option<String>, SyncError> {
        let transaction = timed(DOING, CALL_TIMEOUT, services.link.client.transaction()).await?;
        let lock = format!("lock table gatehouse.{} in share mode", self.name);
        timed(DOING, CALL_TIMEOUT, transaction.batch_execute(&lock)).await?;
        let days: [&Value<'_>; 2] = [&self.from, &self.to];
        let row = timed(DOING, BATCH_TIMEOUT, transaction.query_one(&self.comparison(), &days)).await?;
        if row.get::<_, Option<String>>(2).is_some() || to_u64(row.get(0)) != month.events {
            return Ok(Some("events arrived during the check".to_owned()));
        }
        let noted = timed(DOING, CALL_TIMEOUT, transaction.execute(NOTE, &days)).await?;
        if noted != month.files {
            return Ok(Some("the archive changed during the check".to_owned()));
        }
        let line = "select gatehouse.audit('events.drop', $1, $2)";
        let details = json!({ "month": month.month, "events": month.events, "files": month.files });
        timed(DOING, CALL_TIMEOUT, transaction.execute(line, &[&self.name, &details])).await?;
        let drop = format!("drop table gatehouse.{}", self.name);
        timed(DOING, CALL_TIMEOUT, transaction.batch_execute(&drop)).await?;
        timed(DOING, CALL_TIMEOUT, transaction.commit()).await?;
        Ok(None)
    }
}
