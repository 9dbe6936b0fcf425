//! The receipt of an erasure: what was destroyed at which place, what is left and until when.
//!
//! Each place (an appliance, the database, the bucket) signs a [`Statement`]. The central services sign the
//! [`Cover`], which lists all places that must answer, with the hash of each statement. Statements and cover form
//! the [`Bundle`], which [`verify`] checks without a network, a database or a daemon.
//!
//! The form is the signed note of C2SP (<https://c2sp.org/signed-note>) with Ed25519. A text has one canonical form:
//! every other form is refused, so that the hash of a text stands for its content. A text contains words of this
//! crate, numbers, times and validated names only. A person occurs only as a [`Subject`].

mod bundle;
mod cover;
mod export;
mod keys;
mod note;
mod place;
mod statement;
mod text;
mod verdict;
mod words;

pub use bundle::{BUNDLE_BYTES_MAX, Bundle};
pub use cover::{COVER_BYTES_MAX, Cover, PLACES_MAX, PlaceState};
pub use export::{EXPORT_BYTES_MAX, Export};
pub use keys::{
    KEYS_MAX, KeyName, KeysError, NAME_BYTES_MAX, Signer, TrustedKeys, VerifierKey, central_key_name,
};
pub use note::{Note, NoteError, SIGNATURES_MAX, Signature};
pub use place::{CENTRAL, Place, PlaceError, Subject};
pub use statement::{By, Counts, Day, End, Left, STATEMENT_BYTES_MAX, Statement, Tool};
pub use text::{FormError, TextError};
/// Id of an order of erasure, the same in all statements of one erasure.
pub use uuid::Uuid as OrderId;
pub use verdict::{PlaceReport, Reason, Report, Verdict, verify, verify_bytes};
pub use words::{Check, Condition, Destroyed, KeyKind, Leftover, Method, Program};
