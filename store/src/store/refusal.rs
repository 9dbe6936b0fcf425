//! Refusals: requests of a user that cannot be carried out, each with what to do next.

use gatehouse_gallery::EncodingFault;
use gatehouse_gallery::calibration::CalibrationFault;
use gatehouse_journal::JournalError;
use gatehouse_model::{ModelFault, SAMPLES_MAX};
use gatehouse_vault::error::IoError;
use gatehouse_vault::keys::KeyError;
use gatehouse_vault::seal::SealError;
use thiserror::Error;

use super::StoreError;
use super::galleries::GALLERIES_MAX;
use super::people::corrections::CorrectionFault;
use crate::files::FileError;
use crate::people::PersonFault;
use crate::record::RecordError;
use crate::terms::TermFault;
use crate::views::ViewError;

/// Why a request was refused. Nothing was changed.
#[derive(Debug, Error)]
pub enum Refusal {
    /// No person of that id is enrolled.
    #[error("no person `{0}` is enrolled; see `gatehouse person list`")]
    UnknownPerson(String),
    /// The person is not suspended.
    #[error("person `{0}` is not suspended; see `gatehouse person show`")]
    NotSuspended(String),
    /// The id is taken by a person of another name.
    #[error("person `{0}` is enrolled under another name; use `gatehouse person rename` or another id")]
    OtherName(String),
    /// An id or a name cannot be used.
    #[error(transparent)]
    Person(#[from] PersonFault),
    /// No erasure of the person is ordered.
    #[error("no erasure of person `{0}` is ordered; see `gatehouse person show`")]
    NotOrdered(String),
    /// The consent or the suspension is refused.
    #[error(transparent)]
    Terms(#[from] TermFault),
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
    /// An encoding is not of length 1, which the gallery's model requires.
    #[error("encoding {nth} is not of length 1, as all of the gallery's model are; is it of another model?")]
    NotNormalised {
        /// Which, from 1.
        nth: usize,
    },
    /// No gallery is of that model.
    #[error("there is no gallery `{0}`; see `gatehouse gallery list`")]
    UnknownGallery(String),
    /// A gallery of that model exists already.
    #[error("there is a gallery `{0}` already; see `gatehouse gallery list`")]
    GalleryExists(String),
    /// The maximum number of galleries exists already.
    #[error("there are {GALLERIES_MAX} galleries already; remove one with `gatehouse gallery remove`")]
    GalleriesFull,
    /// The gallery is in use, so it can neither be switched to nor removed.
    #[error("gallery `{0}` is in use; name the other one")]
    GalleryInUse(String),
    /// There is no second gallery to compare with.
    #[error("there is no second gallery; add one with `gatehouse gallery add`")]
    OneGallery,
    /// The model of a gallery is not valid.
    #[error(transparent)]
    Model(#[from] ModelFault),
    /// After a switch no face would be recognized.
    #[error("gallery `{gallery}` would recognize no face: {cause}; --force switches anyway")]
    NoThreshold {
        /// The gallery that was to be switched to.
        gallery: String,
        /// Why, and what to do.
        cause: String,
    },
    /// After a switch people would not be recognised any more.
    #[error(
        "missing in gallery `{gallery}`, {people} in all: {named}; enroll them with \
         --gallery {gallery}, or switch with --force"
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
    #[error(
        "encoding {nth} looks more like {person} (distance {other:.3}){}; is it the right picture? \
         --force enrolls it anyway",
        own_distance(*own)
    )]
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

fn own_distance(own: Option<f32>) -> String {
    own.map(|own| format!(" than like its own person ({own:.3})")).unwrap_or_default()
}

/// Why a request was not carried out.
#[derive(Debug, Error)]
pub enum RequestError {
    /// The request is not valid.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed.
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// Converts the error of a component into a refusal or a failure, for `?`.
macro_rules! passes_on {
    ($variant:ident, $through:ident: $($error:ty),+) => {
        $(impl From<$error> for RequestError {
            fn from(error: $error) -> Self {
                Self::$variant($through::from(error))
            }
        })+
    };
}

passes_on!(Refused, Refusal: PersonFault, TermFault, ModelFault, CalibrationFault, CorrectionFault);
passes_on!(Failed, StoreError: JournalError, KeyError, SealError, FileError, ViewError, RecordError, IoError);
