//! What the commands about files of the central side share: database and bucket, both of the settings' environment.

use gatehouse_config::{Config, Rows};
use serde_json::Value;

use crate::error::{GuardFault, SyncError};
use crate::objects::{Limits, Objects};
use crate::rows::{self, CALL_TIMEOUT, Link, SCHEMA_NEEDED, timed};

/// Most files that an answer names; the numbers are always of all.
pub const LISTED_MAX: usize = 1000;

const PLACE: &str = "the database";

/// Both halves of the central side.
pub struct Services {
    /// The connection to the database.
    pub link: Link,
    /// The bucket.
    pub objects: Objects,
}

impl Services {
    /// Connects to the database; the bucket is not spoken to.
    ///
    /// # Errors
    /// [`SyncError`] where the settings lack one of the two, or the database is not there or not ours.
    pub async fn open(config: &Config) -> Result<Self, SyncError> {
        let objects = Objects::open(config, Limits::default())?;
        Ok(Self { link: ready(database_of(config)?, config).await?, objects })
    }
}

/// The database of the settings.
pub fn database_of(config: &Config) -> Result<&Rows, SyncError> {
    let words = "the settings name no central database: add [central.rows]";
    config.central.rows.as_ref().ok_or_else(|| SyncError::Setup(words.to_owned()))
}

/// A connection to a database with an audit log, marked as of the settings' environment.
pub async fn ready(rows: &Rows, config: &Config) -> Result<Link, SyncError> {
    let link = rows::connect(rows).await?;
    let version = rows::version(&link).await?;
    if version < SCHEMA_NEEDED {
        let words = format!("schema version {version}, {SCHEMA_NEEDED} is needed");
        return Err(GuardFault::NotPrepared { place: PLACE, words }.into());
    }
    let ours = config.device.environment.as_str();
    match rows::environment(&link.client).await? {
        Some(theirs) if theirs == ours => Ok(link),
        Some(theirs) => Err(GuardFault::Environment { place: PLACE, theirs, ours }.into()),
        None => {
            let words = "it carries no environment".to_owned();
            Err(GuardFault::NotPrepared { place: PLACE, words }.into())
        }
    }
}

/// Fails for a device's role, which sees its own rows alone: everybody else's would be taken for missing.
pub async fn sees_all(link: &Link) -> Result<(), SyncError> {
    const DOING: &str = "ask who signed in";
    let query = "select gatehouse.session_device()";
    let row = timed(DOING, CALL_TIMEOUT, link.client.query_one(query, &[])).await?;
    match row.get::<_, Option<String>>(0) {
        None => Ok(()),
        Some(device) => Err(SyncError::Setup(format!(
            "central.rows.url signs in as appliance `{device}`, which sees its own files alone: name who owns the tables"
        ))),
    }
}

/// A line of the audit log.
pub async fn audit(link: &Link, action: &str, subject: &str, details: &Value) -> Result<(), SyncError> {
    let line = "select gatehouse.audit($1, $2, $3)";
    timed("write the audit log", CALL_TIMEOUT, link.client.execute(line, &[&action, &subject, details]))
        .await
        .map(drop)
}
