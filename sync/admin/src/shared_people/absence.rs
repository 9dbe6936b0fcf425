//! `gatehouse central person absent`: people without a visit for a long time.
//!
//! The period ends where every appliance has delivered its events, because a pending event may be a visit. An
//! appliance without a role counts as long as it reports.

use chrono::{DateTime, Days, NaiveDate, SecondsFormat, Utc};
use gatehouse_central::error::SyncError;
use gatehouse_central::rows::{BATCH_TIMEOUT, CALL_TIMEOUT, timed};
use serde::{Deserialize, Serialize};

use super::{LIST_MAX, People};

const DOING: &str = "list people without a visit";
const DELIVERED_UNTIL: &str = "select now(), f.device_id, f.until from (select 1) one left join \
     (select device_id, coalesce(oldest_pending, reported_at, delivered_at, first_seen) as until from gatehouse.fleet \
       where first_seen is not null and (enrolled or last_seen >= now() - make_interval(days => $1))) f on true \
     order by f.until nulls last limit 1";
const DROPPED: &str = "select max(day) from gatehouse.archive where dropped_at is not null and day >= $1";
const ABSENT: &str = "select external_id, name, last from (select p.external_id, p.name, greatest(p.updated_at, \
         (select max(e.received_at) from gatehouse.events e \
           where jsonb_path_query_array(e.identification, '$.faces[*].person.id') ? p.external_id)) as last \
       from gatehouse.persons p where p.updated_at < $1) t \
     where last < $1 order by last, external_id limit $2";

/// A person without a visit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// The operator's id.
    pub id: String,
    /// The display name.
    pub name: String,
    /// Last visit to any appliance, or last change, RFC 3339.
    pub last_there: String,
}

/// People without a visit, and until when this is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    /// Until when every appliance has delivered its events, RFC 3339. The period ends here.
    pub heard_until: String,
    /// The appliance that limits it. None if all are up to date.
    pub waits_for: Option<String>,
    /// The longest absent first.
    pub people: Vec<Absent>,
    /// Whether they were erased.
    pub erased: bool,
}

impl People {
    /// People without a visit or a change for so many days.
    ///
    /// # Errors
    /// [`SyncError::Setup`] if events of these days were dropped. Other errors if a call fails.
    pub async fn absent(&self, days: u32) -> Result<Absence, SyncError> {
        let client = &self.link.client;
        let window = i32::try_from(days).unwrap_or(i32::MAX);
        let row = timed(DOING, CALL_TIMEOUT, client.query_one(DELIVERED_UNTIL, &[&window])).await?;
        let now: DateTime<Utc> = row.get(0);
        let behind = row.get::<_, Option<DateTime<Utc>>>(2).filter(|until| *until < now);
        let delivered_until = behind.unwrap_or(now);
        let since = delivered_until
            .checked_sub_days(Days::new(days.into()))
            .ok_or_else(|| SyncError::Setup(format!("{days} days ago is out of range: name fewer days")))?;
        let dropped = timed(DOING, CALL_TIMEOUT, client.query_one(DROPPED, &[&since.date_naive()])).await?;
        if let Some(day) = dropped.get::<_, Option<NaiveDate>>(0) {
            return Err(SyncError::Setup(format!(
                "the events of {day} were dropped from the database: name fewer days"
            )));
        }
        let rows = timed(DOING, BATCH_TIMEOUT, client.query(ABSENT, &[&since, &LIST_MAX])).await?;
        let rfc3339 = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let absent = |row: &tokio_postgres::Row| Absent {
            id: row.get(0),
            name: row.get(1),
            last_there: rfc3339(row.get(2)),
        };
        Ok(Absence {
            heard_until: rfc3339(delivered_until),
            waits_for: behind.and_then(|_| row.get(1)),
            people: rows.iter().map(absent).collect(),
            erased: false,
        })
    }
}
