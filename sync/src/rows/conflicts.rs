//! Changes of people that two appliances made without knowing of each other, and which of them holds.

use std::collections::HashMap;

use chrono::{DateTime, SecondsFormat, Utc};
use gatehouse_central::error::SyncError;
use gatehouse_central::rows::{self, CALL_TIMEOUT, timed};
use gatehouse_config::Rows;
use gatehouse_store::deployment::Reference;
use gatehouse_store::store::People;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Most that are told, the newest.
const CONFLICTS_MAX: i32 = 1000;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// When the central side saw it, RFC 3339.
    pub at: String,
    /// The person's id; none where they are not enrolled here (any more).
    pub person: Option<String>,
    /// `name`: two names were given; `erased`: one erased, the other changed.
    pub field: String,
    /// Whose change holds: an appliance, or `central`.
    pub kept_by: String,
    /// When that was made, RFC 3339.
    pub kept_at: String,
    /// Whose change does not.
    pub lost_by: String,
    /// When that was made, RFC 3339.
    pub lost_at: String,
}

/// The newest, over a connection of its own.
pub(crate) async fn list(rows: &Rows, device: &str, people: &People) -> Result<Vec<Conflict>, SyncError> {
    const QUERY: &str = "select at, person_id, field, kept_by, kept_at, lost_by, lost_at from gatehouse.recent_conflicts($1, $2)";
    let link = rows::connect(rows).await?;
    let told =
        timed("list conflicts", CALL_TIMEOUT, link.client.query(QUERY, &[&device, &CONFLICTS_MAX])).await?;
    let ids: HashMap<Reference, String> = people.ids_by_reference();
    let conflict = |row: &tokio_postgres::Row| Conflict {
        at: words(row.get(0)),
        person: ids.get(&Reference(*row.get::<_, Uuid>(1).as_bytes())).cloned(),
        field: row.get(2),
        kept_by: row.get(3),
        kept_at: words(row.get(4)),
        lost_by: row.get(5),
        lost_at: words(row.get(6)),
    };
    Ok(told.iter().map(conflict).collect())
}

fn words(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
