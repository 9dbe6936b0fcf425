//! The pipeline between broker and journal: read, check for duplicates, identify, publish, append, acknowledge.
//!
//! Data flows in one direction. An input sends a [`Delivery`](gatehouse_mqtt::Delivery) to its task ([`events`], [`media`]),
//! which appends to the journal and passes the acknowledgement to its lane ([`acks`]). The identification is published from
//! memory before the journal is written. Messages are acknowledged in the order of arrival, each after its record is durable
//! and its answer is settled.
//!
//! Nothing here survives a crash. The broker delivers unacknowledged messages again. A message that was appended before is
//! recognized by its id, answered as replayed, and counted as a duplicate.
//!
//! A failure of the store ends its task, and so the daemon ([`PipelineHandle::ended`]).

mod acks;
mod counters;
mod events;
mod log_limit;
mod media;
mod rate;
mod refuse;
mod search;
mod status;
mod task_set;
mod thread;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_config::Config;
use gatehouse_store::Store;
use gatehouse_store::store::{Events as StoredEvents, Galleries, Media, StoreError, Upkeep};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

pub(crate) use counters::Counters;
pub use counters::PipelineStats;

use crate::sources::Sources;
use acks::AckLane;
use events::{EventQueues, Events};
use gatehouse_mqtt::{
    Budget, Delivery, Input, InputChannels, InputSettings, LinkState, Links, Phase, Publisher, PublisherTask,
    StatusMessage,
};
use media::MediaFiles;
use refuse::Refuser;
use search::Search;
use status::StatusTask;
use task_set::TaskSet;
use thread::EventThread;

/// Payload bytes of events in progress: a hundred of the largest, far more usual ones.
const EVENT_BYTES_IN_FLIGHT: usize = 32 * 1024 * 1024;

/// Payload bytes of media files in progress: two of the largest at the default limit. In addition to its budget each input
/// holds at most one message that waits for admission.
const MEDIA_BYTES_IN_FLIGHT: usize = 32 * 1024 * 1024;

/// Messages in progress of one input: two group commits, so that one fills while the other is written.
const MESSAGES_IN_FLIGHT: usize = 2000;

/// Names of the tasks, for waiting and for the log.
const READERS: [&str; 4] = ["events", "event acks", "media", "media acks"];
const CLIENTS: [&str; 3] = ["event input", "media input", "publisher"];

/// The running pipeline.
pub struct PipelineHandle {
    events: StoredEvents,
    upkeep: Upkeep,
    tasks: TaskSet,
    /// After the tasks, so that they are aborted first.
    _thread: EventThread,
    probes: mpsc::Sender<oneshot::Sender<()>>,
    counters: Arc<Counters>,
    clients: Clients,
}

/// What the three MQTT clients share with the handle.
struct Clients {
    phase: watch::Sender<Phase>,
    budgets: Budgets,
    links: LinkStates,
}

/// The budget of each input.
struct Budgets {
    events: Budget,
    media: Budget,
}

/// The state of each connection. The client of the connection writes it.
#[derive(Default)]
struct LinkStates {
    events: LinkState,
    media: LinkState,
    answers: LinkState,
}

type Inbox = mpsc::UnboundedReceiver<Delivery>;

impl Clients {
    fn new() -> Self {
        let budgets = Budgets {
            events: Budget::new(EVENT_BYTES_IN_FLIGHT, MESSAGES_IN_FLIGHT),
            media: Budget::new(MEDIA_BYTES_IN_FLIGHT, MESSAGES_IN_FLIGHT),
        };
        Self { phase: watch::Sender::new(Phase::Run), budgets, links: LinkStates::default() }
    }

    fn event_input(&self, shared: &Shared) -> (Input, Inbox) {
        let settings = InputSettings {
            name: "events",
            suffix: "",
            filters: shared.sources.event_filters(),
            marker: Some(format!("{}/status", shared.config.mqtt.topic_root)),
        };
        self.input(shared, settings, &self.budgets.events, &self.links.events)
    }

    fn media_input(&self, shared: &Shared) -> (Input, Inbox) {
        let filters = shared.sources.media_filters();
        let settings = InputSettings { name: "media", suffix: "-media", filters, marker: None };
        self.input(shared, settings, &self.budgets.media, &self.links.media)
    }

    fn input(
        &self,
        shared: &Shared,
        settings: InputSettings,
        budget: &Budget,
        link: &LinkState,
    ) -> (Input, Inbox) {
        let (out, inbox) = mpsc::unbounded_channel();
        let (budget, link, phase) = (budget.clone(), link.clone(), self.phase.subscribe());
        let channels = InputChannels { budget, link, phase, out };
        (Input::new(shared.config.clone(), settings, channels), inbox)
    }
}

/// What the parts of a pipeline share.
#[derive(Clone)]
struct Shared {
    config: Arc<Config>,
    events: StoredEvents,
    galleries: Galleries,
    media: Media,
    sources: Arc<Sources>,
    counters: Arc<Counters>,
    publisher: Publisher,
}

/// Starts the pipeline: events on a separate thread, media on the current runtime. It starts without a broker and connects
/// when one is reachable.
///
/// # Errors
/// If the thread cannot be started.
pub fn start(config: &Config, store: &Store) -> io::Result<PipelineHandle> {
    let thread = EventThread::start()?;
    let config = Arc::new(config.clone());
    let counters = Arc::new(Counters::default());
    let clients = Clients::new();
    let tasks = TaskSet::default();
    let (on_events, here) = (thread.handle(), Handle::current());

    let status = watch::Sender::new(StatusMessage::offline(&config.device.id));
    let (publisher, task) = PublisherTask::new(
        config.clone(),
        counters.answers.clone(),
        clients.links.answers.clone(),
        status.subscribe(),
        clients.phase.subscribe(),
    );
    tasks.spawn(on_events, "publisher", task.run());
    let task = StatusTask::new(
        store.feed.clone(),
        store.upkeep.clone(),
        clients.links.events.subscribe(),
        status,
        clients.phase.subscribe(),
    );
    tasks.spawn(&here, "status", task.run());

    let shared = Shared {
        events: store.events.clone(),
        galleries: store.galleries.clone(),
        media: store.media.clone(),
        sources: Arc::new(Sources::new(&config)),
        config,
        counters: counters.clone(),
        publisher,
    };
    let (events, event_inbox) = clients.event_input(&shared);
    let (media, media_inbox) = clients.media_input(&shared);
    let probes = start_readers(&tasks, on_events, &shared, event_inbox, media_inbox);
    tasks.spawn(on_events, "event input", events.run());
    tasks.spawn(&here, "media input", media.run());
    let (events, upkeep) = (store.events.clone(), store.upkeep.clone());
    Ok(PipelineHandle { events, upkeep, tasks, _thread: thread, probes, counters, clients })
}

fn start_readers(
    tasks: &TaskSet,
    on_events: &Handle,
    shared: &Shared,
    events: Inbox,
    media: Inbox,
) -> mpsc::Sender<oneshot::Sender<()>> {
    let (probes, probed) = mpsc::channel(1);
    let (refuser, here) = (Refuser::new(shared), Handle::current());
    let (lane, acks) = AckLane::new();
    tasks.spawn_fallible(on_events, "event acks", acks.run());
    let search = Search::start(shared.galleries.clone());
    let queues = EventQueues { lane, inbox: events, probes: probed };
    let events = Events::new(shared, refuser.clone(), search, queues);
    tasks.spawn_fallible(on_events, "events", events.run());
    let (lane, acks) = AckLane::new();
    tasks.spawn_fallible(&here, "media acks", acks.run());
    tasks.spawn_fallible(&here, "media", MediaFiles::new(shared, refuser, lane, media).run());
    probes
}

impl PipelineHandle {
    /// Sends a probe through the event task and the journal writer. Waiting for disk space counts as healthy.
    ///
    /// # Errors
    /// [`StoreError`] if the journal failed or the task ended.
    pub async fn probe(&self) -> Result<(), StoreError> {
        tokio::select! {
            answered = self.round_trip() => answered,
            // A restart would not free disk space.
            () = self.upkeep.waits_for_space() => Ok(()),
        }
    }

    async fn round_trip(&self) -> Result<(), StoreError> {
        let (sender, answer) = oneshot::channel();
        self.probes.send(sender).await.map_err(|_| StoreError::Stopping)?;
        answer.await.map_err(|_| StoreError::Stopping)?;
        self.events.ping().await
    }

    /// Numbers for status and doctor.
    pub fn stats(&self) -> PipelineStats {
        let links = self.links();
        let sum = |of: fn(&Budget) -> u64| of(&self.clients.budgets.events) + of(&self.clients.budgets.media);
        PipelineStats {
            connected: links.connected(),
            error: links.error(),
            links,
            in_flight_bytes: sum(Budget::bytes_in_flight),
            in_flight_messages: sum(Budget::messages_in_flight),
            ..self.counters.stats()
        }
    }

    fn links(&self) -> Links {
        let LinkStates { events, media, answers } = &self.clients.links;
        Links { events: events.get(), media: media.get(), answers: answers.get() }
    }

    /// Waits for the first task that ends unexpectedly and returns its name. Then the daemon has to end.
    pub async fn ended(&self) -> &'static str {
        self.tasks.first_ended().await
    }

    /// Receives no new messages, completes and acknowledges those in progress, and disconnects. Work that exceeds `timeout`
    /// is aborted, and the broker delivers those messages again. Returns whether all work was completed.
    pub async fn drain(&self, timeout: Duration) -> bool {
        let all = async {
            self.clients.phase.send_replace(Phase::Finish);
            self.tasks.all_ended(&READERS).await;
            self.clients.phase.send_replace(Phase::Disconnect);
            self.tasks.all_ended(&CLIENTS).await;
        };
        let done = tokio::time::timeout(timeout, all).await.is_ok();
        self.tasks.abort();
        if done {
            info!("pipeline drained");
        } else {
            let stats = self.stats();
            warn!(
                messages = stats.in_flight_messages,
                "pipeline aborted; the broker delivers the remaining messages again"
            );
        }
        done
    }
}
