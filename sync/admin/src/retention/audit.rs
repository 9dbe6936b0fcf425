//! `gatehouse central retention --audit-months`: old lines of the audit log.
//!
//! The log says who looked at whose data, so it is personal data itself and has an end. What is dropped leaves one line that
//! says so, which later runs count among the old ones in their turn.

use chrono::NaiveTime;
use gatehouse_central::error::SyncError;
use gatehouse_central::rows::{self, BATCH_TIMEOUT, CALL_TIMEOUT, timed, to_u64};
use gatehouse_central::services::database_of;
use gatehouse_config::Config;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::before;

const DOING: &str = "drop lines of the audit log";

/// What was found, and done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRetained {
    /// The first day that stays, UTC.
    pub before: String,
    /// Lines that are older.
    pub lines: u64,
    /// Whether they were dropped.
    pub dropped: bool,
}

/// Counts the lines before the last `keep` whole months, and drops them where `drop` is given. The owner of the table
/// alone can.
///
/// # Errors
/// [`SyncError`] where the database cannot be reached, is of another environment, or refuses.
pub async fn audit(config: &Config, keep: u32, drop: bool) -> Result<AuditRetained, SyncError> {
    let mut link = rows::connect(database_of(config)?).await?;
    let environment = rows::environment(&link.client).await?;
    crate::database::refuse_foreign(environment, config.device.environment.as_str())?;
    let row = timed(DOING, CALL_TIMEOUT, link.client.query_one("select now()", &[])).await?;
    let before = before(row.get(0), keep)?;
    let midnight = before.and_time(NaiveTime::MIN).and_utc();
    let transaction = timed(DOING, CALL_TIMEOUT, link.client.transaction()).await?;
    let lines = match drop {
        false => {
            let count = "select count(*) from gatehouse.audit_log where at < $1";
            to_u64(timed(DOING, BATCH_TIMEOUT, transaction.query_one(count, &[&midnight])).await?.get(0))
        }
        true => {
            let delete = "delete from gatehouse.audit_log where at < $1";
            timed(DOING, BATCH_TIMEOUT, transaction.execute(delete, &[&midnight])).await?
        }
    };
    if drop && lines > 0 {
        let line = "select gatehouse.audit('audit.drop', 'audit_log', $1)";
        let details = json!({ "before": before.to_string(), "lines": lines });
        timed(DOING, CALL_TIMEOUT, transaction.execute(line, &[&details])).await?;
    }
    timed(DOING, CALL_TIMEOUT, transaction.commit()).await?;
    Ok(AuditRetained { before: before.to_string(), lines, dropped: drop })
}
