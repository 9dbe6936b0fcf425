//! `gatehouse central retention --audit-months`: drops old lines of the audit log.
//!
//! The log records access to personal data, so it is personal data itself and must have a retention period. Each drop
//! is recorded in one line, which later runs drop in turn.

use chrono::NaiveTime;
use gatehouse_central::error::SyncError;
use gatehouse_central::rows::{self, BATCH_TIMEOUT, CALL_TIMEOUT, timed, to_u64};
use gatehouse_central::services::database_of;
use gatehouse_config::Config;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::before;

const DOING: &str = "drop lines of the audit log";

/// Result of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRetained {
    /// The first day that is kept, UTC.
    pub before: String,
    /// Older lines.
    pub lines: u64,
    /// Whether they were dropped.
    pub dropped: bool,
}

/// Counts the lines before the last `keep` whole months, and drops them if `drop` is set. Only the owner of the table
/// may do so.
///
/// # Errors
/// [`SyncError`] if the database is unreachable, of another environment, or refuses.
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
