//! `gatehouse central retention`: months that are in the archive as a whole leave `gatehouse.events`.
//!
//! A month goes where each of its events is in a file of `gatehouse.archive`, appliance by appliance and day by day, and each
//! of these files was read back just now and is what its row says. The month is compared once more when nobody can write to
//! it any more, and goes in the same transaction as the note of it and its line in the audit log: what was dropped on
//! purpose is told from what is missing. Late events make their month anew, and stay for the next time.

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

/// Files of one month asked for at once.
const PAGE: i64 = 500;

const DOING: &str = "drop events";

const PARTITIONS: &str = "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid \
     where i.inhparent = 'gatehouse.events'::regclass and c.relname ~ '^events_[0-9]{4}_[0-9]{2}$' order by c.relname";
const FILES: &str = "select s3_key, file_size, checksum from gatehouse.archive \
     where day >= $1 and day < $2 and archived_at is not null and dropped_at is null and s3_key > $3 \
     order by s3_key limit $4";
const NOTE: &str = "update gatehouse.archive set dropped_at = now() \
     where day >= $1 and day < $2 and archived_at is not null and dropped_at is null";

/// What was found, and done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// Whether dropping was ordered.
    pub ordered: bool,
    /// The months that are older than what is to be kept.
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
    /// Why it stays, in words; none where it may go.
    pub stays: Option<String>,
    /// Whether it was dropped.
    pub dropped: bool,
}

/// Looks at the months before the last `keep` whole ones, and drops those that are archived where `drop` is given.
///
/// # Errors
/// [`SyncError`] where database or bucket cannot be reached, are of another environment, or somebody else is at it. Months
/// that were dropped before an error are gone.
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
    first.ok_or_else(|| SyncError::Setup(format!("{keep} months ago there was no calendar")))
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

    /// Days of appliances whose events are not those of the archive, or both numbers where there is no such day. The name
    /// is one of [`PARTITIONS`]: nothing that must be quoted.
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
                Some(day) => Some(format!("not archived as a whole ({day})")),
                None => self.missing_file(services).await?,
            },
            dropped: false,
        })
    }

    /// Reads the files of the month back, and says of the first that is not what its row says.
    async fn missing_file(&self, services: &Services) -> Result<Option<String>, SyncError> {
        let mut after = String::new();
        loop {
            let values: [&Value<'_>; 4] = [&self.from, &self.to, &after, &PAGE];
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
                    return Ok(Some(format!("`{key}` is not what was archived")));
                }
            }
        }
    }

    /// Drops the month, unless it has become another meanwhile.
    async fn dropped(&self, services: &mut Services, month: &Month) -> Result<Option<String>, SyncError> {
        let transaction = timed(DOING, CALL_TIMEOUT, services.link.client.transaction()).await?;
        let lock = format!("lock table gatehouse.{} in share mode", self.name);
        timed(DOING, CALL_TIMEOUT, transaction.batch_execute(&lock)).await?;
        let days: [&Value<'_>; 2] = [&self.from, &self.to];
        let row = timed(DOING, BATCH_TIMEOUT, transaction.query_one(&self.comparison(), &days)).await?;
        if row.get::<_, Option<String>>(2).is_some() || to_u64(row.get(0)) != month.events {
            return Ok(Some("events came while it was looked at".to_owned()));
        }
        let noted = timed(DOING, CALL_TIMEOUT, transaction.execute(NOTE, &days)).await?;
        if noted != month.files {
            return Ok(Some("the archive changed while it was looked at".to_owned()));
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
