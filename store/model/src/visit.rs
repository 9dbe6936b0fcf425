//! A visit and its answer.

use serde::{Deserialize, Serialize};

use crate::{EventKey, MediaName, Timestamp};

/// Most samples of one person: more do not lower the error, and a probe pays for each.
pub const SAMPLES_MAX: usize = 32;

/// A validated visit as a camera told it. It never holds an encoding: those live in RAM until the answer is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Camera and event id: the identity by which a second delivery is recognised.
    pub key: EventKey,
    /// `face`, `doorbell`, `motion` or whatever else the camera calls it.
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

/// What the gallery says of one face.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// One enrolled person, nearer than the threshold and clearly nearer than anybody else.
    Match,
    /// Nearer than the threshold, but a second person is almost as near.
    Ambiguous,
    /// Nobody enrolled is nearer than the threshold.
    Stranger,
    /// The encoding is too poor to be judged.
    Unusable,
}

/// One face and its answer. `P` is how the person is told: [`Person`] in RAM, [`VisitRef`] on disk.
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
    /// The camera's own quality of the face, 0 to 1.
    pub quality: Option<f32>,
}

/// Which search of the gallery is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The scan that passes over nothing that could matter.
    Exact,
    /// The graph, whose unclear answers the exact one decides.
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
    /// The engine that was asked first.
    pub engine: Engine,
    /// Time for all faces, in microseconds.
    pub micros: u64,
}

impl<P> Face<P> {
    /// The same face with its person told another way.
    pub fn map_person<Q>(self, f: impl FnOnce(P) -> Option<Q>) -> Face<Q> {
        let Self { outcome, person, distance, threshold, margin, quality } = self;
        Face { outcome, person: person.and_then(f), distance, threshold, margin, quality }
    }
}

/// The answer to one event: one face after another in the order of the camera.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identification<P> {
    /// People in the gallery at the moment of the answer.
    pub gallery_size: u32,
    /// Name of the model the gallery is of.
    pub model: String,
    /// The faces; empty where the event had none.
    pub faces: Vec<Face<P>>,
    /// How it was found; not known of events that were stored before this was.
    pub effort: Option<Effort>,
}

impl<P> Identification<P> {
    /// The same answer with every person told another way.
    pub fn map_person<Q>(self, mut f: impl FnMut(P) -> Option<Q>) -> Identification<Q> {
        let faces = self.faces.into_iter().map(|face| face.map_person(&mut f)).collect();
        Identification { gallery_size: self.gallery_size, model: self.model, faces, effort: self.effort }
    }
}

/// An enrolled person as the outside knows them.
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
