//! Classification of Postgres errors by SQLSTATE and type, never by text.

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::error::{GuardFault, SyncError, certificate, clip, error_text};
use crate::rows::connect::BATCH_TIMEOUT;

/// Classifies the error of one call.
pub(super) fn classify(doing: &'static str, error: &Error) -> SyncError {
    if let Some(db) = error.as_db_error() {
        return by_state(doing, db.code(), &message_of(db));
    }
    certificate(doing, error).unwrap_or_else(|| SyncError::Unreachable { doing, message: error_text(error) })
}

/// Classes of SQLSTATE whose DETAIL and HINT name only roles, objects and settings. All others may quote values of a
/// row, such as `Failing row contains (...)`, which must never reach a log.
const CLASSES_WITHOUT_VALUES: &[&str] = &["08", "0A", "28", "2B", "3D", "3F", "40", "42", "53", "55", "57"];

/// The message of the server, with DETAIL and HINT if these contain no data.
fn message_of(error: &DbError) -> String {
    let mut text = clip(error.message());
    let class = error.code().code().get(..2).unwrap_or_default();
    if CLASSES_WITHOUT_VALUES.contains(&class) {
        for more in [error.detail(), error.hint()].into_iter().flatten() {
            text.push_str(": ");
            text.push_str(clip(more).trim_end_matches('.'));
        }
    }
    text
}

/// Plain texts for states of a server in trouble. Its own messages may be in another language.
const MEANINGS: &[(&str, &str)] = &[
    ("25006", "the database is read-only, a standby or set so"),
    ("28P01", "user or password are wrong, or the password has expired"),
    ("40001", "another session changed the same rows at the same time"),
    ("40P01", "a deadlock with another session"),
    ("53100", "the disk of the server is full"),
    ("53200", "the server has no memory left"),
    ("53300", "the server takes no more connections"),
    ("55P03", "another session holds a lock for too long"),
];

fn by_state(doing: &'static str, state: &SqlState, message: &str) -> SyncError {
    let code = state.code().to_owned();
    let meaning = MEANINGS.iter().find(|(known, _)| *known == code);
    let message = meaning.map_or(message.to_owned(), |(_, meaning)| format!("{meaning} ({message})"));
    match (state.code(), state.code().get(..2).unwrap_or_default()) {
        // No such schema, table, column or function: the migrations have not been applied.
        ("3F000" | "42P01" | "42703" | "42883", _) => {
            SyncError::Guard(GuardFault::NotPrepared { place: "the database", message })
        }
        // Sign-in, no such database, permissions.
        ("3D000" | "42501", _) | (_, "28") => SyncError::Denied { doing, code, message },
        // Data, constraint, size: 22 and 23, and 54 if a value is too large or too deeply nested for the server.
        (_, "22" | "23" | "54") => SyncError::Refused { doing, code, message },
        // The connection is closed or the server shuts down.
        ("57P01" | "57P02" | "57P03" | "57P05", _) | (_, "08") => {
            SyncError::Unreachable { doing, message: format!("{message} ({code})") }
        }
        // The statement timeout of the server.
        ("57014", _) => SyncError::Deadline { doing, after: BATCH_TIMEOUT },
        // The others can be temporary: locks, deadlocks, serialization (40, 55), resources (53), a read-only standby
        // (25006), an internal error (XX).
        _ => SyncError::Busy { doing, code, message },
    }
}

/// Whether the SQLSTATE says that the table or schema does not exist.
pub(super) fn is_missing(error: &SyncError) -> bool {
    matches!(error, SyncError::Guard(GuardFault::NotPrepared { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: &str) -> SyncError {
        by_state("write", &SqlState::from_code(code), "words")
    }

    #[test]
    fn states_are_sorted_by_what_can_be_done() {
        for data in ["22P05", "22021", "23505", "23514", "54000", "54001"] {
            assert!(of(data).is_permanent(), "{data}");
        }
        for operator in ["28P01", "28000", "3D000", "42501", "42P01", "3F000"] {
            assert!(of(operator).stops_sink() && !of(operator).is_permanent(), "{operator}");
        }
        for wait in [
            "40001", "40P01", "53100", "53300", "55P03", "57P01", "57P03", "57014", "25006", "08006", "XX000",
        ] {
            assert!(!of(wait).stops_sink() && !of(wait).is_permanent(), "{wait}");
        }
    }
}
