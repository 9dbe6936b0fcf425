//! The messages that the appliance publishes. The text is created when it is sent, never before: age, `replayed` and
//! `actionable` depend on that moment.

use std::time::Duration;

use gatehouse_gallery::{Basis, StrangerMark};
use gatehouse_model::{CameraName, Effort, Event, EventId, Face, Identification, Outcome, Person, Timestamp};
use serde::Serialize;

use crate::freshness::Waited;
use crate::moment::Moment;

/// How long an identification is actionable, and how long the broker keeps it (Message Expiry).
pub const ANSWER_EXPIRY: Duration = Duration::from_secs(10);

/// A message to a camera's topic.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// The identification of an event.
    Answer(Box<Answer>),
    /// Why a message was refused.
    Rejected(Rejected),
}

/// The answer to an event.
#[derive(Debug, Clone)]
pub struct Answer {
    topic: String,
    correlation: String,
    event_id: EventId,
    camera: CameraName,
    occurred_at: Option<Timestamp>,
    received_at: Timestamp,
    /// When the event was read and how long it may have waited. A step of the wall clock must not change the age.
    waited: Waited,
    /// Age at arrival by the camera's own clock.
    age_at_arrival: Duration,
    replayed: bool,
    /// Whether age or novelty is unknown. Then the answer is not actionable.
    is_freshness_unknown: bool,
    /// What was dropped or not understood in the event.
    notes: Vec<String>,
    identification: Identification<Person>,
    /// The stranger mark of each face; empty if there is none.
    strangers: Vec<Option<StrangerMark>>,
    threshold_basis: Basis,
}

/// A face as it is published.
#[derive(Serialize)]
struct FaceBody<'a> {
    #[serde(flatten)]
    face: &'a Face<Person>,
    /// Absent if there is none.
    #[serde(flatten)]
    stranger: Option<&'a StrangerMark>,
}

#[derive(Serialize)]
struct AnswerBody<'a> {
    event_id: &'a str,
    camera: &'a str,
    correlation_id: &'a str,
    time: Option<String>,
    received_at: String,
    age_ms: u64,
    replayed: bool,
    actionable: bool,
    gallery_size: u32,
    threshold_basis: Basis,
    model: &'a str,
    /// Engine and time; absent without a search.
    #[serde(flatten)]
    effort: Option<Effort>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notes: &'a [String],
    faces: Vec<FaceBody<'a>>,
}

impl Answer {
    /// The answer to an event. `waited` is from when it was read; `replayed` if it was delivered before.
    pub fn new(
        root: &str,
        event: &Event,
        waited: Waited,
        replayed: bool,
        identification: Identification<Person>,
    ) -> Self {
        let age = event.occurred_at.map_or(0, |occurred| event.received_at.millis_since(occurred));
        Self {
            topic: format!("{root}/{}/identification", event.key.camera),
            correlation: event.key.correlation(),
            event_id: event.key.id.clone(),
            camera: event.key.camera.clone(),
            occurred_at: event.occurred_at,
            received_at: event.received_at,
            waited,
            age_at_arrival: Duration::from_millis(age),
            replayed,
            is_freshness_unknown: false,
            notes: Vec::new(),
            identification,
            strangers: Vec::new(),
            threshold_basis: Basis::Unknown,
        }
    }

    /// The same answer with notes for the camera's engineer.
    #[must_use]
    pub fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.notes = notes;
        self
    }

    /// The same answer, never actionable where the age of the event or whether it came before cannot be known.
    #[must_use]
    pub fn with_unknown_freshness(mut self, is_unknown: bool) -> Self {
        self.is_freshness_unknown = is_unknown;
        self
    }

    /// The same answer with what is known of its strangers, face by face.
    #[must_use]
    pub fn with_strangers(mut self, strangers: Vec<Option<StrangerMark>>) -> Self {
        self.strangers = strangers;
        self
    }

    /// The same answer with where the threshold of its camera comes from.
    #[must_use]
    pub fn with_basis(mut self, basis: Basis) -> Self {
        self.threshold_basis = basis;
        self
    }

    fn body(&self, now: Moment, resent: bool) -> Vec<u8> {
        let since_read = now - self.waited.read_at;
        let age = self.age_at_arrival.saturating_add(since_read);
        let age_at_most = age.max(self.waited.at_most.saturating_add(since_read));
        let replayed = self.replayed || resent || age_at_most > ANSWER_EXPIRY;
        let faces = &self.identification.faces;
        let body = |(at, face)| FaceBody { face, stranger: self.strangers.get(at).and_then(Option::as_ref) };
        to_json(&AnswerBody {
            event_id: self.event_id.as_str(),
            camera: self.camera.as_str(),
            correlation_id: &self.correlation,
            time: self.occurred_at.map(|time| time.to_string()),
            received_at: self.received_at.to_string(),
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            replayed,
            actionable: !replayed
                && !self.is_freshness_unknown
                && faces.iter().any(|face| face.outcome == Outcome::Match),
            gallery_size: self.identification.gallery_size,
            threshold_basis: self.threshold_basis,
            model: &self.identification.model,
            effort: self.identification.effort,
            notes: &self.notes,
            faces: faces.iter().enumerate().map(body).collect(),
        })
    }
}

/// The answer to a message that was refused.
#[derive(Debug, Clone)]
pub struct Rejected {
    topic: String,
    correlation: Option<String>,
    event_id: Option<EventId>,
    reason: String,
    detail: String,
}

#[derive(Serialize)]
struct RejectedBody<'a> {
    event_id: Option<&'a str>,
    correlation_id: Option<&'a str>,
    reason: &'a str,
    detail: &'a str,
}

impl Rejected {
    /// The answer to a message of `camera` that was refused for `reason`.
    pub fn new(root: &str, camera: &str, reason: &str, detail: &str) -> Self {
        let topic = format!("{root}/{camera}/rejected");
        let (reason, detail) = (reason.to_owned(), detail.to_owned());
        Self { topic, correlation: None, event_id: None, reason, detail }
    }

    /// The same with the event, as far as it is known.
    #[must_use]
    pub fn with_event(mut self, event_id: Option<EventId>, correlation: Option<String>) -> Self {
        self.event_id = event_id;
        self.correlation = correlation;
        self
    }

    fn body(&self) -> Vec<u8> {
        to_json(&RejectedBody {
            event_id: self.event_id.as_ref().map(EventId::as_str),
            correlation_id: self.correlation.as_deref(),
            reason: &self.reason,
            detail: &self.detail,
        })
    }
}

impl Outgoing {
    pub(crate) fn topic(&self) -> &str {
        match self {
            Self::Answer(answer) => &answer.topic,
            Self::Rejected(rejected) => &rejected.topic,
        }
    }

    pub(crate) fn correlation(&self) -> Option<&str> {
        match self {
            Self::Answer(answer) => Some(&answer.correlation),
            Self::Rejected(rejected) => rejected.correlation.as_deref(),
        }
    }

    /// The text as of `now`. An answer that is sent again may have arrived before, so it is `replayed`.
    pub(crate) fn body(&self, now: Moment, resent: bool) -> Vec<u8> {
        match self {
            Self::Answer(answer) => answer.body(now, resent),
            Self::Rejected(rejected) => rejected.body(),
        }
    }
}

/// The retained status of the appliance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusMessage {
    /// Whether the appliance accepts events.
    pub online: bool,
    /// Device id.
    pub device: String,
    /// Enrolled people.
    pub gallery_size: usize,
    /// Events that are not delivered yet.
    pub pending_events: u64,
    /// Media files that are not delivered yet.
    pub pending_media: u64,
    /// When the oldest of them arrived.
    pub oldest_pending: Option<Timestamp>,
}

#[derive(Serialize)]
struct StatusBody<'a> {
    status: &'static str,
    device: &'a str,
    version: &'static str,
    gallery_size: usize,
    pending: u64,
    pending_events: u64,
    pending_media: u64,
    oldest_pending_age_s: Option<u64>,
}

impl StatusMessage {
    /// The status before the first numbers are known.
    pub fn offline(device: &str) -> Self {
        Self {
            online: false,
            device: device.to_owned(),
            gallery_size: 0,
            pending_events: 0,
            pending_media: 0,
            oldest_pending: None,
        }
    }

    /// The text as of now.
    pub(crate) fn body(&self) -> Vec<u8> {
        let now = Timestamp::now();
        to_json(&StatusBody {
            status: if self.online { "online" } else { "offline" },
            device: &self.device,
            version: env!("CARGO_PKG_VERSION"),
            gallery_size: self.gallery_size,
            pending: self.pending_events + self.pending_media,
            pending_events: self.pending_events,
            pending_media: self.pending_media,
            oldest_pending_age_s: self.oldest_pending.map(|oldest| now.millis_since(oldest) / 1000),
        })
    }
}

/// These types contain only text and numbers, so serialization does not fail.
fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatehouse_model::Engine;
    use gatehouse_model::EventKey;
    use serde_json::Value;

    fn answer(age_at_arrival: u64, replayed: bool, outcome: Outcome) -> (Answer, Moment) {
        let received = Moment::now();
        let received_at = Timestamp::now();
        let event = Event {
            key: EventKey { camera: "door".try_into().unwrap(), id: "1".try_into().unwrap() },
            kind: "face".to_owned(),
            occurred_at: Some(Timestamp(received_at.0 - i64::try_from(age_at_arrival).unwrap() * 1000)),
            received_at,
            media: Vec::new(),
            attributes: "{}".to_owned(),
        };
        let person = Person { id: "p".to_owned(), name: "P".to_owned() };
        let face = Face {
            outcome,
            person: (outcome == Outcome::Match).then_some(person),
            distance: Some(0.25),
            threshold: 0.5,
            margin: None,
            quality: None,
        };
        let effort = Some(Effort { engine: Engine::Exact, micros: 40 });
        let identification =
            Identification { gallery_size: 1, model: "m".to_owned(), faces: vec![face], effort };
        let waited = Waited { read_at: received, at_most: Duration::ZERO, is_live: true };
        (Answer::new("gatehouse", &event, waited, replayed, identification), received)
    }

    fn body(answer: &Answer, now: Moment, resent: bool) -> (u64, bool, bool) {
        let body: Value = serde_json::from_slice(&answer.body(now, resent)).unwrap();
        let flag = |key: &str| body[key].as_bool().unwrap();
        (body["age_ms"].as_u64().unwrap(), flag("replayed"), flag("actionable"))
    }

    #[test]
    fn a_fresh_match_is_actionable_and_ages_while_it_waits() {
        let (answer, received) = answer(0, false, Outcome::Match);
        assert_eq!(body(&answer, received, false), (0, false, true));
        assert_eq!(body(&answer, received + Duration::from_secs(9), false), (9000, false, true));
        assert_eq!(body(&answer, received + Duration::from_secs(11), false), (11_000, true, false));
    }

    #[test]
    fn what_may_have_waited_too_long_is_not_actionable() {
        let (mut answer, received) = answer(0, false, Outcome::Match);
        answer.waited.at_most = Duration::from_secs(4);
        assert_eq!(body(&answer, received, false), (0, false, true));
        assert_eq!(body(&answer, received + Duration::from_secs(7), false), (7000, true, false));
        answer.waited.at_most = Duration::MAX;
        assert_eq!(body(&answer, received, false), (0, true, false));
    }

    #[test]
    fn what_was_sent_or_delivered_before_is_never_actionable() {
        let (first, received) = answer(0, false, Outcome::Match);
        assert_eq!(body(&first, received, true), (0, true, false));
        let (again, received) = answer(0, true, Outcome::Match);
        assert_eq!(body(&again, received, false), (0, true, false));
        let (late, received) = answer(10_500, false, Outcome::Match);
        assert_eq!(body(&late, received, false), (10_500, true, false));
    }

    #[test]
    fn a_match_of_unknown_freshness_is_not_actionable() {
        let (answer, received) = answer(0, false, Outcome::Match);
        assert_eq!(body(&answer.with_unknown_freshness(true), received, false), (0, false, false));
    }

    #[test]
    fn notes_are_absent_where_there_are_none() {
        let (answer, received) = answer(0, false, Outcome::Match);
        let json =
            |answer: &Answer| -> Value { serde_json::from_slice(&answer.body(received, false)).unwrap() };
        assert_eq!(json(&answer).get("notes"), None);
        assert_eq!(json(&answer.with_notes(vec!["a".to_owned()]))["notes"], serde_json::json!(["a"]));
    }

    #[test]
    fn only_a_match_is_actionable() {
        for outcome in [Outcome::Stranger, Outcome::Ambiguous, Outcome::Unusable] {
            let (answer, received) = answer(0, false, outcome);
            assert_eq!(body(&answer, received, false), (0, false, false));
        }
    }

    #[test]
    fn faces_and_engine_are_published_as_in_the_contract() {
        let (answer, received) = answer(0, false, Outcome::Match);
        let body: Value = serde_json::from_slice(&answer.body(received, false)).unwrap();
        let face = &body["faces"][0];
        assert_eq!(face["outcome"], "match");
        assert_eq!(face["person"]["id"], "p");
        assert_eq!(face["distance"], 0.25);
        assert!(face["margin"].is_null());
        assert_eq!(body["event_id"], "1");
        assert!(body["engine"] == "exact" && body["micros"] == 40, "{body}");
    }
}
