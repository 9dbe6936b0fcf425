//! The one task through which every event goes.
//!
//! Order of one event: read, rate, known or new, identify, publish, append, acknowledge in turn. Several that came
//! together are read together, searched ahead of their turn, and go on one after another. Nothing here waits for the
//! broker; the disk is waited for only where the journal's queue is full.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gatehouse_journal::Pending;
use gatehouse_model::{CameraName, Identification, Outcome, Person, Timestamp};
use gatehouse_store::clock::Reading;
use gatehouse_store::record::Item;
use gatehouse_store::store::{self, EventQuery, Galleries, GallerySet, StoreError};
use tokio::sync::{mpsc, oneshot};
use tracing::info;
use zeroize::Zeroize;

use crate::pipeline::acks::AckLane;
use crate::pipeline::lines::Lines;
use crate::pipeline::rate::RateLimit;
use crate::pipeline::refuse::Refuser;
use crate::pipeline::search::{Found, Search};
use crate::pipeline::{Counters, Shared};
use crate::sources::{Message, Reason, Refusal, Sources, Visit};
use gatehouse_mqtt::{ANSWER_EXPIRY, AckToken, Answer, Delivery, Outgoing, Publisher, Receipt, Waited};

/// Messages that are read before they are searched for together: enough for two cores, and few enough that the first one
/// does not wait for the last.
const MESSAGES_AT_ONCE: usize = 32;

/// How long events are taken one after another while answers wait, which leave from the same thread: short beside what
/// anybody notices at a door, long enough that many leave at once.
const TURN: Duration = Duration::from_millis(1);

/// The task.
pub(crate) struct Events {
    root: String,
    events: store::Events,
    galleries: Galleries,
    sources: Arc<Sources>,
    counters: Arc<Counters>,
    publisher: Publisher,
    refuser: Refuser,
    search: Search,
    rate: RateLimit,
    lines: Lines,
    lane: AckLane,
    inbox: mpsc::UnboundedReceiver<Delivery>,
    probes: mpsc::Receiver<oneshot::Sender<()>>,
}

/// A message that was read and is to be answered in its turn.
struct Step {
    ack: AckToken,
    arrival: Arrival,
    what: What,
}

/// What it is.
enum What {
    Marker,
    Refused(Box<Refusal>),
    Visit(Box<Visit>),
}

/// How an event came.
#[derive(Clone, Copy)]
struct Arrival {
    received: Instant,
    dup: bool,
    waited: Waited,
    bytes: u64,
}

impl Events {
    pub(crate) fn new(
        shared: &Shared,
        refuser: Refuser,
        search: Search,
        lane: AckLane,
        inbox: mpsc::UnboundedReceiver<Delivery>,
        probes: mpsc::Receiver<oneshot::Sender<()>>,
    ) -> Self {
        let sources = &shared.config.sources;
        Self {
            root: shared.config.mqtt.topic_root.clone(),
            events: shared.events.clone(),
            galleries: shared.galleries.clone(),
            sources: shared.sources.clone(),
            counters: shared.counters.clone(),
            publisher: shared.publisher.clone(),
            refuser,
            search,
            rate: RateLimit::new(sources.events_per_second, sources.burst),
            lines: Lines::default(),
            lane,
            inbox,
            probes,
        }
    }

    /// Runs until the input has ended and its queue is empty.
    pub(crate) async fn run(mut self) -> Result<(), StoreError> {
        loop {
            tokio::select! {
                delivery = self.inbox.recv() => match delivery {
                    Some(delivery) => self.take_all(delivery).await?,
                    None => return Ok(()),
                },
                Some(probe) = self.probes.recv() => {
                    // Whoever asked may have stopped waiting.
                    let _ = probe.send(());
                }
            }
        }
    }

    /// Takes this message and those behind it, until it is the turn of the answers.
    async fn take_all(&mut self, first: Delivery) -> Result<(), StoreError> {
        let begin = Instant::now();
        // Taken once: from here on a switch of the gallery is for the next events.
        let galleries = self.galleries.current();
        let (mut steps, mut visits) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(delivery) = next {
            steps.push(self.read(delivery, &galleries, &mut visits));
            let full = steps.len() == MESSAGES_AT_ONCE || begin.elapsed() > TURN;
            next = if full { None } else { self.inbox.try_recv().ok() };
        }
        let mut found = self.search.ahead(&galleries, visits).into_iter();
        for Step { ack, arrival, what } in steps {
            let (pending, receipt) = match what {
                What::Marker => {
                    self.lane.push(ack, std::future::ready(Ok(())));
                    continue;
                }
                What::Refused(refusal) => self.refuser.refuse(*refusal, arrival.bytes).await?,
                What::Visit(visit) => {
                    // There is one for each visit, in their order.
                    let Some(found) = found.next() else { return Err(StoreError::Stopping) };
                    self.visit(*visit, found, &galleries, arrival).await?
                }
            };
            self.lane.push(ack, settled(pending, receipt));
        }
        if !self.inbox.is_empty() {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Reads a message; the faces of a visit are for the search.
    fn read(&mut self, delivery: Delivery, galleries: &GallerySet, visits: &mut Vec<Found>) -> Step {
        let Delivery { topic, payload, dup, retained, marker, received, received_at, waited, ack, bytes } =
            delivery;
        let arrival = Arrival { received, dup, waited, bytes: payload.len() as u64 };
        if marker {
            return Step { ack, arrival, what: What::Marker };
        }
        self.counters.events_received.add(1);
        let message = Message { topic: &topic, payload: &payload, retained, received_at };
        let read = self.sources.event(&message, galleries.models());
        wipe(payload);
        drop(bytes);
        let what = match read.and_then(|visit| self.admit(visit, arrival)) {
            Ok(mut visit) => {
                visits.push(Found::new(visit.event.key.camera.clone(), std::mem::take(&mut visit.faces)));
                What::Visit(Box::new(visit))
            }
            Err(refusal) => What::Refused(Box::new(refusal)),
        };
        Step { ack, arrival, what }
    }

    /// Refuses what a camera sends above its rate.
    fn admit(&mut self, visit: Visit, arrival: Arrival) -> Result<Visit, Refusal> {
        // What the broker kept for us comes all at once and is no camera's fault.
        let live = !arrival.dup && arrival.waited.is_live;
        if !live || self.rate.allow(&visit.event.key.camera, arrival.received) {
            return Ok(visit);
        }
        Err(Refusal {
            item: Item::Event,
            reason: Reason::RateLimited,
            detail: "the camera sends more events per second than it may".to_owned(),
            camera: Some(visit.event.key.camera),
            misnamed: None,
            event_id: Some(visit.event.key.id),
        })
    }

    /// Whether the same ring was stored in the last two minutes.
    async fn rang_just_now(&self, camera: &CameraName, prefix: String) -> Result<bool, StoreError> {
        let since = Timestamp(self.events.time().0 - RING_AGAIN_WITHIN);
        let camera = Some(camera.clone());
        let query =
            EventQuery { camera, since: Some(since), limit: RINGS_LOOKED_AT, ..EventQuery::default() };
        let events = self.events.clone();
        let found = tokio::task::spawn_blocking(move || events.list(&query)).await;
        let found = found.map_err(|_| StoreError::Stopping)??;
        Ok(found.iter().any(|view| view.event.key.id.as_str().starts_with(&prefix)))
    }

    async fn visit(
        &mut self,
        visit: Visit,
        mut found: Found,
        galleries: &GallerySet,
        arrival: Arrival,
    ) -> Result<(Pending, Option<Receipt>), StoreError> {
        let Visit { event, others, bare, is_freshness_unknown, fields_dropped, notes, .. } = visit;
        let seen = match bare {
            Some(prefix) if arrival.dup => self.rang_just_now(&event.key.camera, prefix).await?,
            _ => self.events.seen(&event.key).await?,
        };
        let identification = found.answer(&self.galleries, galleries);
        let replayed = seen || arrival.dup || arrival.waited.at_most > ANSWER_EXPIRY;
        self.counters.fields_dropped.add(fields_dropped);
        let came = match (seen, replayed || is_freshness_unknown) {
            (true, _) => store::Arrival::Known,
            (false, true) => store::Arrival::Late,
            (false, false) => store::Arrival::Fresh,
        };
        let strangers = self.galleries.take_faces(&event.key, found.faces, &identification, came);
        let answer = Answer::new(&self.root, &event, arrival.waited, replayed, identification.clone())
            .with_strangers(strangers)
            .with_basis(galleries.basis(&event.key.camera))
            .with_unknown_freshness(is_freshness_unknown)
            .with_notes(notes);
        let receipt = self.publisher.send(Outgoing::Answer(Box::new(answer)));
        if let Some(left_out) = self.lines.one_more(Instant::now()) {
            info!(
                correlation = event.key.correlation(),
                camera = %event.key.camera,
                event = %event.key.id,
                kind = event.kind,
                faces = identification.faces.len(),
                matches = matches(&identification),
                replayed,
                duplicate = seen,
                micros = u64::try_from(arrival.received.elapsed().as_micros()).unwrap_or(u64::MAX),
                left_out,
                "event identified"
            );
        }
        let pending = if seen {
            self.counters.duplicates.add(1);
            self.events.record_duplicate(Item::Event, arrival.bytes).await?
        } else {
            if let Some(compared) = self.galleries.compare(galleries, &event.key, &identification, &others) {
                self.events.record_comparison(compared).await?;
            }
            let reading = Reading::now().earlier(arrival.received.elapsed(), event.received_at);
            self.events.record_arrival(event, identification, reading).await?
        };
        Ok((pending, Some(receipt)))
    }
}

/// Whether an event is one that is delivered again can be told of a bare one only by the broker's mark and by its
/// time: rather a ring twice in the books than a visitor lost.
const RING_AGAIN_WITHIN: i64 = 120_000_000;

/// Events of the camera that are looked at for an earlier ring.
const RINGS_LOOKED_AT: usize = 100;

/// Durable, and the answer settled one way or the other.
async fn settled(pending: Pending, receipt: Option<Receipt>) -> Result<(), StoreError> {
    pending.await?;
    if let Some(receipt) = receipt {
        receipt.settled().await;
    }
    Ok(())
}

fn matches(identification: &Identification<Person>) -> usize {
    identification.faces.iter().filter(|face| face.outcome == Outcome::Match).count()
}

/// Wipes a payload, with the encodings in it, where nobody else holds a part of its buffer.
fn wipe(payload: Bytes) {
    if let Ok(mut payload) = payload.try_into_mut() {
        payload.zeroize();
    }
}
