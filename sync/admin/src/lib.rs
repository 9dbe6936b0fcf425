//! Administration of the central services: the commands below `gatehouse central`.

pub mod archive;
mod database;
pub mod delete;
mod device;
pub mod orphans;
pub mod receipt;
mod report;
pub mod requests;
pub mod retention;
pub mod shared_people;
pub mod verify;

use gatehouse_central::error::{GuardFault, SyncError};
use gatehouse_central::finding::{Finding, Step};
use gatehouse_central::rows::{self, Link};
use gatehouse_central::{objects, services};
use gatehouse_config::Config;

pub use device::{Enrolled, SignIn, enroll, new_password, retire};
pub use report::{Appliance, Day, Person, Report, Unknown, Visit, export, person, report};

/// Creates what is missing: schema and environment mark of the database, bucket and its rules. Existing objects are
/// not changed, so it may be repeated. The configured role and keys need the permission.
///
/// # Errors
/// The first failure. Completed steps stay.
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

/// Brings the schema of the database to version `to`, or to the newest of this program. A downgrade discards
/// data of later versions, and is refused without `discard`.
///
/// # Errors
/// The first failure. Completed steps stay.
pub async fn migrate(config: &Config, to: Option<i32>, discard: bool) -> Result<Vec<Step>, SyncError> {
    let rows = config.central.rows.as_ref().ok_or_else(nothing_named)?;
    database::migrate(rows, config.device.environment, to, discard).await
}

/// Checks the central services. Each failed check has advice. Changes nothing.
pub async fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(rows) = &config.central.rows {
        findings.extend(database::check(rows, &config.device).await);
    }
    if config.central.objects.is_some() {
        findings.extend(objects::check(config).await);
    }
    if findings.is_empty() {
        findings.push(Finding::bad("central services", nothing_named().to_string(), None));
    }
    findings
}

/// A connection to the configured database with at least this schema version and of the configured environment.
async fn prepared(config: &Config, least: i32) -> Result<Link, SyncError> {
    let link = services::ready(services::database_of(config)?, config).await?;
    let version = rows::version(&link).await?;
    if version < least {
        let message = format!("schema version {version}, {least} is needed");
        return Err(GuardFault::NotPrepared { place: "the database", message }.into());
    }
    Ok(link)
}

fn nothing_named() -> SyncError {
    SyncError::Setup(
        "the settings name no central services: add [central.rows] or [central.objects]".to_owned(),
    )
}
