//! Errors of the store as its users see them.

use gatehouse_gallery::EncodingFault;
use gatehouse_gallery::calibration::CalibrationFault;
use gatehouse_journal::JournalError;
use gatehouse_model::{ModelFault, SAMPLES_MAX};
use gatehouse_vault::error::IoError;
use gatehouse_vault::keys::KeyError;
use gatehouse_vault::seal::SealError;
use thiserror::Error;

use super::galleries::GALLERIES_MAX;
use super::people::corrections::CorrectionFault;
use crate::error::RecordError;
use crate::files::FileError;
use crate::people::{PERSON_ID_BYTES_MAX, PERSON_NAME_BYTES_MAX};
use crate::record::RECORD_VERSION;
use crate::views::ViewError;

/// Why the store did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The journal cannot take records any more; the daemon has to be started again.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A key cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A value cannot be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A media file cannot be written or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A view cannot be read or written.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A record is not one.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The views no longer follow the journal.
    #[error("the views stopped following the journal; restart gatehoused, it rebuilds them")]
    ViewsStopped,
    /// The state directory was written by another version.
    #[error(
        "state directory has format {0}, this program knows {known} at most; install the version that wrote it",
        known = RECORD_VERSION
    )]
    Format(String),
    /// A blocking step was cancelled at shutdown.
    #[error("gatehoused is stopping; ask again once it runs")]
    Stopping,
    /// Nobody of that id is enrolled.
    #[error("no person `{0}` is enrolled; see `gatehouse person list`")]
    UnknownPerson(String),
    /// The id is taken by a person of another name.
    #[error("person `{0}` is enrolled under another name; use `gatehouse person rename` or another id")]
    OtherName(String),
    /// The id is not one.
    #[error("person id: 1 to {PERSON_ID_BYTES_MAX} bytes without control characters or spaces at the ends")]
    PersonId,
    /// The name is not one.
    #[error(
        "person name: 1 to {PERSON_NAME_BYTES_MAX} bytes without control characters or spaces at the ends"
    )]
    PersonName,
    /// No or too many encodings.
    #[error("a person has 1 to {SAMPLES_MAX} encodings, this would make {0}")]
    Samples(usize),
    /// An encoding cannot be used.
    #[error("encoding {nth}: {fault}")]
    Encoding {
        /// Which, from 1.
        nth: usize,
        /// Why.
        fault: EncodingFault,
    },
    /// An encoding for a gallery of a model whose encodings are of length 1 is not.
    #[error("encoding {nth} is not of length 1, as all of the gallery's model are; is it of another model?")]
    NotNormalised {
        /// Which, from 1.
        nth: usize,
    },
    /// No gallery is of that model.
    #[error("there is no gallery `{0}`; see `gatehouse gallery list`")]
    UnknownGallery(String),
    /// There is one of that model already.
    #[error("there is a gallery `{0}` already; see `gatehouse gallery list`")]
    GalleryExists(String),
    /// There are as many as there can be.
    #[error("there are {GALLERIES_MAX} galleries already; `gatehouse gallery remove` makes room for another")]
    GalleriesFull,
    /// The gallery answers, so it can neither be switched to nor removed.
    #[error("gallery `{0}` is in use; name the other one")]
    GalleryInUse(String),
    /// There is nothing to compare with.
    #[error("there is no second gallery; `gatehouse gallery add` makes one")]
    OneGallery,
    /// There can be no gallery of such a model.
    #[error(transparent)]
    Model(#[from] ModelFault),
    /// After a switch no face would be recognized.
    #[error("gallery `{gallery}` would recognize no face: {cause}; --force switches all the same")]
    NoThreshold {
        /// The gallery that was to be switched to.
        gallery: String,
        /// Why, and what to do.
        cause: String,
    },
    /// After a switch people would not be recognised any more.
    #[error(
        "missing in gallery `{gallery}`, {people} in all: {named}; enrol them with --gallery {gallery}, or switch with --force"
    )]
    Missing {
        /// The gallery that was to be switched to.
        gallery: String,
        /// How many are missing.
        people: usize,
        /// The ids of the first of them.
        named: String,
    },
    /// Impostor statistics cannot be used.
    #[error(transparent)]
    Calibration(#[from] CalibrationFault),
    /// A match cannot be corrected.
    #[error(transparent)]
    Correction(#[from] CorrectionFault),
    /// A sample looks more like another enrolled person than like its own.
    #[error("encoding {nth} looks more like {person} (distance {other:.3}){}; is it the right picture? --force enrols it all the same", beside(*own))]
    Foreign {
        /// Which, from 1.
        nth: usize,
        /// Id of the person it looks like.
        person: String,
        /// Distance to that person's nearest sample.
        other: f32,
        /// Distance to its own person's nearest other sample.
        own: Option<f32>,
    },
    /// No such media file on this device.
    #[error("media file is not on this device; see `gatehouse media list`")]
    UnknownMedia,
}

impl StoreError {
    /// Whether the question was wrong, as opposed to the store being unable to answer.
    pub fn is_refusal(&self) -> bool {
        use StoreError as E;
        matches!(
            self,
            E::UnknownPerson(_)
                | E::OtherName(_)
                | E::PersonId
                | E::PersonName
                | E::Samples(_)
                | E::Encoding { .. }
                | E::Foreign { .. }
                | E::NotNormalised { .. }
                | E::UnknownGallery(_)
                | E::GalleryExists(_)
                | E::GalleriesFull
                | E::GalleryInUse(_)
                | E::OneGallery
                | E::Model(_)
                | E::Calibration(_)
                | E::NoThreshold { .. }
                | E::Missing { .. }
                | E::UnknownMedia
                | E::Correction(_)
        )
    }
}

fn beside(own: Option<f32>) -> String {
    own.map(|own| format!(" than like its own person ({own:.3})")).unwrap_or_default()
}
