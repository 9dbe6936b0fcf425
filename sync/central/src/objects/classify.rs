//! What an error of the client means for the retry: told by S3 codes, HTTP statuses and the chain of causes, since
//! the client's own variants do not tell (a refused connection is a "validation" error there).

use std::error::Error as StdError;

use minio::s3::error::{Error, NetworkError, S3ServerError, ValidationErr};

use crate::error::{GuardFault, SyncError, certificate, clip, words_of};

/// What the place is called in [`GuardFault`].
pub(super) const BUCKET: &str = "the bucket";

/// What to do about a code.
#[derive(Clone, Copy)]
enum Kind {
    /// Nothing is accepted from this appliance.
    Denied,
    /// This object is never accepted.
    Refused,
    /// There is no bucket.
    NoBucket,
}

/// Codes that are no matter of waiting. Any other is: servers invent codes, and a new attempt is the safe answer.
const CODES: &[(&str, Kind)] = &[
    ("AccessDenied", Kind::Denied),
    ("AccountProblem", Kind::Denied),
    ("AllAccessDisabled", Kind::Denied),
    ("AuthorizationHeaderMalformed", Kind::Denied),
    ("ExpiredToken", Kind::Denied),
    ("InvalidAccessKeyId", Kind::Denied),
    ("InvalidSecurity", Kind::Denied),
    ("InvalidToken", Kind::Denied),
    ("NotSignedUp", Kind::Denied),
    ("PermanentRedirect", Kind::Denied),
    ("RequestTimeTooSkewed", Kind::Denied),
    ("SignatureDoesNotMatch", Kind::Denied),
    ("UnauthorizedAccess", Kind::Denied),
    ("EntityTooLarge", Kind::Refused),
    ("EntityTooSmall", Kind::Refused),
    ("InvalidObjectName", Kind::Refused),
    ("KeyTooLongError", Kind::Refused),
    ("MetadataTooLarge", Kind::Refused),
    ("XMinioInvalidObjectName", Kind::Refused),
    ("NoSuchBucket", Kind::NoBucket),
];

/// Codes that come up while a server is in trouble, in plain words: not every server finds such itself.
const MEANINGS: &[(&str, &str)] = &[
    ("ExpiredToken", "the keys have expired"),
    ("InternalError", "the server cannot serve now"),
    ("QuotaExceeded", "the quota of the bucket is used up"),
    ("RequestTimeTooSkewed", "the clocks of server and appliance are too far apart"),
    ("ServiceUnavailable", "the server cannot serve now"),
    ("SlowDown", "the server is asked for too much at once"),
    ("XMinioAdminBucketQuotaExceeded", "the quota of the bucket is used up"),
    ("XMinioStorageFull", "the disk of the server is full"),
];

/// HTTP 413: a proxy before the server that takes no body of this size.
const TOO_LARGE: u16 = 413;
/// From here on the server's side is at fault. The answer to a HEAD has no code of S3 that would say more.
const TROUBLE: u16 = 500;

/// The error in the terms of [`SyncError`].
pub(super) fn classify(doing: &'static str, bucket: &str, error: &Error) -> SyncError {
    if let Some(refused) = certificate(doing, error) {
        return refused;
    }
    let busy = |code: String, words: String| SyncError::Busy { doing, code, words };
    match error {
        Error::S3Server(S3ServerError::S3Error(answer)) => {
            let code = answer.code().to_string();
            let words = answer.message();
            let words = words.as_deref().unwrap_or("no words");
            match MEANINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(&code)) {
                Some((known, meaning)) => {
                    by_code(doing, bucket, (*known).to_owned(), clip(&format!("{meaning} ({words})")))
                }
                None => by_code(doing, bucket, code, clip(words)),
            }
        }
        Error::S3Server(S3ServerError::InvalidServerResponse { http_status_code, content_type, .. }) => {
            by_status(doing, *http_status_code, content_type)
        }
        Error::S3Server(S3ServerError::HttpError(status, _)) => by_status(doing, *status, ""),
        Error::Network(NetworkError::ServerError(status)) => by_status(doing, *status, ""),
        Error::Network(NetworkError::ReqwestError(error)) => unreachable(doing, error),
        Error::Validation(ValidationErr::HttpError(error)) if !error.is_builder() => {
            unreachable(doing, error)
        }
        Error::Validation(ValidationErr::InvalidBucketName { .. } | ValidationErr::MissingBucketName) => {
            SyncError::Setup(format!("central.objects.bucket: {}", words_of(error)))
        }
        Error::Validation(ValidationErr::InvalidObjectName(_) | ValidationErr::InvalidUserMetadata(_)) => {
            SyncError::Refused { doing, code: "name".into(), words: words_of(error) }
        }
        // What is left is an answer that could not be understood.
        other => busy("answer".into(), words_of(other)),
    }
}

fn by_code(doing: &'static str, bucket: &str, code: String, words: String) -> SyncError {
    // The client gives most codes in lower case.
    match CODES.iter().find(|(known, _)| known.eq_ignore_ascii_case(&code)) {
        Some((known, Kind::Denied)) => SyncError::Denied { doing, code: (*known).into(), words },
        Some((known, Kind::Refused)) => SyncError::Refused { doing, code: (*known).into(), words },
        Some((_, Kind::NoBucket)) => no_bucket(bucket),
        None => SyncError::Busy { doing, code, words },
    }
}

/// The bucket is not there.
pub(super) fn no_bucket(bucket: &str) -> SyncError {
    GuardFault::NotPrepared { place: BUCKET, words: format!("there is no bucket `{bucket}`") }.into()
}

fn by_status(doing: &'static str, status: u16, content_type: &str) -> SyncError {
    let code = format!("HTTP {status}");
    let words = if content_type.contains("html") {
        "a page for people came back: a proxy or a captive portal stands between".to_owned()
    } else if status >= TROUBLE {
        "the server, or a proxy before it, cannot serve now".to_owned()
    } else {
        "an answer that is not of S3".to_owned()
    };
    if status == TOO_LARGE {
        return SyncError::Refused { doing, code, words: "a proxy takes no body of this size".into() };
    }
    SyncError::Busy { doing, code, words }
}

fn unreachable(doing: &'static str, error: &(dyn StdError + 'static)) -> SyncError {
    // The outermost error holds nothing but the address, which is long.
    let words = words_of(error.source().unwrap_or(error));
    SyncError::Unreachable { doing, words }
}

/// Whether the server answered with this S3 code.
pub(super) fn has_code(error: &Error, code: &str) -> bool {
    match error {
        Error::S3Server(S3ServerError::S3Error(answer)) => {
            answer.code().to_string().eq_ignore_ascii_case(code)
        }
        _ => false,
    }
}
