//! Requests on the control socket, and the envelope of every reply. The replies themselves are in [`crate::answers`].

use std::fmt;

use gatehouse_gallery::calibration::Calibration;
use gatehouse_model::{Model, SAMPLES_MAX};
use gatehouse_store::store::VerifyAt;
use serde::{Deserialize, Serialize};

use crate::encodings::RawEncoding;
use crate::exit;

/// Most encodings in one request: the maximum of one person.
pub const ENCODINGS_MAX: usize = SAMPLES_MAX;
/// Longest request line in bytes: [`ENCODINGS_MAX`] encodings of 512 numbers at up to 32 characters each, and
/// 4 KiB for the rest.
pub const REQUEST_BYTES_MAX: usize = ENCODINGS_MAX * 512 * 32 + 4096;
/// Longest reply line in bytes: a list of 200,000 people at about 300 bytes each.
pub const REPLY_BYTES_MAX: usize = 64 << 20;
/// Most entries of one list: a reply is created in memory.
pub const LIST_MAX: usize = 1000;

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The state of the appliance; answered with [`crate::answers::Status`].
    Status,
    /// All checks of the daemon; answered with a list of [`crate::answers::Finding`].
    Doctor,
    /// Enroll a person or add encodings; answered with [`gatehouse_store::store::Enrolled`].
    PersonEnroll {
        /// The operator's identifier.
        id: String,
        /// The display name.
        name: String,
        /// At least one.
        encodings: Vec<RawEncoding>,
        /// Whether an encoding that is nearer to another person is accepted.
        #[serde(default)]
        force: bool,
        /// The gallery; none for the one in use.
        #[serde(default)]
        gallery: Option<String>,
        /// Reference of the consent; none for the present one.
        #[serde(default)]
        consent: Option<String>,
        /// When the person is erased, RFC 3339; none for the present end.
        #[serde(default)]
        until: Option<String>,
    },
    /// Answer a person as a stranger; answered with [`gatehouse_store::people::PersonSummary`].
    PersonSuspend {
        /// The operator's identifier.
        id: String,
        /// Why.
        reason: Option<String>,
    },
    /// End a suspension; answered with [`gatehouse_store::people::PersonSummary`].
    PersonResume {
        /// The operator's identifier.
        id: String,
    },
    /// All enrolled people; answered with a list of [`gatehouse_store::people::PersonSummary`].
    PersonList,
    /// One person; answered with [`gatehouse_store::people::PersonSummary`].
    PersonShow {
        /// The operator's identifier.
        id: String,
    },
    /// The data of a person, in pages; answered with [`crate::answers::PersonExportPage`].
    PersonExport {
        /// The operator's identifier.
        id: String,
        /// Number before which the page begins, as the page before said; none for the first page.
        before: Option<u64>,
        /// Whether the first page has the numbers of the encodings.
        templates: bool,
    },
    /// Sign an export; answered with the signed note as text, or null where the id of the device cannot be on a receipt.
    PersonExportSign {
        /// SHA-256 of the list of files, 64 hexadecimal digits.
        manifest: String,
    },
    /// A new display name; answered with [`gatehouse_store::people::PersonSummary`].
    PersonRename {
        /// The operator's identifier.
        id: String,
        /// The new name.
        name: String,
    },
    /// Erase a person; answered with [`gatehouse_store::store::Erased`].
    PersonErase {
        /// The operator's identifier.
        id: String,
        /// Whether it does not wait for the grace period.
        #[serde(default)]
        now: bool,
    },
    /// Cancel an erasure in its grace period; answered with [`gatehouse_store::people::PersonSummary`].
    PersonRestore {
        /// The operator's identifier.
        id: String,
    },
    /// The gallery report; answered with [`gatehouse_store::store::GalleryReport`].
    GalleryReport {
        /// The gallery; none for the one in use.
        gallery: Option<String>,
    },
    /// The galleries; answered with a list of [`gatehouse_store::store::GalleryLine`].
    GalleryList,
    /// A second gallery; answered as [`Request::GalleryList`] is.
    GalleryAdd(Model),
    /// Use the other gallery; answered with [`gatehouse_store::store::GalleryChanged`].
    GallerySwitch {
        /// Its name.
        gallery: String,
        /// Whether to switch although people are missing in it.
        force: bool,
    },
    /// Remove the gallery that is not in use; answered with [`gatehouse_store::store::GalleryChanged`].
    GalleryRemove {
        /// Its name.
        gallery: String,
    },
    /// Impostor statistics of a gallery's model; answered as [`Request::GalleryList`] is.
    GalleryCalibrate {
        /// The gallery; none for the one in use.
        gallery: Option<String>,
        /// The statistics; none for those of the program.
        calibration: Option<Box<Calibration>>,
    },
    /// Compare the galleries; answered with [`gatehouse_store::store::GalleryComparison`].
    GalleryCompare,
    /// Identify faces; answered with [`crate::answers::IdentifyAnswer`]. Nothing is stored.
    Identify {
        /// The camera whose threshold applies; none for the threshold of the gallery.
        camera: Option<String>,
        /// The gallery to search; none for the one in use.
        #[serde(default)]
        gallery: Option<String>,
        /// One face each.
        encodings: Vec<RawEncoding>,
    },
    /// Events, newest first; answered with a list of [`crate::answers::EventLine`].
    EventList {
        /// Only of this camera.
        camera: Option<String>,
        /// Only with this person.
        person: Option<String>,
        /// Only those received at or after this instant, RFC 3339.
        since: Option<String>,
        /// At most so many, up to [`LIST_MAX`].
        limit: usize,
    },
    /// One event; answered with [`crate::answers::EventLine`].
    EventShow {
        /// `seq` or `camera/event id`.
        event: String,
    },
    /// A match was wrong; answered with [`gatehouse_store::store::Corrected`].
    EventCorrect {
        /// `seq` or `camera/event id`.
        event: String,
        /// Which face of the event, from 1; none for the only match.
        face: Option<usize>,
    },
    /// Media files, newest first; answered with a list of [`crate::answers::MediaLine`].
    MediaList {
        /// Only of this event, `camera/event id`.
        event: Option<String>,
        /// At most so many, up to [`LIST_MAX`].
        limit: usize,
    },
    /// One media file; answered with [`crate::answers::MediaHeader`], and after that line the bytes themselves.
    MediaGet {
        /// Media id, or `camera/event id/name`.
        media: String,
    },
    /// A URL for one delivered media file; answered with [`gatehouse_central::grant::Grant`].
    MediaUrl {
        /// Media id, or `camera/event id/name`.
        media: String,
        /// Not the file, but its thumbnail of this longest edge in pixels.
        #[serde(default)]
        thumbnail: Option<u16>,
        /// Seconds from now until it is no longer valid.
        expires_s: u64,
    },
    /// The state of delivery; answered with a list of [`crate::answers::SinkLine`].
    SyncStatus,
    /// Try every sink at once; answered with a list of [`crate::answers::SinkLine`].
    SyncNow,
    /// Let nothing leave for so many seconds; answered with a list of [`crate::answers::SinkLine`].
    SyncPause {
        /// At most the `PAUSE_MAX` of gatehouse-sync.
        seconds: u64,
    },
    /// End a pause; answered with a list of [`crate::answers::SinkLine`].
    SyncResume,
    /// Changes of people by several at once; answered with a list of the `Conflict` of gatehouse-sync.
    SyncConflicts,
    /// The ledger; answered with [`crate::answers::LedgerAnswer`].
    Ledger,
    /// The keys; answered with [`gatehouse_store::store::KeyStatus`].
    KeyStatus,
    /// Go over to a new template key; answered with [`gatehouse_store::store::TemplatesRotated`].
    KeyRotateTemplates,
    /// One step of reading everything on the disk; answered with [`gatehouse_store::store::Verified`].
    StoreVerify {
        /// Where the step begins, as the step before said.
        at: VerifyAt,
    },
    /// Rebuild the views at the next start; answered with [`gatehouse_store::store::Compacting`].
    StoreCompact,
    /// Let go now what has been kept long enough; answered with [`gatehouse_store::store::Retained`].
    StoreRetain,
    /// The settings in force; answered with a list of [`crate::answers::SettingLine`].
    ConfigShow,
    /// Read the configuration again; answered with [`crate::answers::Reloaded`].
    ConfigReload,
    /// Test the path of an event; answered with a list of [`crate::answers::Finding`]. Nothing is stored.
    SelfTest,
}

/// The line of a reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply<T> {
    /// Done.
    Ok(T),
    /// Not done.
    Error(Fault),
}

/// Why a request failed, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Exit code of `gatehouse`, see [`crate::exit`].
    pub code: u8,
    /// What happened.
    pub message: String,
    /// What to do next, if there is anything.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub advice: Option<String>,
}

impl Fault {
    /// Refused or not found.
    pub fn refused(message: impl fmt::Display) -> Self {
        Self { code: exit::REFUSED, message: message.to_string(), advice: None }
    }

    /// Any other exit code.
    pub fn with_code(code: u8, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), advice: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.advice.as_ref().map_or(Ok(()), |advice| write!(f, "\n  {advice}"))
    }
}
