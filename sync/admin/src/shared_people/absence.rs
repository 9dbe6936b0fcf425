//! `gatehouse central person absent`: people who have not been at any door for long.
//!
//! Absence is counted back from where every appliance has been heard: what one of them has not delivered yet may be a
//! visit. An appliance without a role counts as long as it is heard of.

use chrono::{DateTime, Days, NaiveDate, SecondsFormat, Utc};
use gatehouse_central::error::SyncError;
use gatehouse_central::rows::{BATCH_TIMEOUT, CALL_TIMEOUT, timed};
use serde::{Deserialize, Serialize};

use super::{LIST_MAX, People};

const DOING: &str = "look who was not there";
const HEARD: &str = "select now(), f.device_id, f.until from (select 1) one left join \
     (select device_id, coalesce(oldest_pending, reported_at, delivered_at, first_seen) as until from gatehouse.fleet \
       where first_seen is not null and (enrolled or last_seen >= now() - make_interval(days => $1))) f on true \
     order by f.until nulls last limit 1";
const DROPPED: &str = "select max(day) from gatehouse.archive where dropped_at is not null and day >= $1";
const ABSENT: &str = "select external_id, name, last from (select p.external_id, p.name, greatest(p.updated_at, \
         (select max(e.received_at) from gatehouse.events e \
           where jsonb_path_query_array(e.identification, '$.faces[*].person.id') ? p.external_id)) as last \
       from gatehouse.persons p where p.updated_at < $1) t \
     where last < $1 order by last, external_id limit $2";

/// Somebody who has not been there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// The operator's id.
    pub id: String,
    /// The display name.
    pub name: String,
    /// Last visit to any appliance, or last change; RFC 3339.
    pub last_there: String,
}

/// Who has not been there, and how far that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    /// Until when every appliance has delivered its events; RFC 3339. The days are counted back from here.
    pub heard_until: String,
    /// The appliance that was not heard longer; none where all are up to date.
    pub waits_for: Option<String>,
    /// The longest away first.
    pub people: Vec<Absent>,
    /// Whether they were erased.
    pub erased: bool,
}

impl People {
    /// Everybody who has neither been at a door nor been changed for so many days.
    ///
    /// # Errors
    /// [`SyncError::Setup`] where events of these days have left the database; else as the call failed.
    pub async fn absent(&self, days: u32) -> Result<Absence, SyncError> {
        let client = &self.link.client;
        let window = i32::try_from(days).unwrap_or(i32::MAX);
        let row = timed(DOING, CALL_TIMEOUT, client.query_one(HEARD, &[&window])).await?;
        let now: DateTime<Utc> = row.get(0);
        let behind = row.get::<_, Option<DateTime<Utc>>>(2).filter(|until| *until < now);
        let heard = behind.unwrap_or(now);
        let since = heard
            .checked_sub_days(Days::new(days.into()))
            .ok_or_else(|| SyncError::Setup(format!("{days} days ago there was no calendar: name fewer")))?;
        let dropped = timed(DOING, CALL_TIMEOUT, client.query_one(DROPPED, &[&since.date_naive()])).await?;
        if let Some(day) = dropped.get::<_, Option<NaiveDate>>(0) {
            return Err(SyncError::Setup(format!(
                "the events of {day} have left the database, so that nobody knows who came then: name fewer days"
            )));
        }
        let rows = timed(DOING, BATCH_TIMEOUT, client.query(ABSENT, &[&since, &LIST_MAX])).await?;
        let told = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let absent = |row: &tokio_postgres::Row| Absent {
            id: row.get(0),
            name: row.get(1),
            last_there: told(row.get(2)),
        };
        Ok(Absence {
            heard_until: told(heard),
            waits_for: behind.and_then(|_| row.get(1)),
            people: rows.iter().map(absent).collect(),
            erased: false,
        })
    }
}
