//! Preparing and checking the central side: the commands below `gatehouse central`.

pub mod archive;
mod database;
pub mod delete;
mod device;
pub mod orphans;
mod report;
pub mod retention;
pub mod shared_people;
pub mod verify;

use gatehouse_central::error::{GuardFault, SyncError};
use gatehouse_central::finding::{Finding, Step};
use gatehouse_central::rows::{self, Link};
use gatehouse_central::{objects, services};
use gatehouse_config::Config;

pub use device::{Enrolled, SignIn, enroll, new_password, retire};
pub use report::{Appliance, Day, Person, Report, Unknown, Visit, person, report};

/// Makes what is missing at the central side that the settings name: schema and environment mark of the database,
/// bucket and its rules. What is there stays as it is, so it can be run again at any time. The roles and keys of the
/// settings need the right to do so.
///
/// # Errors
/// The first failure; what was made before it stays.
pub async fn init(config: &Config) -> Result<Vec<Step>, SyncError> {
    let mut steps = Vec::new();
    if let Some(rows) = &config.central.rows {
        steps.extend(database::init(rows, config).await?);
    }
    if config.central.objects.is_some() {
        steps.extend(objects::init(config).await?);
    }
    if steps.is_empty() {
        return Err(nothing_named());
    }
    Ok(steps)
}

/// Brings the database's schema to version `to`, or to the newest that this program knows. Going down loses what only
/// later versions keep, and is refused without `discard`.
///
/// # Errors
/// The first failure; steps before it stay.
pub async fn migrate(config: &Config, to: Option<i32>, discard: bool) -> Result<Vec<Step>, SyncError> {
    let rows = config.central.rows.as_ref().ok_or_else(nothing_named)?;
    database::migrate(rows, config.device.environment, to, discard).await
}

/// Looks at the central side and says in words what is wrong and what to do. Changes nothing.
pub async fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(rows) = &config.central.rows {
        findings.extend(database::check(rows, &config.device).await);
    }
    if config.central.objects.is_some() {
        findings.extend(objects::check(config).await);
    }
    if findings.is_empty() {
        findings.push(Finding::bad("central side", nothing_named().to_string(), None));
    }
    findings
}

/// A connection to the settings' database, which must have a version of the schema and be of their environment.
async fn prepared(config: &Config, least: i32) -> Result<Link, SyncError> {
    let link = services::ready(services::database_of(config)?, config).await?;
    let version = rows::version(&link).await?;
    if version < least {
        let words = format!("schema version {version}, {least} is needed");
        return Err(GuardFault::NotPrepared { place: "the database", words }.into());
    }
    Ok(link)
}

fn nothing_named() -> SyncError {
    SyncError::Setup("the settings name no central side: add [central.rows] or [central.objects]".to_owned())
}
