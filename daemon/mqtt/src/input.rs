//! Takes messages from the broker: a persistent session, acknowledged by hand, back again after every
//! failure.
//!
//! Crash story: the broker keeps what was not acknowledged and sends it again on the next connection,
//! whichever side crashed. Acknowledgements belong to a connection: [`AckToken`] holds the way into its
//! queue, and with the connection gone an acknowledgement goes nowhere.
//!
//! Flow: one message at most is read that has no room in the [`Budget`] yet; until it has, nothing more is
//! read and TCP holds the broker back. Acknowledgements are written all the while, and make room.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gatehouse_config::Config;
use gatehouse_model::Timestamp;
use rumqttc::v5::mqttbytes::v5::Publish;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tracing::{error, info};

use crate::backoff::Backoff;
use crate::budget::{Admission, Budget};
use crate::freshness::{Freshness, Waited};
use crate::link::LinkState;
use crate::moment::Moment;
use crate::options;
use crate::session::{Heard, Session, SessionError, Stashed, proofs};
use crate::wire::Wire;
use crate::{Phase, reached};

/// Largest packet taken from a broker that ignores the announced maximum: better to read it and refuse it
/// than to get it again on every connection.
const PACKET_CEILING: usize = 64 * 1024 * 1024;

/// Messages that are taken without a look at anything else: what one read brings, and not so many that
/// acknowledgements wait.
const HEARD_AT_ONCE: usize = 128;

/// The acknowledgement of one message, on the connection that delivered it.
#[derive(Debug)]
pub struct AckToken {
    pub(crate) queue: mpsc::UnboundedSender<Ack>,
    pub(crate) ack: Ack,
}

/// An acknowledgement on its way; its message counts as under way until it is written.
#[derive(Debug)]
pub(crate) struct Ack {
    /// None for QoS 0, which has none.
    pub(crate) packet: Option<u16>,
    pub(crate) _message: OwnedSemaphorePermit,
}

impl AckToken {
    /// Acknowledges. Never waits. With the connection gone it goes nowhere, and the broker delivers again.
    pub fn send(self) {
        let _ = self.queue.send(self.ack);
    }
}

/// A message and what belongs to it.
#[derive(Debug)]
pub struct Delivery {
    /// The topic it was published to.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// The broker says that it delivers again.
    pub dup: bool,
    /// The broker had retained it.
    pub retained: bool,
    /// Own status that came back: only to be acknowledged in its turn.
    pub marker: bool,
    /// When it was read.
    pub received: Instant,
    /// The same by the wall clock.
    pub received_at: Timestamp,
    /// How long it may have waited before it was read.
    pub waited: Waited,
    /// Its acknowledgement.
    pub ack: AckToken,
    /// Its share of the budget, dropped with the payload.
    pub bytes: OwnedSemaphorePermit,
}

/// What makes one input another.
#[derive(Debug, Clone)]
pub struct InputSettings {
    /// For the log.
    pub name: &'static str,
    /// Put after the client id.
    pub suffix: &'static str,
    /// Topic filters.
    pub filters: Vec<String>,
    /// Topic of a retained message that the broker sends after the backlog (see [`Freshness`]).
    pub marker: Option<String>,
}

/// The task.
pub struct Input {
    config: Arc<Config>,
    settings: InputSettings,
    budget: Budget,
    link: LinkState,
    phase: watch::Receiver<Phase>,
    out: Option<mpsc::UnboundedSender<Delivery>>,
    freshness: Freshness,
    packet_max: u32,
}

/// What happens next.
enum Step {
    Acknowledge(Ack),
    Admit(Option<Admission>),
    Hear(Heard),
    Prove,
    Phase,
}

impl Input {
    /// An input that hands its messages to `out`; their number is bounded by the budget.
    pub fn new(
        config: Arc<Config>,
        settings: InputSettings,
        budget: Budget,
        link: LinkState,
        phase: watch::Receiver<Phase>,
        out: mpsc::UnboundedSender<Delivery>,
    ) -> Self {
        let packet_max = options::packet_max(&config);
        let freshness = Freshness::new(settings.marker.is_some());
        Self { config, settings, budget, link, phase, out: Some(out), freshness, packet_max }
    }

    /// Takes messages until the phase is [`Phase::Disconnect`].
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        let client = self.settings.name;
        loop {
            let began = Instant::now();
            match self.connection().await {
                Ok(()) => return self.link.down(client, None),
                Err(failure) => {
                    self.learn(&failure);
                    self.link.down(client, Some(failure.to_string()));
                }
            }
            let pause = tokio::time::sleep(backoff.next(began.elapsed()));
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    Ok(()) = self.phase.changed() => if self.phase_now() == Phase::Disconnect { return },
                }
            }
        }
    }

    /// The phase; from [`Phase::Finish`] on nothing is handed on, and the pipeline sees the end of its queue.
    fn phase_now(&mut self) -> Phase {
        let phase = *self.phase.borrow_and_update();
        if phase > Phase::Run {
            self.out = None;
        }
        phase
    }

    fn learn(&mut self, failure: &SessionError) {
        if let Some(bytes) = failure.oversize().filter(|bytes| *bytes <= PACKET_CEILING) {
            self.packet_max = self.packet_max.max(u32::try_from(bytes).unwrap_or(u32::MAX));
            error!(bytes, "the broker ignores the announced maximum packet size; taking it to refuse it");
        }
    }

    /// One connection from its begin to its end; an end in order is asked for.
    async fn connection(&mut self) -> Result<(), SessionError> {
        let (config, suffix, packet_max) = (self.config.clone(), self.settings.suffix, self.packet_max);
        let door = tokio::task::spawn_blocking(move || options::input(&config, suffix, packet_max)).await;
        let Ok(door) = door else { return Ok(()) };
        let door = door?;
        let (wire, answer) = tokio::select! {
            opened = Wire::open(door) => opened?,
            () = reached(&mut self.phase, Phase::Disconnect) => return Ok(()),
        };
        self.freshness.connected(answer.session_present, Moment::now());
        let keep_alive = answer.properties.and_then(|properties| properties.server_keep_alive);
        let (mut proofs, keep_alive) = proofs(keep_alive, self.settings.marker.is_some());
        let mut session = Session::begin(wire, &self.settings).await?;
        // Unbounded by itself: each belongs to a message under way, and those are bounded by the budget.
        let (queue, mut acks) = mpsc::unbounded_channel();
        loop {
            let phase = self.phase_now();
            if phase == Phase::Disconnect {
                return session.end(&mut acks).await;
            }
            if phase > Phase::Run {
                // The broker keeps what is not acknowledged.
                session.stash = None;
            }
            let reading = phase == Phase::Run && session.stash.is_none();
            let size = session.stashed();
            let step = tokio::select! {
                biased;
                Ok(()) = self.phase.changed() => Step::Phase,
                Some(ack) = acks.recv() => Step::Acknowledge(ack),
                _ = proofs.tick() => Step::Prove,
                admission = self.budget.admit(size.unwrap_or(0)), if size.is_some() => Step::Admit(admission),
                heard = session.hear(), if reading => Step::Hear(heard?),
            };
            match step {
                Step::Acknowledge(ack) => {
                    let messages = session.acknowledge(ack, &mut acks).await?;
                    self.freshness.acknowledged(messages);
                }
                Step::Admit(admission) => self.hand_on(&mut session, admission, &queue),
                Step::Hear(heard) => self.take(&mut session, heard, &queue)?,
                Step::Prove => {
                    let due = self.freshness.due(Moment::now(), keep_alive);
                    session.prove(due, reading).await?;
                }
                Step::Phase => {}
            }
        }
    }

    /// Takes what was heard and what came with it, for as long as there is room.
    fn take(
        &mut self,
        session: &mut Session,
        first: Heard,
        queue: &mpsc::UnboundedSender<Ack>,
    ) -> Result<(), SessionError> {
        self.heard(session, first);
        for _ in 1..HEARD_AT_ONCE {
            if let Some(bytes) = session.stashed() {
                let admission = self.budget.try_admit(bytes);
                if admission.is_none() {
                    break;
                }
                self.hand_on(session, admission, queue);
            }
            match session.hear_now()? {
                Some(heard) => self.heard(session, heard),
                None => break,
            }
        }
        Ok(())
    }

    fn heard(&mut self, session: &mut Session, heard: Heard) {
        match heard {
            Heard::Message(packet) => self.stash(session, packet),
            Heard::Subscribed => {
                self.link.up();
                info!(client = self.settings.name, "connected to the broker and subscribed");
            }
            Heard::Pong => self.freshness.ping_answered(Moment::now()),
            Heard::Other => {}
        }
    }

    fn stash(&mut self, session: &mut Session, packet: Publish) {
        let marker = self.settings.marker.as_ref().is_some_and(|topic| packet.topic == topic.as_bytes());
        // Copies for an earlier subscription may stand in the middle of the backlog.
        let is_current = marker && session.is_of_marker(&packet);
        self.freshness.message_read(is_current);
        if is_current {
            self.freshness.marker_arrived();
        }
        let (received, received_at) = (Instant::now(), Timestamp::now());
        let waited = self.freshness.waited(Moment::now());
        session.stash = Some(Stashed { packet, marker, received, received_at, waited });
    }

    fn hand_on(
        &self,
        session: &mut Session,
        admission: Option<Admission>,
        queue: &mpsc::UnboundedSender<Ack>,
    ) {
        let (Some(Admission { bytes, message }), Some(stashed)) = (admission, session.stash.take()) else {
            return;
        };
        session.silent_since = Instant::now();
        let Stashed { packet, marker, received, received_at, waited } = stashed;
        let ack = Ack { packet: (packet.pkid != 0).then_some(packet.pkid), _message: message };
        let delivery = Delivery {
            topic: String::from_utf8_lossy(&packet.topic).into_owned(),
            payload: packet.payload,
            dup: packet.dup,
            retained: packet.retain,
            marker,
            received,
            received_at,
            waited,
            ack: AckToken { queue: queue.clone(), ack },
            bytes,
        };
        if let Some(out) = &self.out {
            // Where the pipeline has ended the daemon is ending: the broker keeps the message.
            let _ = out.send(delivery);
        }
    }
}
