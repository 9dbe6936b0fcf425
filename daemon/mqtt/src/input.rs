//! Reads messages from the broker on a persistent session with manual acknowledgements. Reconnects after every failure.
//!
//! After a crash of either side the broker sends unacknowledged messages again on the next connection. An acknowledgement
//! belongs to one connection: [`AckToken`] contains the sender of its queue. After the connection ends, it has no effect.
//!
//! At most one message is read that the [`Budget`] does not admit yet. Until it is admitted nothing more is read, and TCP
//! slows the broker down. Acknowledgements are written meanwhile and free the budget.

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
use crate::session::{Received, Session, SessionError, Stashed, proofs};
use crate::wire::Wire;
use crate::{Phase, reached};

/// Largest packet accepted from a broker that ignores the announced maximum. It is read and refused, because otherwise it
/// would break every connection again.
const PACKET_CEILING: usize = 64 * 1024 * 1024;

/// Packets that are handled before anything else runs: about what one read returns, and few enough that acknowledgements do
/// not wait.
const PACKETS_AT_ONCE: usize = 128;

/// The acknowledgement of one message, on the connection that delivered it.
#[derive(Debug)]
pub struct AckToken {
    pub(crate) queue: mpsc::UnboundedSender<Ack>,
    pub(crate) ack: Ack,
}

/// A queued acknowledgement. Its message is in progress until it is written.
#[derive(Debug)]
pub(crate) struct Ack {
    /// None for QoS 0.
    pub(crate) packet: Option<u16>,
    pub(crate) _message: OwnedSemaphorePermit,
}

impl AckToken {
    /// Acknowledges without waiting. After the connection ended it has no effect, and the broker delivers again.
    pub fn send(self) {
        let _ = self.queue.send(self.ack);
    }
}

/// A message with its acknowledgement and its share of the budget.
#[derive(Debug)]
pub struct Delivery {
    /// The topic it was published to.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// The broker marked it as delivered again.
    pub dup: bool,
    /// The broker had retained it.
    pub retained: bool,
    /// A copy of the own status, which is only acknowledged in order.
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

/// The settings of one input.
#[derive(Debug, Clone)]
pub struct InputSettings {
    /// For the log.
    pub name: &'static str,
    /// Suffix of the client id.
    pub suffix: &'static str,
    /// Topic filters.
    pub filters: Vec<String>,
    /// Topic of a retained message that the broker sends after the backlog (see [`Freshness`]).
    pub marker: Option<String>,
}

/// What connects an input with the rest of the program.
#[derive(Debug)]
pub struct InputChannels {
    /// Bounds what the input reads.
    pub budget: Budget,
    /// The state of its connection.
    pub link: LinkState,
    /// When it ends.
    pub phase: watch::Receiver<Phase>,
    /// Its messages. The budget bounds their number.
    pub out: mpsc::UnboundedSender<Delivery>,
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

/// The next action.
enum Step {
    Acknowledge(Ack),
    Admit(Option<Admission>),
    Received(Received),
    Prove,
    Phase,
}

impl Input {
    /// An input that is not connected yet.
    pub fn new(config: Arc<Config>, settings: InputSettings, channels: InputChannels) -> Self {
        let InputChannels { budget, link, phase, out } = channels;
        let packet_max = options::packet_max(&config);
        let freshness = Freshness::new(settings.marker.is_some());
        Self { config, settings, budget, link, phase, out: Some(out), freshness, packet_max }
    }

    /// Reads messages until the phase is [`Phase::Disconnect`].
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

    /// The current phase. From [`Phase::Finish`] on no message is delivered, and the queue of the pipeline is closed.
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
            error!(
                bytes,
                "the broker ignores the announced maximum packet size; the packet is read and refused"
            );
        }
    }

    /// One connection from start to end. Returns `Ok` only after an orderly shutdown.
    async fn connection(&mut self) -> Result<(), SessionError> {
        let (config, suffix, packet_max) = (self.config.clone(), self.settings.suffix, self.packet_max);
        let options = tokio::task::spawn_blocking(move || options::input(&config, suffix, packet_max)).await;
        let Ok(options) = options else { return Ok(()) };
        let options = options?;
        let (wire, answer) = tokio::select! {
            opened = Wire::open(options) => opened?,
            () = reached(&mut self.phase, Phase::Disconnect) => return Ok(()),
        };
        self.freshness.connected(answer.session_present, Moment::now());
        let keep_alive = answer.properties.and_then(|properties| properties.server_keep_alive);
        let (mut proofs, keep_alive) = proofs(keep_alive, self.settings.marker.is_some());
        let mut session = Session::begin(wire, &self.settings).await?;
        // Unbounded: each entry belongs to a message in progress, and the budget bounds those.
        let (queue, mut acks) = mpsc::unbounded_channel();
        loop {
            let phase = self.phase_now();
            if phase == Phase::Disconnect {
                return session.end(&mut acks).await;
            }
            if phase > Phase::Run {
                // The broker keeps unacknowledged messages.
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
                received = session.receive(), if reading => Step::Received(received?),
            };
            match step {
                Step::Acknowledge(ack) => {
                    let messages = session.acknowledge(ack, &mut acks).await?;
                    self.freshness.acknowledged(messages);
                }
                Step::Admit(admission) => self.hand_on(&mut session, admission, &queue),
                Step::Received(received) => self.take(&mut session, received, &queue)?,
                Step::Prove => {
                    let due = self.freshness.due(Moment::now(), keep_alive);
                    session.prove(due, reading).await?;
                }
                Step::Phase => {}
            }
        }
    }

    /// Takes what was received and what came with it, for as long as the budget has space.
    fn take(
        &mut self,
        session: &mut Session,
        first: Received,
        queue: &mpsc::UnboundedSender<Ack>,
    ) -> Result<(), SessionError> {
        self.handle(session, first);
        for _ in 1..PACKETS_AT_ONCE {
            if let Some(bytes) = session.stashed() {
                let admission = self.budget.try_admit(bytes);
                if admission.is_none() {
                    break;
                }
                self.hand_on(session, admission, queue);
            }
            match session.receive_now()? {
                Some(received) => self.handle(session, received),
                None => break,
            }
        }
        Ok(())
    }

    fn handle(&mut self, session: &mut Session, received: Received) {
        match received {
            Received::Message(packet) => self.stash(session, packet),
            Received::Subscribed => {
                self.link.up();
                info!(client = self.settings.name, "connected to the broker and subscribed");
            }
            Received::Pong => self.freshness.ping_answered(Moment::now()),
            Received::Other => {}
        }
    }

    fn stash(&mut self, session: &mut Session, packet: Publish) {
        let marker = self.settings.marker.as_ref().is_some_and(|topic| packet.topic == topic.as_bytes());
        // Copies for an earlier subscription may be in the middle of the backlog.
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
            // After the end of the pipeline the broker keeps the message.
            let _ = out.send(delivery);
        }
    }
}
