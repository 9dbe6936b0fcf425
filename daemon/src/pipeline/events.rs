//! The task that processes every event.
//!
//! Order for one event: read, rate limit, duplicate check, identify, publish, append, acknowledge in order. Events that
//! arrive together are read together and searched ahead of their turn. Then they are processed one after another. The task
//! never waits for the broker. It waits for the disk only while the queue of the journal is full.

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
use crate::pipeline::log_limit::LogLimit;
use crate::pipeline::rate::RateLimit;
use crate::pipeline::refuse::Refuser;
use crate::pipeline::search::{Found, Search};
use crate::pipeline::{Counters, Shared};
use crate::sources::{Message, Reason, Refusal, Sources, Visit};
use gatehouse_mqtt::{ANSWER_EXPIRY, AckToken, Answer, Delivery, Outgoing, Publisher, Receipt, Waited};

/// Messages that are read and searched together: enough for two cores, and few enough that the first one does not wait for
/// the last.
const MESSAGES_AT_ONCE: usize = 32;

/// How long events are read before the answers on the same thread run. It is too short to be noticed, and long enough that
/// many answers leave at once.
const BATCH_DURATION_MAX: Duration = Duration::from_millis(1);

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
    log_limit: LogLimit,
    lane: AckLane,
    inbox: mpsc::UnboundedReceiver<Delivery>,
    probes: mpsc::Receiver<oneshot::Sender<()>>,
}

/// The queues of the task.
pub(crate) struct EventQueues {
    /// Acknowledgements leave here.
    pub(crate) lane: AckLane,
    /// Messages arrive here.
    pub(crate) inbox: mpsc::UnboundedReceiver<Delivery>,
    /// Probes of the watchdog arrive here. The task answers each of them.
    pub(crate) probes: mpsc::Receiver<oneshot::Sender<()>>,
}

/// A message that was read and is answered in its turn.
struct Step {
    ack: AckToken,
    arrival: Arrival,
    content: Content,
}

/// The content of a message.
enum Content {
    Marker,
    Refused(Box<Refusal>),
    Visit(Box<Visit>),
}

/// The arrival of a message.
#[derive(Clone, Copy)]
struct Arrival {
    received: Instant,
    dup: bool,
    waited: Waited,
    bytes: u64,
}

impl Events {
    pub(crate) fn new(shared: &Shared, refuser: Refuser, search: Search, queues: EventQueues) -> Self {
        let EventQueues { lane, inbox, probes } = queues;
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
            log_limit: LogLimit::default(),
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
                    // The receiver may have timed out.
                    let _ = probe.send(());
                }
            }
        }
    }

    /// Processes this message and those after it, until it is the turn of the answers.
    async fn take_all(&mut self, first: Delivery) -> Result<(), StoreError> {
        let begin = Instant::now();
        // Read once: a switch of the gallery affects the next events.
        let galleries = self.galleries.current();
        let (mut steps, mut visits) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(delivery) = next {
            steps.push(self.read(delivery, &galleries, &mut visits));
            let full = steps.len() == MESSAGES_AT_ONCE || begin.elapsed() > BATCH_DURATION_MAX;
            next = if full { None } else { self.inbox.try_recv().ok() };
        }
        let mut found = self.search.ahead(&galleries, visits).into_iter();
        for Step { ack, arrival, content } in steps {
            let (pending, receipt) = match content {
                Content::Marker => {
                    self.lane.push(ack, std::future::ready(Ok(())));
                    continue;
                }
                Content::Refused(refusal) => self.refuser.refuse(*refusal, arrival.bytes).await?,
                Content::Visit(visit) => {
                    // There is one result for each visit, in the same order.
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

    /// Reads a message, and appends the faces of a visit to `visits` for the search.
    fn read(&mut self, delivery: Delivery, galleries: &GallerySet, visits: &mut Vec<Found>) -> Step {
        let Delivery { topic, payload, dup, retained, marker, received, received_at, waited, ack, bytes } =
            delivery;
        let arrival = Arrival { received, dup, waited, bytes: payload.len() as u64 };
        if marker {
            return Step { ack, arrival, content: Content::Marker };
        }
        self.counters.events_received.add(1);
        let message = Message { topic: &topic, payload: &payload, retained, received_at };
        let read = self.sources.event(&message, galleries.models());
        wipe(payload);
        drop(bytes);
        let content = match read.and_then(|visit| self.admit(visit, arrival)) {
            Ok(mut visit) => {
                visits.push(Found::new(visit.event.key.camera.clone(), std::mem::take(&mut visit.faces)));
                Content::Visit(Box::new(visit))
            }
            Err(refusal) => Content::Refused(Box::new(refusal)),
        };
        Step { ack, arrival, content }
    }

    /// Refuses events above the rate of the camera.
    fn admit(&mut self, visit: Visit, arrival: Arrival) -> Result<Visit, Refusal> {
        // A backlog arrives all at once, which is not the fault of the camera.
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

    /// Whether the same ring was stored within [`RING_REPEAT_WINDOW_MICROS`].
    async fn is_repeated_ring(&self, camera: &CameraName, prefix: String) -> Result<bool, StoreError> {
        let since = Timestamp(self.events.time().0 - RING_REPEAT_WINDOW_MICROS);
        let camera = Some(camera.clone());
        let query =
            EventQuery { camera, since: Some(since), limit: RING_EVENTS_MAX, ..EventQuery::default() };
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
            Some(prefix) if arrival.dup => self.is_repeated_ring(&event.key.camera, prefix).await?,
            _ => self.events.seen(&event.key).await?,
        };
        let identification = found.answer(&self.galleries, galleries);
        let replayed = seen || arrival.dup || arrival.waited.at_most > ANSWER_EXPIRY;
        self.counters.fields_dropped.add(fields_dropped);
        let novelty = match (seen, replayed || is_freshness_unknown) {
            (true, _) => store::Arrival::Known,
            (false, true) => store::Arrival::Late,
            (false, false) => store::Arrival::Fresh,
        };
        let strangers = self.galleries.take_faces(&event.key, found.faces, &identification, novelty);
        let answer = Answer::new(&self.root, &event, arrival.waited, replayed, identification.clone())
            .with_strangers(strangers)
            .with_basis(galleries.basis(&event.key.camera))
            .with_unknown_freshness(is_freshness_unknown)
            .with_notes(notes);
        let receipt = self.publisher.send(Outgoing::Answer(Box::new(answer)));
        if let Some(left_out) = self.log_limit.admit_line(Instant::now()) {
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

/// An event without id, time and face is recognized as a repeated delivery only by the DUP flag and within this time. A ring
/// that is stored twice is better than a lost visit.
const RING_REPEAT_WINDOW_MICROS: i64 = 120_000_000;

/// Events of the camera that are searched for an earlier ring.
const RING_EVENTS_MAX: usize = 100;

/// Resolves when the record is durable and the answer is settled.
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

/// Wipes a payload with its encodings, unless its buffer is shared.
fn wipe(payload: Bytes) {
    if let Ok(mut payload) = payload.try_into_mut() {
        payload.zeroize();
    }
}
