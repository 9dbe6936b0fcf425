//! Errors of the central services. Each text says what to do next.
//!
//! The caller decides by the variant, never by the text. There are three reactions: wait and retry the same item (the
//! default), set the item aside ([`SyncError::is_permanent`]), or stop the sink until an operator acts
//! ([`SyncError::stops_sink`]). No variant contains a secret, a name of a person or biometric data.

use std::error::Error as StdError;
use std::time::Duration;

use gatehouse_tls as tls;
use thiserror::Error;

/// Longest text of a foreign error that is kept, in characters: enough for a sentence, too short for an HTML page.
const MESSAGE_CHARS_MAX: usize = 300;

/// A failed call to a central service, or a refused command.
#[derive(Debug, Error)]
pub enum SyncError {
    /// The configuration or a file that it names cannot be used.
    #[error("{0}")]
    Setup(String),
    /// This appliance must not write to this database or bucket.
    #[error("{0}")]
    Guard(#[from] GuardFault),
    /// There is no connection, or it broke.
    #[error("{doing}: {message}; retried automatically")]
    Unreachable {
        /// The operation, e.g. `connect to Postgres`.
        doing: &'static str,
        /// The cause.
        message: String,
    },
    /// A call exceeded its deadline.
    #[error("{doing}: no answer within {} s; retried automatically", after.as_secs())]
    Deadline {
        /// The operation.
        doing: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The service is reachable but cannot serve now: overload, restart, full disk, lock, deadlock, read-only standby.
    #[error("{doing}: the service reports {code}: {message}; retried automatically")]
    Busy {
        /// The operation.
        doing: &'static str,
        /// SQLSTATE, HTTP status or S3 code.
        code: String,
        /// The message of the service.
        message: String,
    },
    /// Credentials or permissions are missing.
    #[error("{doing}: not permitted ({code}): {message}; check user, password or keys, and rights")]
    Denied {
        /// The operation.
        doing: &'static str,
        /// SQLSTATE, HTTP status or S3 code.
        code: String,
        /// The message of the service.
        message: String,
    },
    /// The certificate of the server is not valid.
    #[error(
        "{doing}: the certificate of the server is not valid: {message}; renew it, name its authority in ca_file, or correct the \
         clock of the appliance"
    )]
    Certificate {
        /// The operation.
        doing: &'static str,
        /// What is wrong with the certificate.
        message: String,
    },
    /// The service will never accept this item as it is.
    #[error("{doing}: refused ({code}): {message}")]
    Refused {
        /// The operation.
        doing: &'static str,
        /// SQLSTATE, HTTP status or S3 code.
        code: String,
        /// The message of the service.
        message: String,
    },
    /// The stored object differs from what was uploaded.
    #[error("{doing}: the stored object differs: {message}; uploaded again automatically")]
    Verify {
        /// The operation.
        doing: &'static str,
        /// What differs.
        message: String,
    },
    /// The local copy of one item is unreadable, so the item can never be delivered.
    #[error("{doing}: the local copy cannot be read: {message}; run `gatehouse doctor`")]
    Damaged {
        /// The operation.
        doing: &'static str,
        /// The cause.
        message: String,
    },
    /// The local store failed.
    #[error("{doing}: {source}")]
    Store {
        /// The operation.
        doing: &'static str,
        /// The error of the store.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// Why this appliance must not write to a central service. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GuardFault {
    /// The database or bucket belongs to another environment.
    #[error(
        "{place} is of environment `{theirs}`, this appliance of `{ours}`: nothing was written; \
         correct device.environment or the address in [central]"
    )]
    Environment {
        /// `the database` or `the bucket`.
        place: &'static str,
        /// The environment found there.
        theirs: String,
        /// The environment of this appliance.
        ours: &'static str,
    },
    /// The database or bucket has no environment mark or no schema.
    #[error("{place} is not prepared for Gatehouse ({message}): run `gatehouse central init`")]
    NotPrepared {
        /// `the database` or `the bucket`.
        place: &'static str,
        /// What is missing.
        message: String,
    },
    /// The device id belongs to another state directory.
    #[error(
        "device id `{device}` belongs to another appliance, or to an earlier state directory of this one: \
         nothing was written; give this appliance a device.id of its own, or restore its state directory"
    )]
    ForeignState {
        /// The device id.
        device: String,
    },
    /// The database has records of this appliance that its own journal does not have.
    #[error(
        "the database has this appliance's records up to {theirs}, its own journal ends at {ours}: the state \
         directory is an old copy; nothing was written; restore the newest state directory, or give this \
         appliance a device.id of its own"
    )]
    Ahead {
        /// Central cursor (journal record number).
        theirs: u64,
        /// Head of the local journal.
        ours: u64,
    },
    /// The other appliances share people under another deployment key.
    #[error(
        "the deployment key is not that of the other appliances: nothing was written; correct central.people.key_file \
         or the credential gatehouse.deployment-key"
    )]
    DeploymentKey,
    /// The database has another event under a `seq` of this appliance.
    #[error(
        "event {seq} in the database is not event {seq} of this appliance: the state directory is an old copy that \
         was used further; nothing was written; restore the newest state directory, or give this appliance a \
         device.id of its own"
    )]
    Diverged {
        /// Number of the event at the central cursor.
        seq: u64,
    },
    /// More events are missing in the local journal than damage can explain.
    #[error(
        "events {from} to {to} are neither in the database nor in this appliance's journal: nothing was written; \
         restore the database to its newest state"
    )]
    Gap {
        /// First missing event.
        from: u64,
        /// Last missing event.
        to: u64,
    },
}

impl SyncError {
    /// Whether a retry of the same item will always fail. The item is set aside, and the others go on.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Damaged { .. })
    }

    /// Whether this sink cannot deliver until an operator acts. It still retries, rarely.
    pub fn stops_sink(&self) -> bool {
        matches!(self, Self::Setup(_) | Self::Guard(_) | Self::Denied { .. } | Self::Certificate { .. })
    }

    /// The text for a command, which is not retried automatically.
    pub fn once(&self) -> String {
        let message = self.to_string();
        message.strip_suffix("; retried automatically").map_or(message.clone(), str::to_owned)
    }

    /// Wraps an error of the store.
    pub fn store<E>(doing: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        move |error| Self::Store { doing, source: error.into() }
    }
}

/// The text of a foreign error and its causes on one line, without control characters, truncated.
pub fn error_text(error: &(dyn StdError + 'static)) -> String {
    if let Some(failure) = tls::failure(error) {
        return clip(&tls::reason(failure));
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    clip(&text)
}

/// The error if the certificate of the server is not valid.
pub fn certificate(doing: &'static str, error: &(dyn StdError + 'static)) -> Option<SyncError> {
    match tls::failure(error)? {
        rustls::Error::InvalidCertificate(why) => {
            Some(SyncError::Certificate { doing, message: clip(&tls::certificate_reason(why)) })
        }
        _ => None,
    }
}

/// One line of at most [`MESSAGE_CHARS_MAX`] characters.
pub fn clip(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_words_are_one_short_line() {
        let error = std::io::Error::other(format!("<html>\n{}", "x".repeat(9000)));
        let message = error_text(&error);
        assert_eq!(message.chars().count(), MESSAGE_CHARS_MAX);
        assert!(!message.contains('\n'));
    }
}
