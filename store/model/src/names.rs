//! Names from outside. They are validated once, so that a path or a key can safely be built from one.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::sha256;

/// Longest camera name, event id and media name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// An invalid name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a {what} is 1 to 64 of A-Z a-z 0-9 {marks}")]
pub struct NameError {
    /// Which kind of name.
    pub what: &'static str,
    /// Characters that it may contain in addition to letters and digits.
    pub marks: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $marks:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                check(&text, $what, $marks)?;
                Ok(Self(text))
            }
        }

        impl TryFrom<&str> for $type {
            type Error = NameError;
            fn try_from(text: &str) -> Result<Self, NameError> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A camera: 1 to 64 of `A-Za-z0-9_-`.
    CameraName, "camera name", "_ -"
);
name!(
    /// A camera's id of an event: 1 to 64 of `A-Za-z0-9._:-`, neither `.` nor `..`.
    EventId, "event id", ". _ : -"
);
name!(
    /// A media file's name within its event: 1 to 64 of `A-Za-z0-9._-`, neither `.` nor `..`.
    MediaName, "media name", ". _ -"
);

/// `marks` are single characters with spaces between.
fn check(text: &str, what: &'static str, marks: &'static str) -> Result<(), NameError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || (c != ' ' && marks.contains(c));
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.chars().all(allowed) {
        return Err(NameError { what, marks });
    }
    // `.` and `..` are folders.
    if text == "." || text == ".." {
        return Err(NameError { what, marks });
    }
    Ok(())
}

/// Identity of an event: the camera and the id that the camera gave it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventKey {
    /// The camera.
    pub camera: CameraName,
    /// Its id of the event.
    pub id: EventId,
}

impl EventKey {
    /// The correlation id of the event: 16 hexadecimal digits, the same in the log, in MQTT and in Postgres, and
    /// the same again after a restart, since it is derived from the key.
    pub fn correlation(&self) -> String {
        hex::encode(&self.digest()[..8])
    }

    /// SHA-256 over camera and id.
    pub fn digest(&self) -> [u8; 32] {
        sha256(format!("{}/{}", self.camera, self.id).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_their_folder_are_refused() {
        for bad in ["", ".", "..", "../x", "a/b", "a\\b", "a\0", "ä", &"x".repeat(65)] {
            assert!(MediaName::try_from(bad).is_err(), "{bad:?}");
        }
        assert!(MediaName::try_from("snapshot-1.jpg").is_ok());
        assert!(CameraName::try_from("front door").is_err());
        let fault = CameraName::try_from("front.door").unwrap_err();
        assert_eq!(fault.to_string(), "a camera name is 1 to 64 of A-Z a-z 0-9 _ -");
        assert!(EventId::try_from("2026-11-20:a.b").is_ok());
    }

    #[test]
    fn correlation_ids_differ_between_cameras() {
        let key = |c: &str| EventKey { camera: c.try_into().unwrap(), id: "1".try_into().unwrap() };
        assert_ne!(key("a").correlation(), key("b").correlation());
        assert_eq!(key("a").correlation(), key("a").correlation());
    }
}
