//! `gatehouse central archive --check`: reads every file back and proves that no event is missing or duplicate.
//!
//! Memory holds one page of rows and one chunk of a file. A file is on the local disk, without a name, while it is
//! examined. Nothing is changed.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};

use chrono::NaiveDate;
use gatehouse_central::error::SyncError;
use gatehouse_central::rows::{BATCH_TIMEOUT, Value, timed, to_u64};
use gatehouse_central::services::{LISTED_MAX, Services};
use gatehouse_config::Config;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use super::{DOING, PREFIX, blocking, file, key, open};

/// Rows or object keys per query.
const PAGE_ROWS: i64 = 500;

const ROWS: &str = "select device_id, first_seq, last_seq, day, s3_key, file_size, checksum, archived_at is not null \
     from gatehouse.archive where s3_bucket = $1 and (device_id collate \"C\", first_seq) > ($2, $3) \
     order by device_id collate \"C\", first_seq limit $4";
const WITHOUT_ROW: &str = "select k from unnest($1::text[]) k \
     where not exists (select from gatehouse.archive a where a.s3_bucket = $2 and a.s3_key = k)";

/// Result of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Files read back.
    pub files: u64,
    /// Events in them.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Number of faults.
    pub wrong: u64,
    /// The first of them.
    pub faults: Vec<Fault>,
}

/// A file that is missing, unknown or wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its key in the bucket.
    pub key: String,
    /// What is wrong.
    pub message: String,
}

struct Claim {
    device: String,
    first: i64,
    last: i64,
    day: NaiveDate,
    key: String,
    size: Option<i64>,
    checksum: Option<String>,
    archived: bool,
}

/// Reads the whole archive back. Each file must match its row and its name, the numbers of an appliance must be
/// consecutive from 1, and there must be no other file.
///
/// # Errors
/// [`SyncError`] if the database or bucket cannot be read. Defects of the archive are faults in the result.
pub async fn check(config: &Config) -> Result<Checked, SyncError> {
    let services = open(config).await?;
    let mut checked = Checked::default();
    let (mut device, mut first, mut last) = (String::new(), 0, 0);
    loop {
        let page = page_after(&services, &device, first).await?;
        if page.is_empty() {
            break;
        }
        for row in page {
            let claim = Claim::of(&row);
            if claim.device != device {
                (device, last) = (claim.device.clone(), 0);
            }
            if let Some(message) = sequel(last, &claim) {
                checked.wrong(&claim.key, message);
            }
            (first, last) = (claim.first, last.max(claim.last));
            checked.one(&services, &claim).await?;
        }
    }
    checked.find_others(&services).await?;
    Ok(checked)
}

/// The rows after one of an appliance.
async fn page_after(services: &Services, device: &str, first: i64) -> Result<Vec<Row>, SyncError> {
    let bucket = services.objects.bucket();
    let values: [&Value<'_>; 4] = [&bucket, &device, &first, &PAGE_ROWS];
    timed(DOING, BATCH_TIMEOUT, services.link.client.query(ROWS, &values)).await
}

/// What is wrong if this file follows event `last`.
fn sequel(last: i64, claim: &Claim) -> Option<String> {
    match claim.first - last {
        1 => None,
        2.. => Some(format!("events {} to {} are in no file", last + 1, claim.first - 1)),
        _ => Some(format!("events {} to {} are in another file too", claim.first, last.min(claim.last))),
    }
}

impl Claim {
    fn of(row: &Row) -> Self {
        Self {
            device: row.get(0),
            first: row.get(1),
            last: row.get(2),
            day: row.get(3),
            key: row.get(4),
            size: row.get(5),
            checksum: row.get(6),
            archived: row.get(7),
        }
    }

    /// What is wrong with a file of this content.
    fn differs(&self, contents: &file::Contents) -> Option<String> {
        let file::Contents { range: (first, last), days: (from, to) } = *contents;
        if (first, last) == (self.first, self.last)
            && (from, to) == (self.day, self.day)
            && self.key == key(&self.device, self.day, first, last)
        {
            return None;
        }
        Some(format!("it contains events {first} to {last} of {from} to {to}, which differs from its name"))
    }
}

impl Checked {
    fn wrong(&mut self, key: &str, message: String) {
        self.wrong += 1;
        if self.faults.len() < LISTED_MAX {
            self.faults.push(Fault { key: key.to_owned(), message });
        }
    }

    async fn one(&mut self, services: &Services, claim: &Claim) -> Result<(), SyncError> {
        if !claim.archived {
            self.wrong(&claim.key, "it is incomplete: run `gatehouse central archive`".to_owned());
            return Ok(());
        }
        let mut place: File = blocking(|| Ok(tempfile::tempfile()?)).await?;
        let Some(content) = services.objects.read_into(&claim.key, &mut place).await? else {
            self.wrong(&claim.key, "there is no object".to_owned());
            return Ok(());
        };
        self.files += 1;
        self.bytes += content.size;
        if claim.size.map(to_u64) != Some(content.size)
            || claim.checksum != Some(format!("sha256:{}", content.sha256))
        {
            self.wrong(&claim.key, "size or SHA-256 differs from its row".to_owned());
            return Ok(());
        }
        let read = blocking(move || {
            place.seek(SeekFrom::Start(0))?;
            Ok(file::contents(place))
        });
        match read.await? {
            Ok(contents) => {
                self.events += to_u64(contents.range.1 - contents.range.0 + 1);
                if let Some(message) = claim.differs(&contents) {
                    self.wrong(&claim.key, message);
                }
            }
            Err(error) => self.wrong(&claim.key, format!("it cannot be read: {error}")),
        }
        Ok(())
    }

    /// Objects of the archive without a row: a reader of the folder would count their events as well.
    async fn find_others(&mut self, services: &Services) -> Result<(), SyncError> {
        let bucket = services.objects.bucket();
        let mut listing = services.objects.listing(PREFIX).await?;
        let mut keys = Vec::new();
        loop {
            let next = listing.next().await?;
            let ended = next.is_none();
            keys.extend(next.map(|listed| listed.key));
            if keys.len() < PAGE_ROWS.unsigned_abs() as usize && !ended {
                continue;
            }
            let values: [&Value<'_>; 2] = [&keys, &bucket];
            for row in timed(DOING, BATCH_TIMEOUT, services.link.client.query(WITHOUT_ROW, &values)).await? {
                self.wrong(row.get(0), "it has no row in gatehouse.archive: move it away".to_owned());
            }
            keys.clear();
            if ended {
                return Ok(());
            }
        }
    }
}
