//! What can go wrong on the way to the central side, in words that say what to do next.
//!
//! Retry asks the error, never its text. There are three answers: wait and try the same again (the rule), set the
//! item aside ([`SyncError::is_permanent`]), or stop the sink until somebody acts ([`SyncError::stops_sink`]).
//! No variant holds a secret, a name of a person or biometric data.

use std::error::Error as StdError;
use std::time::Duration;

use thiserror::Error;

use crate::tls;

/// Longest text of a foreign error that is kept, in characters: enough for a sentence, not for a page of HTML.
const WORDS_MAX: usize = 300;

/// A delivery that did not happen.
#[derive(Debug, Error)]
pub enum SyncError {
    /// The configuration or a file that it names cannot be used.
    #[error("{0}")]
    Setup(String),
    /// The central side is not the one this appliance may write to.
    #[error("{0}")]
    Guard(#[from] GuardFault),
    /// No connection, or it broke.
    #[error("{doing}: {words}; retried by itself")]
    Unreachable {
        /// What was being done, e.g. `connect to Postgres`.
        doing: &'static str,
        /// The cause.
        words: String,
    },
    /// A call did not end in its time.
    #[error("{doing}: no answer within {} s; retried by itself", after.as_secs())]
    Deadline {
        /// What was being done.
        doing: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// The service is there but cannot serve now: overload, restart, full disk, lock, deadlock, read-only standby.
    #[error("{doing}: the service says {code}: {words}; retried by itself")]
    Busy {
        /// What was being done.
        doing: &'static str,
        /// SQLSTATE, HTTP status or S3 code.
        code: String,
        /// The service's words.
        words: String,
    },
    /// Credentials or rights are missing.
    #[error("{doing}: not permitted ({code}): {words}; check user, password or keys, and rights")]
    Denied {
        /// What was being done.
        doing: &'static str,
        /// SQLSTATE, HTTP status or S3 code.
        code: String,
        /// The service's words.
        words: String,
    },
    /// The server cannot prove that it is the right one.
    #[error(
        "{doing}: the server's certificate does not hold: {words}; renew it there, name its authority in ca_file, or set \
         the appliance's clock"
    )]
    Certificate {
        /// What was being done.
        doing: &'static str,
        /// What is wrong with it.
        words: String,
    },
    /// The service will never take this item as it is.
    #[error("{doing}: refused ({code}): {words}")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// SQLSTATE, HTTP status or S3 code.
        code: String,
        /// The service's words.
        words: String,
    },
    /// What lies at the other side after an upload is not what was sent.
    #[error("{doing}: delivered object differs: {words}; sent again by itself")]
    Verify {
        /// What was being done.
        doing: &'static str,
        /// What differs.
        words: String,
    },
    /// The appliance's own copy of one item cannot be read any more, so it can never be delivered.
    #[error("{doing}: the local copy cannot be read: {words}; run `gatehouse doctor`")]
    Damaged {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        words: String,
    },
    /// The appliance's own store failed.
    #[error("{doing}: {source}")]
    Store {
        /// What was being done.
        doing: &'static str,
        /// The store's error.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// Why this appliance must not write to this central side. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GuardFault {
    /// The place belongs to another environment.
    #[error(
        "{place} is of environment `{theirs}`, this appliance of `{ours}`: nothing was written; \
         correct device.environment or the address in [central]"
    )]
    Environment {
        /// `the database` or `the bucket`.
        place: &'static str,
        /// The mark found there.
        theirs: String,
        /// The appliance's own.
        ours: &'static str,
    },
    /// The place carries no mark or no schema.
    #[error("{place} is not prepared for Gatehouse ({words}): run `gatehouse central init`")]
    NotPrepared {
        /// `the database` or `the bucket`.
        place: &'static str,
        /// What is missing.
        words: String,
    },
    /// The device id is taken by another state directory.
    #[error(
        "device id `{device}` belongs to another appliance, or to an earlier state directory of this one: \
         nothing was written; give this appliance a device.id of its own, or restore its state directory"
    )]
    ForeignState {
        /// The device id.
        device: String,
    },
    /// The central side knows records of this appliance that it does not have itself.
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
    /// The other appliances share people under another key.
    #[error(
        "the deployment key is not that of the other appliances: nothing was written; correct central.people.key_file          or the credential gatehouse.deployment-key"
    )]
    DeploymentKey,
    /// The central side has another event under a number of this appliance.
    #[error(
        "event {seq} in the database is not event {seq} of this appliance: the state directory is an old copy that \
         went on by itself; nothing was written; restore the newest state directory, or give this appliance a \
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
    /// Whether the same item will fail the same way for ever: it is set aside, and the others go on.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Damaged { .. })
    }

    /// Whether nothing can be delivered to this sink until somebody acts. It is still tried again, rarely.
    pub fn stops_sink(&self) -> bool {
        matches!(self, Self::Setup(_) | Self::Guard(_) | Self::Denied { .. } | Self::Certificate { .. })
    }

    /// The words for who waits for the answer: here nothing is retried by itself.
    pub fn once(&self) -> String {
        let words = self.to_string();
        words.strip_suffix("; retried by itself").map_or(words.clone(), str::to_owned)
    }

    /// Wraps an error of the store.
    pub fn store<E>(doing: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        move |error| Self::Store { doing, source: error.into() }
    }
}

/// The text of a foreign error and of its causes on one line, without control characters, cut to a sentence.
pub fn words_of(error: &(dyn StdError + 'static)) -> String {
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

/// The error where it is the server's certificate that does not hold.
pub fn certificate(doing: &'static str, error: &(dyn StdError + 'static)) -> Option<SyncError> {
    match tls::failure(error)? {
        rustls::Error::InvalidCertificate(why) => {
            Some(SyncError::Certificate { doing, words: clip(&tls::certificate_reason(why)) })
        }
        _ => None,
    }
}

/// One line of at most [`WORDS_MAX`] characters.
pub fn clip(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_words_are_one_short_line() {
        let error = std::io::Error::other(format!("<html>\n{}", "x".repeat(9000)));
        let words = words_of(&error);
        assert_eq!(words.chars().count(), WORDS_MAX);
        assert!(!words.contains('\n'));
    }
}
