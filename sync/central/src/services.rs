//! Database and bucket together, both of the environment of the settings, as administration commands need them.

use gatehouse_config::{Config, Rows};
use serde_json::Value;

use crate::error::{GuardFault, SyncError};
use crate::objects::{Limits, Objects};
use crate::rows::{self, CALL_TIMEOUT, Link, SCHEMA_NEEDED, timed};

/// Maximum number of files listed by name. Counts always include all files.
pub const LISTED_MAX: usize = 1000;

const PLACE: &str = "the database";

/// Database and bucket.
pub struct Services {
    /// The connection to the database.
    pub link: Link,
    /// The bucket.
    pub objects: Objects,
}

impl Services {
    /// Connects to the database. Nothing is sent to the bucket.
    ///
    /// # Errors
    /// [`SyncError`] if a setting is missing, or the database is unreachable or of another environment.
    pub async fn open(config: &Config) -> Result<Self, SyncError> {
        let objects = Objects::open(config, Limits::default())?;
        Ok(Self { link: ready(database_of(config)?, config).await?, objects })
    }
}

/// The database of the settings.
pub fn database_of(config: &Config) -> Result<&Rows, SyncError> {
    let message = "the settings name no central database: add [central.rows]";
    config.central.rows.as_ref().ok_or_else(|| SyncError::Setup(message.to_owned()))
}

/// A connection to a database with an audit log and the environment of the settings.
pub async fn ready(rows: &Rows, config: &Config) -> Result<Link, SyncError> {
    let link = rows::connect(rows).await?;
    let version = rows::version(&link).await?;
    if version < SCHEMA_NEEDED {
        let message = format!("schema version {version}, {SCHEMA_NEEDED} is needed");
        return Err(GuardFault::NotPrepared { place: PLACE, message }.into());
    }
    let ours = config.device.environment.as_str();
    match rows::environment(&link.client).await? {
        Some(theirs) if theirs == ours => Ok(link),
        Some(theirs) => Err(GuardFault::Environment { place: PLACE, theirs, ours }.into()),
        None => {
            let message = "it has no environment mark".to_owned();
            Err(GuardFault::NotPrepared { place: PLACE, message }.into())
        }
    }
}

/// Fails for the role of a device. It sees only its own rows, so that all other rows would count as missing.
pub async fn sees_all(link: &Link) -> Result<(), SyncError> {
    const DOING: &str = "query the signed-in role";
    let query = "select gatehouse.session_device()";
    let row = timed(DOING, CALL_TIMEOUT, link.client.query_one(query, &[])).await?;
    match row.get::<_, Option<String>>(0) {
        None => Ok(()),
        Some(device) => Err(SyncError::Setup(format!(
            "central.rows.url signs in as appliance `{device}`, which sees only its own files: name the owner of the tables"
        ))),
    }
}

/// Writes a line of the audit log.
pub async fn audit(link: &Link, action: &str, subject: &str, details: &Value) -> Result<(), SyncError> {
    let line = "select gatehouse.audit($1, $2, $3)";
    timed("write the audit log", CALL_TIMEOUT, link.client.execute(line, &[&action, &subject, details]))
        .await
        .map(drop)
}
