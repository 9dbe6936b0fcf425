//! Classification of S3 errors by S3 code, HTTP status and chain of causes. The variants of the client library do not
//! help: a refused connection is a "validation" error there.

use std::error::Error as StdError;

use minio::s3::error::{Error, NetworkError, S3ServerError, ValidationErr};

use crate::error::{GuardFault, SyncError, certificate, clip, error_text};

/// Name of the place in [`GuardFault`].
pub(super) const BUCKET: &str = "the bucket";

/// The meaning of a code.
#[derive(Clone, Copy)]
enum Kind {
    /// Nothing is accepted from this appliance.
    Denied,
    /// This object is never accepted.
    Refused,
    /// There is no bucket.
    NoBucket,
}

/// Codes that a retry does not help against. All others are retried, because servers invent codes.
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

/// Plain texts for states of a server in trouble. Not every server sends a clear message.
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

/// HTTP 413: a proxy in front of the server does not accept a body of this size.
const TOO_LARGE: u16 = 413;
/// From this status on the server is at fault. A reply to HEAD has no S3 code.
const TROUBLE: u16 = 500;

/// The error as [`SyncError`].
pub(super) fn classify(doing: &'static str, bucket: &str, error: &Error) -> SyncError {
    if let Some(refused) = certificate(doing, error) {
        return refused;
    }
    let busy = |code: String, message: String| SyncError::Busy { doing, code, message };
    match error {
        Error::S3Server(S3ServerError::S3Error(answer)) => {
            let code = answer.code().to_string();
            let message = answer.message();
            let message = message.as_deref().unwrap_or("no words");
            match MEANINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(&code)) {
                Some((known, meaning)) => {
                    by_code(doing, bucket, (*known).to_owned(), clip(&format!("{meaning} ({message})")))
                }
                None => by_code(doing, bucket, code, clip(message)),
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
            SyncError::Setup(format!("central.objects.bucket: {}", error_text(error)))
        }
        Error::Validation(ValidationErr::InvalidObjectName(_) | ValidationErr::InvalidUserMetadata(_)) => {
            SyncError::Refused { doing, code: "name".into(), message: error_text(error) }
        }
        // The remaining errors are replies that could not be parsed.
        other => busy("answer".into(), error_text(other)),
    }
}

fn by_code(doing: &'static str, bucket: &str, code: String, message: String) -> SyncError {
    // The client library returns most codes in lower case.
    match CODES.iter().find(|(known, _)| known.eq_ignore_ascii_case(&code)) {
        Some((known, Kind::Denied)) => SyncError::Denied { doing, code: (*known).into(), message },
        Some((known, Kind::Refused)) => SyncError::Refused { doing, code: (*known).into(), message },
        Some((_, Kind::NoBucket)) => no_bucket(bucket),
        None => SyncError::Busy { doing, code, message },
    }
}

/// The bucket does not exist.
pub(super) fn no_bucket(bucket: &str) -> SyncError {
    GuardFault::NotPrepared { place: BUCKET, message: format!("there is no bucket `{bucket}`") }.into()
}

fn by_status(doing: &'static str, status: u16, content_type: &str) -> SyncError {
    let code = format!("HTTP {status}");
    let message = if content_type.contains("html") {
        "the reply is a web page: a proxy or a captive portal answers in place of the server".to_owned()
    } else if status >= TROUBLE {
        "the server, or a proxy in front of it, cannot serve now".to_owned()
    } else {
        "a reply that is not of S3".to_owned()
    };
    if status == TOO_LARGE {
        return SyncError::Refused { doing, code, message: "a proxy accepts no body of this size".into() };
    }
    SyncError::Busy { doing, code, message }
}

fn unreachable(doing: &'static str, error: &(dyn StdError + 'static)) -> SyncError {
    // The outermost error contains only the address, which is long.
    let message = error_text(error.source().unwrap_or(error));
    SyncError::Unreachable { doing, message }
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
