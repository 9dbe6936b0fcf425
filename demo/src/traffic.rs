//! Generates camera traffic: visits of residents and strangers, with and without a picture, and occasionally a
//! repeated or malformed message.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use fastrand::Rng;
use gatehouse_testkit::camera::{Address, Camera};
use gatehouse_testkit::jpeg::jpeg;
use gatehouse_testkit::malformed::{Fault, malformed};
use gatehouse_testkit::synthetic::{EventMessage, SyntheticPerson, stranger};
use gatehouse_testkit::wait;

/// The cameras.
const CAMERAS: [&str; 3] = ["front-door", "garden", "garage"];
/// Width of a picture in pixels.
const PICTURE_WIDTH: u16 = 160;
/// Height of a picture in pixels.
const PICTURE_HEIGHT: u16 = 120;
/// Faults of malformed messages, used in turn.
const FAULTS: [Fault; 5] =
    [Fault::WrongDimensions, Fault::NotJson, Fault::NotANumber, Fault::TooDeep, Fault::ZeroVector];
/// The broker runs in this process.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Who was in front of the camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// An enrolled person, by number.
    Resident(usize),
    /// A person who is not enrolled.
    Stranger,
    /// No person: motion without a face.
    Motion,
}

/// A valid event that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    /// The camera.
    pub(crate) camera: &'static str,
    /// Who was in front of it.
    pub(crate) subject: Subject,
    /// When it was first published.
    pub(crate) sent: Instant,
    /// Its picture.
    pub(crate) picture: Option<Bytes>,
}

/// The cameras and the messages that they sent.
pub(crate) struct Traffic {
    random: Rng,
    people: Vec<SyntheticPerson>,
    cameras: Vec<Camera>,
    /// Valid events by id.
    pub(crate) visits: HashMap<String, Visit>,
    /// Number of messages that must be refused.
    pub(crate) malformed: u64,
    /// Number of events that were sent again.
    pub(crate) repeated: u64,
    last: Option<Sent>,
    steps: u64,
}

/// An event that can be sent again.
struct Sent {
    camera: usize,
    payload: Vec<u8>,
}

impl Traffic {
    /// Connects the cameras.
    pub(crate) fn new(port: u16, people: Vec<SyntheticPerson>) -> Self {
        let address = Address::local(port);
        let cameras = CAMERAS.iter().map(|name| Camera::connect(name, &address)).collect();
        let visits = HashMap::new();
        Self { random: Rng::new(), people, cameras, visits, malformed: 0, repeated: 0, last: None, steps: 0 }
    }

    /// Number of pictures sent.
    pub(crate) fn pictures(&self) -> u64 {
        self.visits.values().filter(|visit| visit.picture.is_some()).count() as u64
    }

    /// Sends the next message.
    pub(crate) fn step(&mut self) -> Result<()> {
        self.steps += 1;
        match self.steps % 20 {
            9 => self.send_malformed(),
            15 => self.send_again(),
            _ => return self.visit(),
        }
        Ok(())
    }

    /// Waits until the broker has received everything.
    pub(crate) async fn settle(&self) -> Result<()> {
        let done = || async { self.cameras.iter().all(|camera| camera.waiting() == 0) };
        wait::until_async("the broker to take the cameras' messages", SEND_TIMEOUT, done).await
    }

    fn visit(&mut self) -> Result<()> {
        let camera = self.random.usize(..CAMERAS.len());
        let id = format!("visit-{:05}", self.steps);
        let subject = match self.random.u8(..20) {
            0 => Subject::Motion,
            1..5 => Subject::Stranger,
            _ => Subject::Resident(self.random.usize(..self.people.len())),
        };
        let encoding = match subject {
            Subject::Resident(number) => Some(self.people[number].sample(&mut self.random)),
            Subject::Stranger => Some(stranger(&mut self.random).sample(&mut self.random)),
            Subject::Motion => None,
        };
        let motion = EventMessage { id: Some(id.clone()), kind: "motion".into(), ..EventMessage::default() };
        let mut message = encoding.map_or(motion, |encoding| EventMessage::face(&id, encoding));
        let mut picture = None;
        if self.steps.is_multiple_of(2) {
            message.media = vec!["snapshot.jpg".into()];
            picture = Some(Bytes::from(jpeg(self.random.u64(..), PICTURE_WIDTH, PICTURE_HEIGHT)?));
        }
        // Cameras send the picture before or after its event.
        let is_before = self.random.bool();
        if is_before {
            self.send_picture(camera, &id, picture.as_ref());
        }
        let payload = message.payload();
        let visit =
            Visit { camera: CAMERAS[camera], subject, sent: Instant::now(), picture: picture.clone() };
        self.visits.insert(id.clone(), visit);
        self.send(camera, "event", payload.clone());
        if !is_before {
            self.send_picture(camera, &id, picture.as_ref());
        }
        self.last = Some(Sent { camera, payload });
        Ok(())
    }

    fn send_picture(&self, camera: usize, id: &str, picture: Option<&Bytes>) {
        if let Some(picture) = picture {
            self.send(camera, &format!("media/{id}/snapshot.jpg"), picture.clone());
        }
    }

    fn send_again(&mut self) {
        if let Some(Sent { camera, payload }) = self.last.take() {
            self.repeated += 1;
            self.send(camera, "event", payload);
        }
    }

    fn send_malformed(&mut self) {
        let camera = self.random.usize(..CAMERAS.len());
        let fault = FAULTS[usize::try_from(self.malformed).unwrap_or(0) % FAULTS.len()];
        let id = format!("broken-{:05}", self.steps);
        let message = malformed(fault, CAMERAS[camera], &id, &mut self.random);
        self.malformed += 1;
        self.send(camera, "event", message.payload);
    }

    fn send(&self, camera: usize, what: &str, payload: impl Into<Bytes>) {
        // The receipt is dropped: `settle` waits for all of them at once.
        drop(self.cameras[camera].send(&format!("gatehouse/{}/{what}", CAMERAS[camera]), payload, false));
    }
}
