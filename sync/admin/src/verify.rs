//! `gatehouse central verify`: reads objects back and compares them with their rows.
//!
//! Memory holds one chunk per object and one page of rows. Nothing is changed. The run has a line in the audit log,
//! even if it was incomplete.

use futures_util::{StreamExt as _, stream};
use gatehouse_central::error::SyncError;
use gatehouse_central::objects::Objects;
use gatehouse_central::rows::{BATCH_TIMEOUT, timed};
use gatehouse_central::services::{self, LISTED_MAX, Services};
use gatehouse_config::Config;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::Row;
use uuid::Uuid;

/// Largest sample. Its rows are in memory.
pub const SAMPLE_MAX: u32 = 10_000;

/// Rows per page.
const PAGE_ROWS: i64 = 500;
/// Objects read concurrently.
const READS_AT_ONCE: usize = 3;
/// Attempts to read an object.
const ATTEMPTS_MAX: u32 = 2;

const DOING: &str = "look up files";
const COLUMNS: &str = "select id, s3_key, file_size, checksum from gatehouse.files \
     where s3_bucket = $1 and status in ('active', 'archived', 'marked')";

/// Which files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A random sample of this size.
    Sample(u32),
    /// All files.
    All,
}

/// Result of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Files that were read, or should have been.
    pub files: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Files whose object is not what the row says.
    pub differ: u64,
    /// The first of them.
    pub differing: Vec<Differing>,
}

/// A file whose object is not what its row says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differing {
    /// Its id.
    pub id: String,
    /// Its key in the bucket.
    pub key: String,
    /// What differs.
    pub message: String,
}

struct Claim {
    id: Uuid,
    key: String,
    size: i64,
    checksum: String,
}

/// Reads objects back and compares size and SHA-256 with `gatehouse.files`.
///
/// # Errors
/// [`SyncError`] if the database or bucket cannot be read, or the line in the audit log cannot be written. A single
/// unreadable object counts as a difference.
pub async fn verify(config: &Config, scope: Scope) -> Result<Verified, SyncError> {
    let services = Services::open(config).await?;
    services.objects.guard().await?;
    let mut verified = Verified::default();
    let run = all_of(&services, scope, &mut verified).await;
    let details = json!({
        "all": scope == Scope::All,
        "files": verified.files,
        "differ": verified.differ,
        "complete": run.is_ok(),
    });
    services::audit(&services.link, "files.verify", services.objects.bucket(), &details).await?;
    run.map(|()| verified)
}

async fn all_of(services: &Services, scope: Scope, verified: &mut Verified) -> Result<(), SyncError> {
    let (client, bucket) = (&services.link.client, services.objects.bucket());
    let size = match scope {
        Scope::Sample(size) => {
            let query = format!("{COLUMNS} order by random() limit $2");
            let size = i64::from(size.min(SAMPLE_MAX));
            let rows = timed(DOING, BATCH_TIMEOUT, client.query(&query, &[&bucket, &size])).await?;
            return page_of(&services.objects, rows, verified).await.map(drop);
        }
        Scope::All => PAGE_ROWS,
    };
    let query = format!("{COLUMNS} and id > $2 order by id limit $3");
    let mut after = Some(Uuid::nil());
    while let Some(id) = after {
        let rows = timed(DOING, BATCH_TIMEOUT, client.query(&query, &[&bucket, &id, &size])).await?;
        after = page_of(&services.objects, rows, verified).await?;
    }
    Ok(())
}

/// The last id of the page. None if it was empty.
async fn page_of(
    objects: &Objects,
    rows: Vec<Row>,
    verified: &mut Verified,
) -> Result<Option<Uuid>, SyncError> {
    let last = rows.last().map(|row| row.get(0));
    let claims = rows.into_iter().map(|row| Claim {
        id: row.get(0),
        key: row.get(1),
        size: row.get(2),
        checksum: row.get(3),
    });
    let mut read = stream::iter(claims).map(|claim| one(objects, claim)).buffer_unordered(READS_AT_ONCE);
    while let Some((claim, read)) = read.next().await {
        verified.files += 1;
        let message = match read? {
            Ok(size) => {
                verified.bytes += size;
                continue;
            }
            Err(message) => message,
        };
        verified.differ += 1;
        if verified.differing.len() < LISTED_MAX {
            verified.differing.push(Differing { id: claim.id.to_string(), key: claim.key, message });
        }
    }
    Ok(last)
}

/// The size of the object, or a text about the difference.
async fn one(objects: &Objects, claim: Claim) -> (Claim, Result<Result<u64, String>, SyncError>) {
    let compared = compare(objects, &claim).await;
    (claim, compared)
}

async fn compare(objects: &Objects, claim: &Claim) -> Result<Result<u64, String>, SyncError> {
    let mut read = objects.read_back(&claim.key).await;
    for _ in 1..ATTEMPTS_MAX {
        if read.is_ok() {
            break;
        }
        read = objects.read_back(&claim.key).await;
    }
    let content = match read {
        Ok(Some(content)) => content,
        Ok(None) => return Ok(Err("there is no object".to_owned())),
        Err(error) => {
            // Distinguishes a failure of this object from one of the server.
            objects.guard().await?;
            return Ok(Err(error.once()));
        }
    };
    Ok(if i64::try_from(content.size) != Ok(claim.size) {
        Err(format!("{} bytes there, {} in the row", content.size, claim.size))
    } else if format!("sha256:{}", content.sha256) != claim.checksum {
        Err("its SHA-256 differs".to_owned())
    } else {
        Ok(content.size)
    })
}
