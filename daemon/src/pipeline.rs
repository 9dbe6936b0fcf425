//! From the broker to the journal and back: read, recognise, identify, publish, append, acknowledge.
//!
//! One direction, no way back: an input hands a [`Delivery`](gatehouse_mqtt::Delivery) to its task ([`events`],
//! [`media`]), which appends to the journal and hands the acknowledgement to its lane ([`acks`]). The
//! identification is published from RAM before the journal is touched. A message is acknowledged, in the
//! order of arrival, only once its record is durable and its answer settled.
//!
//! Crash story: nothing here is durable. What was not acknowledged is delivered again; what was appended
//! already is recognised by its id, answered as replayed, and counted as a duplicate.
//!
//! Any failure of the store ends the task that met it, and with it the daemon ([`PipelineHandle::ended`]).

mod acks;
mod counters;
mod crew;
mod events;
mod lines;
mod media;
mod rate;
mod refuse;
mod search;
mod status;
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
use crew::Crew;
use events::Events;
use gatehouse_mqtt::{
    Budget, Delivery, Input, InputSettings, LinkState, Links, Phase, Publisher, PublisherTask, StatusMessage,
};
use media::MediaFiles;
use refuse::Refuser;
use search::Search;
use status::StatusTask;
use thread::EventThread;

/// Payload bytes of events under way: a hundred of the largest, far more of usual ones.
const EVENT_BYTES_IN_FLIGHT: usize = 32 * 1024 * 1024;

/// Payload bytes of media files under way: two of the largest at the default bound. Beside both budgets each
/// input holds at most one message that it has read and that waits for room.
const MEDIA_BYTES_IN_FLIGHT: usize = 32 * 1024 * 1024;

/// Messages of one input under way: two group commits, so that one can fill while the other is written.
const MESSAGES_IN_FLIGHT: usize = 2000;

/// Names of the tasks, for waiting and for the log.
const READERS: [&str; 4] = ["events", "event acks", "media", "media acks"];
const CLIENTS: [&str; 3] = ["event input", "media input", "publisher"];

/// The running pipeline.
pub struct PipelineHandle {
    events: StoredEvents,
    upkeep: Upkeep,
    crew: Crew,
    /// After the crew, so that its tasks are cut off first.
    _thread: EventThread,
    phase: watch::Sender<Phase>,
    probes: mpsc::Sender<oneshot::Sender<()>>,
    counters: Arc<Counters>,
    budgets: [Budget; 2],
    links: [LinkState; 3],
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

/// Starts the pipeline: events on a thread of their own, media on the current runtime. It needs no broker to start: it
/// connects when there is one.
///
/// # Errors
/// Where the system gives no thread.
pub fn start(config: &Config, store: &Store) -> io::Result<PipelineHandle> {
    let thread = EventThread::start()?;
    let config = Arc::new(config.clone());
    let counters = Arc::new(Counters::default());
    let sources = Arc::new(Sources::new(&config));
    let budgets =
        [EVENT_BYTES_IN_FLIGHT, MEDIA_BYTES_IN_FLIGHT].map(|bytes| Budget::new(bytes, MESSAGES_IN_FLIGHT));
    let links = [LinkState::default(), LinkState::default(), LinkState::default()];
    let phase = watch::Sender::new(Phase::Run);
    let status = watch::Sender::new(StatusMessage::offline(&config.device.id));
    let crew = Crew::default();

    let (on_events, here) = (thread.handle(), Handle::current());

    let (publisher, task) = PublisherTask::new(
        config.clone(),
        counters.answers.clone(),
        links[2].clone(),
        status.subscribe(),
        phase.subscribe(),
    );
    crew.spawn(on_events, "publisher", task.run());
    let task = StatusTask::new(
        store.feed.clone(),
        store.upkeep.clone(),
        links[0].subscribe(),
        status,
        phase.subscribe(),
    );
    crew.spawn(&here, "status", task.run());

    let shared = Shared {
        config,
        events: store.events.clone(),
        galleries: store.galleries.clone(),
        media: store.media.clone(),
        sources,
        counters: counters.clone(),
        publisher,
    };
    let input = |settings, place: usize| {
        let (out, inbox) = mpsc::unbounded_channel();
        let (budget, link) = (budgets[place].clone(), links[place].clone());
        (Input::new(shared.config.clone(), settings, budget, link, phase.subscribe(), out), inbox)
    };
    let root = &shared.config.mqtt.topic_root;
    let (events, event_inbox) = input(
        InputSettings {
            name: "events",
            suffix: "",
            filters: shared.sources.event_filters(),
            marker: Some(format!("{root}/status")),
        },
        0,
    );
    let filters = shared.sources.media_filters();
    let (media, media_inbox) =
        input(InputSettings { name: "media", suffix: "-media", filters, marker: None }, 1);
    let probes = start_readers(&crew, on_events, &shared, event_inbox, media_inbox);
    crew.spawn(on_events, "event input", events.run());
    crew.spawn(&here, "media input", media.run());
    let (stored, upkeep) = (store.events.clone(), store.upkeep.clone());
    Ok(PipelineHandle {
        events: stored,
        upkeep,
        crew,
        _thread: thread,
        phase,
        probes,
        counters,
        budgets,
        links,
    })
}

fn start_readers(
    crew: &Crew,
    on_events: &Handle,
    shared: &Shared,
    events: mpsc::UnboundedReceiver<Delivery>,
    media: mpsc::UnboundedReceiver<Delivery>,
) -> mpsc::Sender<oneshot::Sender<()>> {
    let (probes, probed) = mpsc::channel(1);
    let (refuser, here) = (Refuser::new(shared), Handle::current());
    let (lane, acks) = AckLane::new();
    crew.spawn_fallible(on_events, "event acks", acks.run());
    let search = Search::start(shared.galleries.clone());
    let events = Events::new(shared, refuser.clone(), search, lane, events, probed);
    crew.spawn_fallible(on_events, "events", events.run());
    let (lane, acks) = AckLane::new();
    crew.spawn_fallible(&here, "media acks", acks.run());
    crew.spawn_fallible(&here, "media", MediaFiles::new(shared, refuser, lane, media).run());
    probes
}

impl PipelineHandle {
    /// Goes through the task of the events and through the journal's writer and back: a sign that both move. So is that
    /// they wait for room on a full disk.
    ///
    /// # Errors
    /// [`StoreError`] where the journal has failed or the task has ended.
    pub async fn probe(&self) -> Result<(), StoreError> {
        tokio::select! {
            moved = self.go_through() => moved,
            // To wait for room on the disk is what has to be done then; a restart would make none.
            () = self.upkeep.waits_for_space() => Ok(()),
        }
    }

    async fn go_through(&self) -> Result<(), StoreError> {
        let (sender, answer) = oneshot::channel();
        self.probes.send(sender).await.map_err(|_| StoreError::Stopping)?;
        answer.await.map_err(|_| StoreError::Stopping)?;
        self.events.ping().await
    }

    /// Numbers for status and doctor.
    pub fn stats(&self) -> PipelineStats {
        let links = self.links();
        let sum = |of: fn(&Budget) -> u64| self.budgets.iter().map(of).sum();
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
        let [events, media, answers] = &self.links;
        Links { events: events.get(), media: media.get(), answers: answers.get() }
    }

    /// Waits until a task ends although nobody asked; its name. Then the daemon has to end.
    pub async fn ended(&self) -> &'static str {
        self.crew.first_ended().await
    }

    /// Takes no new messages, finishes and acknowledges those under way, says goodbye to the broker. Whatever
    /// is not done by `deadline` is cut off: the broker delivers it again. True when everything was done.
    pub async fn drain(&self, deadline: Duration) -> bool {
        let all = async {
            self.phase.send_replace(Phase::Finish);
            self.crew.all_ended(&READERS).await;
            self.phase.send_replace(Phase::Disconnect);
            self.crew.all_ended(&CLIENTS).await;
        };
        let done = tokio::time::timeout(deadline, all).await.is_ok();
        self.crew.abort();
        if done {
            info!("pipeline drained");
        } else {
            let stats = self.stats();
            warn!(
                messages = stats.in_flight_messages,
                "pipeline cut off; the broker delivers the rest again"
            );
        }
        done
    }
}
