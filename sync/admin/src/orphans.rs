//! `gatehouse central orphans`: objects without a row in `gatehouse.files`, and rows without an object.
//!
//! Only objects below `devices/<device>/events/` have rows. The listing of the bucket and the rows have the same order
//! and are merged, with one page of each in memory. The rows are read first. Their objects existed before them, so a
//! row without an object is an orphan. An object is uploaded before its row is written, perhaps by weeks. It counts as
//! an orphan only if its appliance has delivered events that are a day younger, and never on its first day.
//!
//! A repair runs over both a second time, and changes no more than the first pass counted.

mod repair;
mod walk;

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use gatehouse_central::error::SyncError;
use gatehouse_central::objects::Listed;
use gatehouse_central::rows::{BATCH_TIMEOUT, Link, timed};
use gatehouse_central::services::{self, LISTED_MAX, Services};
use gatehouse_config::Config;
use serde::{Deserialize, Serialize};

use repair::Mender;
use walk::{Met, Walk};

/// How much older an object without a row must be than now and than the last event of its appliance.
const ORPHAN_GRACE: TimeDelta = TimeDelta::hours(24);
/// Maximum share of files changed without `force`. A larger share suggests a wrong bucket or an old database.
const SHARE_PERCENT_MAX: u64 = 10;
/// Prefix of objects of appliances.
const PREFIX: &str = "devices/";

const DOING: &str = "look for orphans";

/// Result of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphans {
    /// Objects below `devices/<device>/events/`.
    pub objects: u64,
    /// Rows of the bucket.
    pub rows: u64,
    /// Objects whose row may still be delivered. They are not changed.
    pub waiting: u64,
    /// Objects without a row.
    pub without_row: u64,
    /// Rows of status active or archived without an object.
    pub without_object: u64,
    /// The first of both kinds.
    pub orphans: Vec<Orphan>,
    /// Number of repaired orphans. None if no repair was requested.
    pub fixed: Option<u64>,
}

/// One orphan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// Its key in the bucket.
    pub key: String,
    /// Id of the row. None for an object without a row.
    pub id: Option<String>,
}

/// What to do with orphans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Report them.
    Look,
    /// Move objects to `quarantine/`, set rows to `deleted`.
    Fix {
        /// Whether more than a tenth of all files may be changed.
        force: bool,
    },
}

/// Finds orphans of both kinds, and repairs them if requested.
///
/// # Errors
/// [`SyncError`] if the database or bucket cannot be read or is of another environment, or the role sees only one
/// appliance. A repair also fails, without any change, if one side is empty or too much would be changed. After an
/// error during the repair the next run does the rest.
pub async fn orphans(config: &Config, order: Order) -> Result<Orphans, SyncError> {
    let Services { mut link, objects } = Services::open(config).await?;
    objects.guard().await?;
    services::sees_all(&link).await?;
    let judge = Judge { reached: reached(&link).await?, now: Utc::now() };
    let mut found = Orphans::default();
    let mut walk = Walk::start(&mut link, &objects).await?;
    while let Some(met) = walk.next().await? {
        found.count(&judge, met);
    }
    drop(walk);
    let Order::Fix { force } = order else { return Ok(found) };
    found.permit(force)?;
    let mender =
        Mender { link: services::ready(services::database_of(config)?, config).await?, objects: &objects };
    let (mut fixed, most) = (0, found.touched());
    let mut walk = Walk::start(&mut link, &objects).await?;
    while fixed < most
        && let Some(met) = walk.next().await?
    {
        fixed += u64::from(match met {
            Met::Object(object) if judge.is_orphan(&object) => mender.set_aside(&object.key).await?,
            Met::Row { id, key, kept: true } => mender.give_up(id, &key).await?,
            _ => false,
        });
    }
    found.fixed = Some(fixed);
    Ok(found)
}

/// When each appliance received its last delivered event, the one at the cursor.
async fn reached(link: &Link) -> Result<HashMap<String, DateTime<Utc>>, SyncError> {
    let query = "select c.device_id, max(e.received_at) from gatehouse.device_cursors c \
                 join gatehouse.events e on e.device_id = c.device_id and e.seq = c.seq group by c.device_id";
    let rows = timed(DOING, BATCH_TIMEOUT, link.client.query(query, &[])).await?;
    Ok(rows.into_iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Decides whether an object without a row is an orphan.
struct Judge {
    reached: HashMap<String, DateTime<Utc>>,
    now: DateTime<Utc>,
}

impl Judge {
    /// Whether its row should have been delivered by now.
    fn is_orphan(&self, object: &Listed) -> bool {
        let device = object.key.strip_prefix(PREFIX).and_then(|rest| rest.split('/').next());
        let reached = device.and_then(|device| self.reached.get(device));
        let (Some(modified), Some(reached)) = (object.modified, reached) else { return false };
        modified + ORPHAN_GRACE < self.now.min(*reached)
    }
}

impl Orphans {
    fn count(&mut self, judge: &Judge, met: Met) {
        let orphan = match met {
            Met::Both => {
                self.objects += 1;
                self.rows += 1;
                return;
            }
            Met::Object(object) => {
                self.objects += 1;
                if !judge.is_orphan(&object) {
                    self.waiting += 1;
                    return;
                }
                self.without_row += 1;
                Orphan { key: object.key, id: None }
            }
            Met::Row { id, key, kept } => {
                self.rows += 1;
                if !kept {
                    return;
                }
                self.without_object += 1;
                Orphan { key, id: Some(id.to_string()) }
            }
        };
        if self.orphans.len() < LISTED_MAX {
            self.orphans.push(orphan);
        }
    }

    fn touched(&self) -> u64 {
        self.without_row + self.without_object
    }

    /// Whether so many files may be changed.
    fn permit(&self, force: bool) -> Result<(), SyncError> {
        let (touched, all) = (self.touched(), self.rows + self.without_row);
        let refused = |message: String| Err(SyncError::Setup(format!("{message}; nothing was touched")));
        if touched == 0 {
            return Ok(());
        }
        if self.rows == 0 {
            return refused(
                "gatehouse.files has no row of this bucket: is it the right database?".to_owned(),
            );
        }
        if self.objects == 0 {
            return refused(format!("the bucket has no object below {PREFIX}: is it the right one?"));
        }
        if !force && touched * 100 > all * SHARE_PERCENT_MAX {
            return refused(format!(
                "{touched} of {all} would be touched, more than {SHARE_PERCENT_MAX} %: look at them without --fix, then \
                 add --force if that is right"
            ));
        }
        Ok(())
    }
}
