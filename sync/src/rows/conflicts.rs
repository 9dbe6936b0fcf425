//! Conflicts: changes of one person by two appliances without knowledge of each other, and which change is kept.

use chrono::{DateTime, SecondsFormat, Utc};
use gatehouse_central::error::SyncError;
use gatehouse_central::rows::{self, CALL_TIMEOUT, timed};
use gatehouse_config::Rows;
use gatehouse_store::deployment::Reference;
use gatehouse_store::store::People;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::rows::people_sync::ids_by_reference;

/// Maximum number of conflicts returned.
const CONFLICTS_MAX: i32 = 1000;

/// One conflict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// When the database detected it, RFC 3339.
    pub at: String,
    /// The id of the person. None if they are not enrolled here any more.
    pub person: Option<String>,
    /// `name`: two different names. `erased`: one erasure and one change.
    pub field: String,
    /// Author of the change that is kept: an appliance, or `central`.
    pub kept_by: String,
    /// Time of that change, RFC 3339.
    pub kept_at: String,
    /// Author of the change that is dropped.
    pub lost_by: String,
    /// Time of that change, RFC 3339.
    pub lost_at: String,
}

/// The newest conflicts, over a separate connection.
pub(crate) async fn list(rows: &Rows, device: &str, people: &People) -> Result<Vec<Conflict>, SyncError> {
    const QUERY: &str = "select at, person_id, field, kept_by, kept_at, lost_by, lost_at from gatehouse.recent_conflicts($1, $2)";
    let link = rows::connect(rows).await?;
    let rows_found =
        timed("list conflicts", CALL_TIMEOUT, link.client.query(QUERY, &[&device, &CONFLICTS_MAX])).await?;
    let ids = ids_by_reference("list conflicts", people).await?;
    let conflict = |row: &tokio_postgres::Row| Conflict {
        at: rfc3339(row.get(0)),
        person: ids.get(&Reference(*row.get::<_, Uuid>(1).as_bytes())).cloned(),
        field: row.get(2),
        kept_by: row.get(3),
        kept_at: rfc3339(row.get(4)),
        lost_by: row.get(5),
        lost_at: rfc3339(row.get(6)),
    };
    Ok(rows_found.iter().map(conflict).collect())
}

fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
