//! A visit and its identification.

use serde::{Deserialize, Serialize};

use crate::{EventKey, MediaName, Timestamp};

/// Most samples of one person. More do not lower the error rate, and each costs search time.
pub const SAMPLES_MAX: usize = 32;

/// A validated visit as a camera reported it. It must never contain an encoding: encodings stay in memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Camera and event id: the identity by which a repeated delivery is recognized.
    pub key: EventKey,
    /// Kind in the camera's terms, for example `face`, `doorbell` or `motion`.
    pub kind: String,
    /// The camera's own time, only where it is plausible.
    pub occurred_at: Option<Timestamp>,
    /// The appliance's time at the first delivery.
    pub received_at: Timestamp,
    /// Names of the media files that the camera announced.
    pub media: Vec<MediaName>,
    /// Unknown fields and the camera's attributes: the text of one JSON object.
    pub attributes: String,
}

/// The decision on one face.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// One enrolled person is within the threshold and clearly nearer than any other.
    Match,
    /// A person is within the threshold, but a second person is almost as near.
    Ambiguous,
    /// No enrolled person is within the threshold.
    Stranger,
    /// The encoding is too poor for a decision.
    Unusable,
}

/// One face and the decision on it. `P` identifies the person: [`Person`] in memory, [`VisitRef`] on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Face<P> {
    /// The decision.
    pub outcome: Outcome,
    /// The matched person; only for [`Outcome::Match`].
    pub person: Option<P>,
    /// Distance of the nearest template in the gallery's metric; none for an empty gallery or an unusable face.
    pub distance: Option<f32>,
    /// The threshold that was applied.
    pub threshold: f32,
    /// Distance of the nearest other person minus `distance`; none where there is no other person.
    pub margin: Option<f32>,
    /// Quality of the face as rated by the camera, 0 to 1.
    pub quality: Option<f32>,
}

/// Search method of the gallery that runs first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The exact scan.
    Exact,
    /// The HNSW graph; unclear results are decided by the exact scan.
    Hnsw,
}

impl Engine {
    /// As it is published.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Hnsw => "hnsw",
        }
    }
}

/// How an identification was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effort {
    /// The engine that ran first.
    pub engine: Engine,
    /// Time for all faces, in microseconds.
    pub micros: u64,
}

impl<P> Face<P> {
    /// The same face with another representation of its person.
    pub fn map_person<Q>(self, f: impl FnOnce(P) -> Option<Q>) -> Face<Q> {
        let Self { outcome, person, distance, threshold, margin, quality } = self;
        Face { outcome, person: person.and_then(f), distance, threshold, margin, quality }
    }
}

/// The answer to one event: the faces in the order of the camera.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identification<P> {
    /// Number of people in the gallery at the time of the answer.
    pub gallery_size: u32,
    /// Name of the model the gallery is of.
    pub model: String,
    /// The faces; empty if the event had none.
    pub faces: Vec<Face<P>>,
    /// How it was found; none if it was not measured.
    pub effort: Option<Effort>,
}

impl<P> Identification<P> {
    /// The same answer with another representation of every person.
    pub fn map_person<Q>(self, mut f: impl FnMut(P) -> Option<Q>) -> Identification<Q> {
        let faces = self.faces.into_iter().map(|face| face.map_person(&mut f)).collect();
        Identification { gallery_size: self.gallery_size, model: self.model, faces, effort: self.effort }
    }
}

/// An enrolled person as shown to operators and cameras.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Person {
    /// The operator's identifier.
    pub id: String,
    /// The display name.
    pub name: String,
}

/// A reference to a person that only that person's key can make or resolve.
///
/// `tag` is an HMAC under the person's key over the day, so that the visits of one day are found quickly while
/// the key lives, and days cannot be linked with each other once it is destroyed. `sealed` is the person's id,
/// sealed with the same key and bound to the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisitRef {
    /// Days since 1970-01-01 UTC of the event's `received_at`.
    pub day: i32,
    /// Lookup tag, see above.
    pub tag: [u8; 8],
    /// The sealed person id.
    pub sealed: Vec<u8>,
}
