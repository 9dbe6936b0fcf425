//! `gatehouse central init` for the bucket: the bucket itself, its mark, its lifecycle rules.
//!
//! It may be repeated and changes only what is missing. A bucket of another environment is refused before any change.
//! Lifecycle rules of others are never changed: a write replaces all rules of a bucket, and the client library would
//! lose fields that it does not know.

use gatehouse_config::Config;
use minio::s3::error::{Error, ValidationErr};
use minio::s3::lifecycle_config::{LifecycleConfig, LifecycleRule};
use minio::s3::types::Filter;

use super::Objects;
use super::classify::{classify, has_code};
use super::deadlines::Limits;
use super::marker::MARKER;
use crate::error::SyncError;
use crate::finding::Step;

/// Days after which media files move to the archive class.
const ARCHIVE_DAYS: u32 = 90;
/// The archive class. Cheap, and readable at once, as presigned URLs require.
const ARCHIVE_CLASS: &str = "GLACIER_IR";
/// Days after which media files are deleted: the retention period of the contract.
const RETENTION_DAYS: u32 = 365;
/// Days that `quarantine/` is kept.
const QUARANTINE_DAYS: u32 = 30;
/// Days that `temp/` and unfinished uploads are kept.
const TEMP_DAYS: u32 = 7;
/// Prefix of the ids of the rules set here.
const OURS: &str = "gatehouse-";

const CREATING: &str = "create the bucket";
const RULES: &str = "set the lifecycle rules of the bucket";

/// Prepares the bucket of this configuration.
///
/// # Errors
/// [`SyncError`] if the server is unreachable or refuses, or the bucket is of another environment. A server that does
/// not support lifecycle rules, or not all of them, is reported as a step and is no error.
pub async fn init(config: &Config) -> Result<Vec<Step>, SyncError> {
    let objects = Objects::open(config, Limits::default())?;
    let mut steps = vec![objects.make_bucket().await?, objects.make_mark().await?];
    steps.extend(objects.make_rules().await?);
    Ok(steps)
}

fn step(what: impl Into<String>, changed: bool) -> Step {
    Step { what: what.into(), changed }
}

impl Objects {
    /// Creates the bucket if there is none.
    ///
    /// # Errors
    /// [`SyncError`] if the server is unreachable or refuses.
    pub async fn make_bucket(&self) -> Result<Step, SyncError> {
        let fault = |error: ValidationErr| classify(CREATING, &self.bucket, &error.into());
        let bucket = self.bucket.as_str();
        let there = self
            .call("look up the bucket", self.client.bucket_exists(bucket).map_err(fault)?.build())
            .await?;
        let what = format!("bucket `{bucket}`");
        if there.exists() {
            return Ok(step(what, false));
        }
        match self.ask(CREATING, self.client.create_bucket(bucket).map_err(fault)?.build()).await? {
            Ok(_) => Ok(step(what, true)),
            // A concurrent run created it first.
            Err(error) if has_code(&error, "BucketAlreadyOwnedByYou") => Ok(step(what, false)),
            Err(error) => Err(classify(CREATING, bucket, &error)),
        }
    }

    /// Whether the bucket exists.
    pub(super) async fn is_there(&self) -> Result<bool, SyncError> {
        const DOING: &str = "look up the bucket";
        let request = self.client.bucket_exists(self.bucket.as_str());
        let request = request.map_err(|error| classify(DOING, &self.bucket, &error.into()))?.build();
        Ok(self.call(DOING, request).await?.exists())
    }

    /// Marks the bucket as of this environment if it is not marked.
    ///
    /// # Errors
    /// [`SyncError`] if the bucket is of another environment, or the mark cannot be read or written.
    pub async fn make_mark(&self) -> Result<Step, SyncError> {
        let what = format!("bucket `{}`: {MARKER} says {}", self.bucket, self.environment);
        match self.mark().await? {
            Some(theirs) => self.compare(theirs).map(|()| step(what, false)),
            None => {
                self.write_mark().await?;
                self.guard().await.map(|()| step(what, true))
            }
        }
    }

    /// Sets the rules, or fewer of them if the server does not accept all.
    pub async fn make_rules(&self) -> Result<Vec<Step>, SyncError> {
        let what = |message: &str| format!("bucket `{}`: {message}", self.bucket);
        match self.rules().await? {
            Rules::Unsupported => {
                let message = "the server supports no lifecycle rules (501); empty temp/ and quarantine/ by other means";
                return Ok(vec![step(what(message), false)]);
            }
            Rules::Foreign => {
                let message = "it has lifecycle rules of its own, which were not changed; see the documentation \
                             for those to add";
                return Ok(vec![step(what(message), false)]);
            }
            Rules::Ours(ids) if ids == ids_of(&wanted(true, true)) => {
                return Ok(vec![step(what("lifecycle rules"), false)]);
            }
            Rules::Ours(known) => {
                for (archive, abort) in [(true, true), (false, true), (false, false)] {
                    let rules = wanted(archive, abort);
                    let same = known == ids_of(&rules);
                    if !same && !self.set_rules(rules).await? {
                        continue;
                    }
                    let mut steps = vec![step(what("lifecycle rules"), !same)];
                    if !archive {
                        steps.push(step(
                            what("the server offers no archive class; objects stay as they are"),
                            false,
                        ));
                    }
                    if !abort {
                        let message = "the server accepts no rule about unfinished uploads; see whether it removes them";
                        steps.push(step(what(message), false));
                    }
                    return Ok(steps);
                }
            }
        }
        Ok(vec![step(what("the server accepts none of the lifecycle rules"), false)])
    }

    async fn rules(&self) -> Result<Rules, SyncError> {
        let request = self.client.get_bucket_lifecycle(self.bucket.as_str());
        let request = request.map_err(|error| classify(RULES, &self.bucket, &error.into()))?.build();
        match self.ask(RULES, request).await? {
            // Rules that the client library cannot read are not from this program.
            Ok(answer) => Ok(answer.config().map_or(Rules::Foreign, |config| {
                let ids = ids_of(&config);
                if ids.iter().all(|id| id.starts_with(OURS)) { Rules::Ours(ids) } else { Rules::Foreign }
            })),
            Err(error) if has_code(&error, "NoSuchLifecycleConfiguration") => Ok(Rules::Ours(Vec::new())),
            Err(error) if unsupported(&error) => Ok(Rules::Unsupported),
            Err(error) => Err(classify(RULES, &self.bucket, &error)),
        }
    }

    /// False if the server does not accept these rules.
    async fn set_rules(&self, rules: LifecycleConfig) -> Result<bool, SyncError> {
        let request = self.client.put_bucket_lifecycle(self.bucket.as_str());
        let request = request.map_err(|error| classify(RULES, &self.bucket, &error.into()))?;
        match self.ask(RULES, request.life_cycle_config(rules).build()).await? {
            Ok(_) => Ok(true),
            Err(error) if unsupported(&error) || not_taken(&error) => Ok(false),
            Err(error) => Err(classify(RULES, &self.bucket, &error)),
        }
    }
}

/// The lifecycle rules of a bucket.
enum Rules {
    /// None, or rules of this program: their ids, sorted.
    Ours(Vec<String>),
    Foreign,
    Unsupported,
}

fn unsupported(error: &Error) -> bool {
    ["NotImplemented", "MethodNotAllowed", "NotSupported"].iter().any(|code| has_code(error, code))
}

fn not_taken(error: &Error) -> bool {
    ["InvalidArgument", "InvalidRequest", "InvalidStorageClass", "MalformedXML"]
        .iter()
        .any(|code| has_code(error, code))
}

fn ids_of(config: &LifecycleConfig) -> Vec<String> {
    let mut ids: Vec<_> = config.rules.iter().map(|rule| rule.id.clone()).collect();
    ids.sort();
    ids
}

/// The rules of the contract. Their ids contain their numbers, so that a changed number is a changed rule.
fn wanted(archive: bool, abort: bool) -> LifecycleConfig {
    let rule = |name: &str, days: u32, prefix: &str| LifecycleRule {
        id: format!("{OURS}{name}-{days}d"),
        status: true,
        filter: Filter { prefix: Some(prefix.to_owned()), ..Filter::default() },
        ..LifecycleRule::default()
    };
    let expire = |name: &str, days: u32, prefix: &str| LifecycleRule {
        expiration_days: Some(days),
        ..rule(name, days, prefix)
    };
    let mut rules = vec![
        expire("retention", RETENTION_DAYS, "devices/"),
        expire("quarantine", QUARANTINE_DAYS, "quarantine/"),
        expire("temp", TEMP_DAYS, "temp/"),
    ];
    if archive {
        rules.push(LifecycleRule {
            transition_days: Some(ARCHIVE_DAYS),
            transition_storage_class: Some(ARCHIVE_CLASS.to_owned()),
            ..rule("archive", ARCHIVE_DAYS, "devices/")
        });
    }
    if abort {
        rules.push(LifecycleRule {
            abort_incomplete_multipart_upload_days_after_initiation: Some(TEMP_DAYS),
            // The client library cannot read back a rule for the whole bucket. Only this prefix has multipart uploads.
            ..rule("unfinished", TEMP_DAYS, "devices/")
        });
    }
    LifecycleConfig { rules }
}
