//! Repair of one orphan. Each is verified again first, because the first pass may have taken hours.

use gatehouse_central::error::SyncError;
use gatehouse_central::objects::Objects;
use gatehouse_central::rows::{CALL_TIMEOUT, Link, timed};
use gatehouse_central::services;
use serde_json::json;
use uuid::Uuid;

const DOING: &str = "repair an orphan";

/// Repairs orphans over a separate connection.
pub(super) struct Mender<'a> {
    pub(super) link: Link,
    pub(super) objects: &'a Objects,
}

impl Mender<'_> {
    /// Moves an object to `quarantine/`: copy, read back, audit log, remove. False if it has a row by now, or is gone.
    /// After an interruption it is in both places, and the next run copies it again.
    pub(super) async fn set_aside(&self, key: &str) -> Result<bool, SyncError> {
        let query = "select exists (select from gatehouse.files where s3_bucket = $1 and s3_key = $2)";
        let bucket = self.objects.bucket();
        let row = timed(DOING, CALL_TIMEOUT, self.link.client.query_one(query, &[&bucket, &key])).await?;
        let to = format!("quarantine/{key}");
        if row.get(0) || !self.objects.copy(key, &to).await? {
            return Ok(false);
        }
        services::audit(&self.link, "file.quarantine", key, &json!({ "bucket": bucket, "to": to })).await?;
        self.objects.remove(key).await?;
        Ok(true)
    }

    /// Sets a row to `deleted`, with a line in the audit log. False if there is an object by now, or the row has
    /// another status.
    pub(super) async fn give_up(&self, id: Uuid, key: &str) -> Result<bool, SyncError> {
        if self.objects.read_back(key).await?.is_some() {
            return Ok(false);
        }
        let update = "with gone as (update gatehouse.files set status = 'deleted' \
                      where id = $1 and status in ('active', 'archived') returning id) \
                      select gatehouse.audit('file.lost', id::text, $2) from gone";
        let details = json!({ "key": key, "why": "there is no object" });
        let done = timed(DOING, CALL_TIMEOUT, self.link.client.execute(update, &[&id, &details])).await?;
        Ok(done > 0)
    }
}
