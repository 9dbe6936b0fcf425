//! `gatehouse media url` and `gatehouse central url`: a presigned URL for one file, and its line in the audit log.
//!
//! The line must be committed before the URL leaves this module. An appliance without a central database has no audit
//! log; there the line goes to its own log.

use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use gatehouse_config::{Config, duration_text};
use gatehouse_model::KeyId;
use gatehouse_store::record::ObjectPlace;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::SyncError;
use crate::objects::{Limits, Objects};
use crate::rows::{self, CALL_TIMEOUT, timed};
use crate::services::{self, Services};

/// Validity of a URL. The maximum is that of S3.
pub const EXPIRES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);

/// Action of the line in the audit log.
const ACTION: &str = "file.url";
const DOING: &str = "look up the file";

/// A URL that allows reading one file until it expires. Must not be logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Id of the file, as in `gatehouse.files`.
    pub id: String,
    /// The URL. It contains a signature and no secret key.
    pub url: String,
    /// When it expires, RFC 3339.
    pub expires_at: String,
}

/// For a delivered file of this appliance. `uid` is the local user who requested it.
///
/// # Errors
/// [`SyncError::Setup`] with the reason if the line cannot be written or a setting is missing.
pub async fn of_appliance(
    config: &Config,
    file: &KeyId,
    place: &ObjectPlace,
    expires: Duration,
    uid: u32,
) -> Result<Grant, SyncError> {
    let objects = Objects::open(config, Limits::default())?;
    let id = Uuid::from_bytes(*file.as_bytes()).to_string();
    let grant = sign(&objects, id, place, expires).await?;
    match &config.central.rows {
        None => tracing::info!(file = grant.id, until = grant.expires_at, uid, "a URL of a file was given"),
        Some(rows) => {
            let link = services::ready(rows, config).await.map_err(|error| unwritten(&error))?;
            // The row of a file may not have been delivered yet. The file exists all the same.
            let query = "select status from gatehouse.files where s3_bucket = $1 and s3_key = $2";
            let values: [&rows::Value<'_>; 2] = [&place.bucket, &place.key];
            if let Some(row) = timed(DOING, CALL_TIMEOUT, link.client.query_opt(query, &values)).await? {
                kept(row.get(0))?;
            }
            let mut details = details(&grant, place, expires);
            details["uid"] = uid.into();
            services::audit(&link, ACTION, &grant.id, &details).await.map_err(|error| unwritten(&error))?;
        }
    }
    Ok(grant)
}

/// For a file by its id in `gatehouse.files`, or by its key in the bucket.
///
/// # Errors
/// [`SyncError::Setup`] if there is no such file, it is no longer kept, or the line cannot be written. Other errors if
/// the database or the settings fail.
pub async fn url(config: &Config, file: &str, expires: Duration) -> Result<Grant, SyncError> {
    let Services { link, objects } = Services::open(config).await?;
    let query = "select id, s3_bucket, s3_key, status from gatehouse.files \
                 where id = $1 or (s3_bucket = $2 and s3_key = $3)";
    let id = Uuid::parse_str(file).ok();
    let bucket = objects.bucket();
    let row = timed(DOING, CALL_TIMEOUT, link.client.query_opt(query, &[&id, &bucket, &file])).await?;
    let row = row.ok_or_else(|| {
        SyncError::Setup(format!("gatehouse.files has no file `{file}` that this role can see"))
    })?;
    let (id, status): (Uuid, String) = (row.get(0), row.get(3));
    kept(&status)?;
    let place = ObjectPlace { bucket: row.get(1), key: row.get(2) };
    let grant = sign(&objects, id.to_string(), &place, expires).await?;
    let details = details(&grant, &place, expires);
    services::audit(&link, ACTION, &grant.id, &details).await.map_err(|error| unwritten(&error))?;
    Ok(grant)
}

/// Whether files of this status may be given out.
fn kept(status: &str) -> Result<(), SyncError> {
    match status {
        "active" | "archived" => Ok(()),
        _ => Err(SyncError::Setup(format!("the file is {status}: no URL is given for it"))),
    }
}

async fn sign(
    objects: &Objects,
    id: String,
    place: &ObjectPlace,
    expires: Duration,
) -> Result<Grant, SyncError> {
    if !EXPIRES.contains(&expires) {
        let (least, most) = (duration_text(*EXPIRES.start()), duration_text(*EXPIRES.end()));
        return Err(SyncError::Setup(format!("a URL is valid for {least} to {most}")));
    }
    let until = Utc::now() + expires;
    let url = objects.presign(&place.bucket, &place.key, expires).await?;
    Ok(Grant { id, url, expires_at: until.to_rfc3339_opts(SecondsFormat::Secs, true) })
}

fn details(grant: &Grant, place: &ObjectPlace, expires: Duration) -> Value {
    json!({
        "bucket": place.bucket,
        "key": place.key,
        "expires_s": expires.as_secs(),
        "expires_at": grant.expires_at,
    })
}

fn unwritten(error: &SyncError) -> SyncError {
    let message = error.once();
    SyncError::Setup(format!("no URL is given without its line in the central audit log: {message}"))
}
