//! `gatehouse central delete-file|undelete|purge-deleted`: a file is marked first, and its object is removed a month
//! later.
//!
//! Thumbnails follow their picture. The time of the mark is the end of the previous version in
//! `gatehouse.files_history`. A change of status and its line in the audit log are one statement.

use chrono::{SecondsFormat, TimeDelta, Utc};
use gatehouse_central::error::SyncError;
use gatehouse_central::objects::Objects;
use gatehouse_central::rows::{BATCH_TIMEOUT, CALL_TIMEOUT, Link, Value, timed};
use gatehouse_central::services::{self, Services};
use gatehouse_config::Config;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How long a marked file can be restored.
pub const GRACE_DAYS: i32 = 30;

/// Files per query of a purge.
const PAGE_ROWS: i64 = 500;

const DOING: &str = "delete a file";
/// The key of a thumbnail. Its two groups together are the key of the picture.
const THUMBNAIL: &str =
    r"^(devices/[^/]+/events/[0-9]{4}/[0-9]{2}/[0-9]{2}/[^/]+/[^/]+/)thumbnails/[0-9]+/([^/]+)\.jpg$";
/// Changes a file and its thumbnails, each with a line in the audit log.
const CHANGE: &str = "with asked as (update gatehouse.files set status = $3 where id = $1 and status = any ($2) \
         returning *), \
     small as (update gatehouse.files f set status = $3 from asked a where f.status = any ($2) \
         and f.s3_bucket = a.s3_bucket and f.s3_key <> a.s3_key and f.uploaded_by = a.uploaded_by \
         and f.associated_entity_type = a.associated_entity_type and f.associated_entity_id = a.associated_entity_id \
         and regexp_replace(f.s3_key, $5, '\\1\\2') = a.s3_key returning f.id, f.s3_key), \
     changed as (select id, s3_key from asked union all select id, s3_key from small) \
     select gatehouse.audit($4, id::text, jsonb_build_object('key', s3_key)) from changed";
/// A file whose row was created as marked has no previous version and is never purged. A file of an erased person has no
/// grace period.
const DUE: &str = "select f.id from gatehouse.files f where f.s3_bucket = $1 and f.id > $2 and (f.status = 'erased' \
     or (f.status = 'marked' and (select max(h.valid_to) from gatehouse.files_history h where h.id = f.id) \
         < now() - make_interval(days => $3))) order by f.id limit $4";

/// Result for one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Its id.
    pub id: String,
    /// Its status now.
    pub status: String,
    /// When its object may be removed, RFC 3339. None for a file that is kept.
    pub purged_after: Option<String>,
}

/// Result of a purge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// Files whose objects were removed.
    pub files: u64,
    /// Marked files whose grace period is not over.
    pub waiting: u64,
}

/// Marks a file for deletion. Its object stays for [`GRACE_DAYS`], and no URL is given for it meanwhile.
///
/// # Errors
/// [`SyncError::Setup`] if there is no such file, or it is not kept. Nothing was changed then.
pub async fn mark(config: &Config, file: &str) -> Result<Changed, SyncError> {
    let link = services::ready(services::database_of(config)?, config).await?;
    let id = change(&link, file, &["active", "archived"], "marked", "file.mark").await?;
    let after = Utc::now() + TimeDelta::days(i64::from(GRACE_DAYS));
    let purged_after = Some(after.to_rfc3339_opts(SecondsFormat::Secs, true));
    Ok(Changed { id, status: "marked".to_owned(), purged_after })
}

/// Unmarks a file for deletion.
///
/// # Errors
/// [`SyncError::Setup`] if there is no such file, or it is not marked. Nothing was changed then.
pub async fn unmark(config: &Config, file: &str) -> Result<Changed, SyncError> {
    let link = services::ready(services::database_of(config)?, config).await?;
    let id = change(&link, file, &["marked"], "active", "file.unmark").await?;
    Ok(Changed { id, status: "active".to_owned(), purged_after: None })
}

async fn change(link: &Link, file: &str, from: &[&str], to: &str, action: &str) -> Result<String, SyncError> {
    let id = Uuid::parse_str(file)
        .map_err(|_| SyncError::Setup(format!("`{file}` is not the id of a file; see gatehouse.files")))?;
    let values: [&Value<'_>; 5] = [&id, &from, &to, &action, &THUMBNAIL];
    if timed(DOING, CALL_TIMEOUT, link.client.execute(CHANGE, &values)).await? > 0 {
        return Ok(id.to_string());
    }
    let query = "select status from gatehouse.files where id = $1";
    let row = timed(DOING, CALL_TIMEOUT, link.client.query_opt(query, &[&id])).await?;
    Err(SyncError::Setup(match row {
        Some(row) => format!("file {id} is {}: nothing was changed", row.get::<_, &str>(0)),
        None => format!("gatehouse.files has no file {id} that this role can see"),
    }))
}

/// Removes the objects of files of erased people, and of files that were marked [`GRACE_DAYS`] ago, with all their
/// versions, and sets the files to `deleted`. Each file is one
/// transaction, which ends after its object was removed. A concurrent unmark waits and is then refused. After an
/// interruption the file is still marked, and the next run continues.
///
/// # Errors
/// [`SyncError`] if the database or bucket is unreachable, refuses, or is of another environment.
pub async fn purge(config: &Config) -> Result<Purged, SyncError> {
    let Services { mut link, objects } = Services::open(config).await?;
    objects.guard().await?;
    let (mut purged, mut after, bucket) = (Purged::default(), Uuid::nil(), objects.bucket());
    loop {
        let values: [&Value<'_>; 4] = [&bucket, &after, &GRACE_DAYS, &PAGE_ROWS];
        let page = timed(DOING, BATCH_TIMEOUT, link.client.query(DUE, &values)).await?;
        let Some(last) = page.last() else { break };
        after = last.get(0);
        for row in page {
            purged.files += u64::from(purge_one(&mut link, &objects, row.get(0)).await?);
        }
    }
    let left = "select count(*) from gatehouse.files where s3_bucket = $1 and status = 'marked'";
    let row = timed(DOING, BATCH_TIMEOUT, link.client.query_one(left, &[&bucket])).await?;
    purged.waiting = u64::try_from(row.get::<_, i64>(0)).unwrap_or(0);
    Ok(purged)
}

/// False if the file was unmarked meanwhile.
async fn purge_one(link: &mut Link, objects: &Objects, id: Uuid) -> Result<bool, SyncError> {
    let transaction = timed(DOING, CALL_TIMEOUT, link.client.transaction()).await?;
    let update = "with gone as (update gatehouse.files set status = 'deleted' where id = $1 and status in ('marked', 'erased') \
                  returning id, s3_key) \
                  select s3_key, gatehouse.audit('file.purge', id::text, jsonb_build_object('key', s3_key)) from gone";
    let Some(row) = timed(DOING, CALL_TIMEOUT, transaction.query_opt(update, &[&id])).await? else {
        return Ok(false);
    };
    objects.remove_with_versions(row.get(0)).await?;
    timed(DOING, CALL_TIMEOUT, transaction.commit()).await?;
    Ok(true)
}
