//! `gatehouse central archive --check`: every file is read back, and says itself that nothing is missing and nothing double.
//!
//! One page of rows and one chunk of a file are in memory; a file is on the local disk, without a name, while it is looked
//! at. Nothing is changed.

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

/// Rows, and keys of objects, asked for at once.
const PAGE: i64 = 500;

const ROWS: &str = "select device_id, first_seq, last_seq, day, s3_key, file_size, checksum, archived_at is not null \
     from gatehouse.archive where s3_bucket = $1 and (device_id collate \"C\", first_seq) > ($2, $3) \
     order by device_id collate \"C\", first_seq limit $4";
const WITHOUT_ROW: &str = "select k from unnest($1::text[]) k \
     where not exists (select from gatehouse.archive a where a.s3_bucket = $2 and a.s3_key = k)";

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Files read back.
    pub files: u64,
    /// Events in them.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many faults there are.
    pub wrong: u64,
    /// The first of them.
    pub faults: Vec<Fault>,
}

/// A file that is missing, too many, or not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its key in the bucket.
    pub key: String,
    /// What is wrong.
    pub words: String,
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

/// Reads the whole archive back: every file is what its row says, its numbers are those of its name, the numbers of an
/// appliance follow each other from 1 without hole and double, and there is no file beside these.
///
/// # Errors
/// [`SyncError`] where database or bucket cannot be read. What is wrong with the archive is no error but a fault.
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
            if let Some(words) = sequel(last, &claim) {
                checked.wrong(&claim.key, words);
            }
            (first, last) = (claim.first, last.max(claim.last));
            checked.one(&services, &claim).await?;
        }
    }
    checked.find_others(&services).await?;
    Ok(checked)
}

/// Rows after one of an appliance.
async fn page_after(services: &Services, device: &str, first: i64) -> Result<Vec<Row>, SyncError> {
    let bucket = services.objects.bucket();
    let values: [&Value<'_>; 4] = [&bucket, &device, &first, &PAGE];
    timed(DOING, BATCH_TIMEOUT, services.link.client.query(ROWS, &values)).await
}

/// What is wrong where a file comes after event `last`.
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

    /// What is wrong with a file that says this of itself.
    fn differs(&self, contents: &file::Contents) -> Option<String> {
        let file::Contents { range: (first, last), days: (from, to) } = *contents;
        if (first, last) == (self.first, self.last)
            && (from, to) == (self.day, self.day)
            && self.key == key(&self.device, self.day, first, last)
        {
            return None;
        }
        Some(format!("it holds events {first} to {last} of {from} to {to}, which is not what its name says"))
    }
}

impl Checked {
    fn wrong(&mut self, key: &str, words: String) {
        self.wrong += 1;
        if self.faults.len() < LISTED_MAX {
            self.faults.push(Fault { key: key.to_owned(), words });
        }
    }

    async fn one(&mut self, services: &Services, claim: &Claim) -> Result<(), SyncError> {
        if !claim.archived {
            self.wrong(
                &claim.key,
                "it was begun and not finished: run `gatehouse central archive`".to_owned(),
            );
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
            self.wrong(&claim.key, "size or SHA-256 is another than in its row".to_owned());
            return Ok(());
        }
        let read = blocking(move || {
            place.seek(SeekFrom::Start(0))?;
            Ok(file::contents(place))
        });
        match read.await? {
            Ok(contents) => {
                self.events += to_u64(contents.range.1 - contents.range.0 + 1);
                if let Some(words) = claim.differs(&contents) {
                    self.wrong(&claim.key, words);
                }
            }
            Err(error) => self.wrong(&claim.key, format!("it cannot be read: {error}")),
        }
        Ok(())
    }

    /// Objects of the archive that no row knows: who reads the folder would count their events as well.
    async fn find_others(&mut self, services: &Services) -> Result<(), SyncError> {
        let bucket = services.objects.bucket();
        let mut listing = services.objects.listing(PREFIX).await?;
        let mut keys = Vec::new();
        loop {
            let next = listing.next().await?;
            let ended = next.is_none();
            keys.extend(next.map(|listed| listed.key));
            if keys.len() < PAGE.unsigned_abs() as usize && !ended {
                continue;
            }
            let values: [&Value<'_>; 2] = [&keys, &bucket];
            for row in timed(DOING, BATCH_TIMEOUT, services.link.client.query(WITHOUT_ROW, &values)).await? {
                self.wrong(row.get(0), "gatehouse.archive does not know it: move it away".to_owned());
            }
            keys.clear();
            if ended {
                return Ok(());
            }
        }
    }
}
