//! The plan of a scenario, derived from a seed before it runs: who is enrolled, which camera sees which person, which
//! message is malformed, which event has a picture.

use anyhow::Result;
use fastrand::Rng;
use gatehouse_testkit::jpeg::jpeg;
use gatehouse_testkit::malformed::{Fault, Malformed, malformed};
use gatehouse_testkit::synthetic::{EventMessage, FaceMessage, SyntheticPerson, people, stranger};

/// How large a scenario is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Enrolled people.
    pub people: usize,
    /// Encodings of each.
    pub samples: usize,
    /// Messages that are events, malformed ones included.
    pub events: usize,
    /// Cameras that share them.
    pub cameras: usize,
}

/// Whose face it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Number of an enrolled person.
    Resident(usize),
    /// A person that is not enrolled.
    Stranger,
}

/// A face that a camera sees.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Whose it is.
    pub who: Who,
    /// What the camera makes of it.
    pub face: FaceMessage,
}

/// A picture or clip that goes with an event.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether it arrives before its event.
    pub first: bool,
}

/// A valid event.
#[derive(Debug, Clone)]
pub struct Visit {
    /// Its id.
    pub id: String,
    /// The message.
    pub payload: Vec<u8>,
    /// Who is seen, in order.
    pub faces: Vec<Seen>,
    /// What goes with it.
    pub picture: Option<Picture>,
}

/// One message of a camera, with what goes with it.
#[derive(Debug, Clone)]
pub enum Step {
    /// To be answered and kept.
    Visit(Visit),
    /// To be refused.
    Malformed(Malformed),
}

/// Everything that happens.
#[derive(Debug)]
pub struct Plan {
    /// The enrolled people.
    pub people: Vec<SyntheticPerson>,
    /// Their encodings.
    pub templates: Vec<Vec<Vec<f32>>>,
    /// Names of the cameras.
    pub cameras: Vec<String>,
    /// Number of the camera and what it does, in order.
    pub steps: Vec<(usize, Step)>,
}

/// A quality below the default `gallery.minimum_quality`.
const POOR_QUALITY: f32 = 0.05;
/// A clip that S3 takes in several parts.
const CLIP_BYTES: usize = 6 * 1024 * 1024;

impl Plan {
    /// The plan of a seed. Every twentieth message is malformed, every tenth has a picture.
    ///
    /// # Errors
    /// If a picture cannot be made.
    pub fn new(seed: u64, size: Size) -> Result<Self> {
        let mut rng = Rng::with_seed(seed);
        let people = people(seed, size.people);
        let templates: Vec<_> = people.iter().map(|p| p.samples(&mut rng, size.samples)).collect();
        let cameras: Vec<String> = (0..size.cameras).map(|n| format!("camera-{n}")).collect();
        let mut steps = Vec::with_capacity(size.events);
        let mut refusals = 0;
        for number in 0..size.events {
            let camera = rng.usize(..size.cameras);
            // Ids are per camera: the same one at two cameras is two events.
            let id = format!("{}-{number:05}", if number % 3 == 0 { "visit" } else { "2026:v.x" });
            let step = if number % 20 == 7 {
                let fault = Fault::ALL[refusals % Fault::ALL.len()];
                refusals += 1;
                Step::Malformed(malformed(fault, &cameras[camera], &id, &mut rng))
            } else {
                let picture = if number % 10 == 0 { Some(picture(number, &mut rng)?) } else { None };
                Step::Visit(visit(id, &people, picture, &mut rng))
            };
            steps.push((camera, step));
        }
        Ok(Self { people, templates, cameras, steps })
    }

    /// The valid events with the names of their cameras.
    pub fn visits(&self) -> impl Iterator<Item = (&str, &Visit)> {
        self.steps.iter().filter_map(|(camera, step)| match step {
            Step::Visit(visit) => Some((self.cameras[*camera].as_str(), visit)),
            Step::Malformed(_) => None,
        })
    }

    /// The messages to be refused with the names of the cameras that send them.
    pub fn refusals(&self) -> impl Iterator<Item = (&str, &Malformed)> {
        self.steps.iter().filter_map(|(camera, step)| match step {
            Step::Visit(_) => None,
            Step::Malformed(malformed) => Some((self.cameras[*camera].as_str(), malformed)),
        })
    }
}

fn visit(id: String, people: &[SyntheticPerson], picture: Option<Picture>, rng: &mut Rng) -> Visit {
    // Of a hundred visits 70 are of one resident, 15 of a stranger, 10 without a face, 5 of two people.
    let kind = rng.u32(..100);
    let resident = |rng: &mut Rng| {
        let number = rng.usize(..people.len());
        (Who::Resident(number), people[number].sample(rng))
    };
    let faces: Vec<(Who, Vec<f32>)> = match kind {
        0..70 => vec![resident(rng)],
        70..85 => vec![(Who::Stranger, stranger(rng).sample(rng))],
        85..95 => Vec::new(),
        _ => vec![resident(rng), resident(rng)],
    };
    let faces: Vec<Seen> = faces
        .into_iter()
        .map(|(who, encoding)| {
            let quality = match rng.u32(..50) {
                0 => Some(POOR_QUALITY),
                1..10 => None,
                _ => Some(0.9),
            };
            Seen { who, face: FaceMessage { encoding, base64: rng.bool(), quality } }
        })
        .collect();
    let mut message = EventMessage {
        id: Some(id.clone()),
        kind: if faces.is_empty() { "motion" } else { "face" }.into(),
        faces: faces.iter().map(|seen| seen.face.clone()).collect(),
        media: picture.iter().map(|picture| picture.name.clone()).collect(),
        ..EventMessage::default()
    };
    message.attributes.insert("zone".into(), "porch \u{1F6AA}".into());
    Visit { id, payload: message.payload(), faces, picture }
}

fn picture(number: usize, rng: &mut Rng) -> Result<Picture> {
    let seed = rng.u64(..);
    let (name, bytes) = match number {
        // One of several parts, a few large ones, many small ones.
        500 => ("clip.mp4", (0..CLIP_BYTES).map(|_| rng.u8(..)).collect()),
        number if number % 250 == 0 => ("snapshot.jpg", jpeg(seed, 640, 480)?),
        _ => ("snapshot.jpg", jpeg(seed, 160, 120)?),
    };
    Ok(Picture { name: name.into(), bytes, first: rng.bool() })
}
