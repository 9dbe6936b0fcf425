//! Plain data of Gatehouse: names, timestamps, events, identifications and face models.
//!
//! All crates that store, deliver or show this data share these types. They do no I/O.

mod digest;
mod face_model;
mod key_id;
mod names;
mod order_id;
mod random;
mod sink_state;
mod time;
mod visit;

pub use digest::{Sha256, sha256};
pub use face_model::{Compared, GalleryMark, Metric, Model, ModelFault, Verdict};
pub use key_id::KeyId;
pub use names::{CameraName, EventId, EventKey, MediaName, NAME_BYTES_MAX, NameError};
pub use order_id::OrderId;
pub use random::random;
pub use sink_state::SinkState;
pub use time::Timestamp;
pub use visit::{Effort, Engine, Event, Face, Identification, Outcome, Person, SAMPLES_MAX, VisitRef};
