//! The rows sink: events, file records and erasures to central Postgres.
//!
//! The journal is the queue, and the central cursor is authoritative: every session continues after it. The local
//! cursor moves last and only says what may be removed locally.
//!
//! After a crash: before COMMIT nothing happened. After COMMIT and before the local cursor moved, the next session
//! finds the central cursor ahead and moves the local one. A batch that is sent twice is skipped the second time.

mod batch;
mod batch_size;
pub(crate) mod conflicts;
mod copy;
mod erase;
mod erasure_statements;
pub(crate) mod json;
mod people_sync;
mod write;

use std::sync::Arc;
use std::time::Duration;

use gatehouse_central::error::{GuardFault, SyncError};
use gatehouse_central::rows::{Identity, Waiting};
use gatehouse_central::throttle::Throttle;
use gatehouse_config::{Config, Rows};
use gatehouse_journal::Position;
use gatehouse_store::Store;
use gatehouse_store::store::{Change, Events, Feed, People};
use tokio::time::Instant;

pub use write::{Delivered, Writer};

use crate::blocking;
use crate::rows::batch_size::BatchSize;
use crate::sink::{Progress, SinkDriver};

/// Number of irrelevant journal records after which the cursor moves anyway. Without it a restart would read them
/// again. Moving at every record would wake the sink by its own records.
const QUIET_RECORDS: u64 = 4096;

/// Maximum number of erasures that are sent before a batch.
const ERASURES_PER_PUSH_MAX: usize = 100;

/// How often an open session reports that the appliance is connected, with its pending items. Often enough to detect a
/// silent appliance on the same day, and only three updates per second for a thousand appliances.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(300);

/// The sink.
pub(crate) struct RowSink {
    rows: Rows,
    identity: Identity,
    feed: Feed,
    people: People,
    events: Events,
    /// Changes per read, at most `sync.batch_events`.
    batch_size: BatchSize,
    throttle: Arc<Throttle>,
    session: Option<Session>,
}

/// State that is dropped after an error.
struct Session {
    writer: Writer,
    /// Position up to which the journal was read. It is past the cursor if the records after it are irrelevant.
    after: Position,
    /// The next portion, read while the previous batch was written.
    prefetched: Option<Portion>,
    /// Whether people may have changed centrally.
    people_due: bool,
    /// Items to report with the next progress.
    set_aside: Vec<String>,
    /// Delivered, but not yet recorded locally. It is recorded while the next batch is sent.
    unconfirmed: Option<Position>,
    /// When the session last reported the appliance.
    announced: Instant,
    /// Journal position up to which erasures were sent ahead of their batch.
    erased_until: u64,
}

/// The result of one read.
struct Portion {
    changes: Vec<Change>,
    /// Whether more may follow.
    full: bool,
}

impl RowSink {
    /// Does no I/O.
    pub(crate) fn new(config: &Config, rows: Rows, store: &Store, throttle: Arc<Throttle>) -> Self {
        let identity = Identity {
            device: config.device.id.clone(),
            site: config.device.site.clone(),
            environment: config.device.environment,
            state_id: store.feed.state_id().to_owned(),
        };
        let batch_size = BatchSize::new(config.sync.batch_events);
        let (feed, people, events) = (store.feed.clone(), store.people.clone(), store.events.clone());
        Self { rows, identity, feed, people, events, batch_size, throttle, session: None }
    }

    async fn open(&self) -> Result<Session, SyncError> {
        let mut writer = Writer::open(&self.rows, self.identity.clone()).await?;
        let theirs = writer.cursor();
        let head = *self.feed.watch().borrow();
        if theirs.lsn > head.lsn || theirs.seq > head.seq {
            return Err(GuardFault::Ahead { theirs: theirs.lsn, ours: head.lsn }.into());
        }
        self.check_history(&writer).await?;
        // Before the first batch, so that events that wait for a reference time are delivered with it.
        self.learn_time(&writer).await?;
        writer.announce(self.waiting().await?).await?;
        let ours = self.feed.rows_cursor().lsn;
        let went_back = ours > theirs.lsn;
        if went_back {
            let theirs = theirs.lsn;
            tracing::warn!(
                ours,
                theirs,
                "the database is older than the delivered records: they are sent again from its cursor"
            );
        }
        self.advance_cursor(theirs).await?;
        if went_back && self.people.deployment().is_some() {
            writer.report_restore(ours).await?;
        }
        let set_aside = writer.share_people(&self.people, &self.feed).await?.into_iter().collect();
        let announced = Instant::now();
        Ok(Session {
            writer,
            after: theirs,
            prefetched: None,
            unconfirmed: None,
            announced,
            people_due: true,
            set_aside,
            erased_until: theirs.lsn,
        })
    }

    /// The event at the central cursor must be an event of this journal. An old copy of the state directory that was
    /// used further has another event under that `seq`.
    async fn check_history(&self, writer: &Writer) -> Result<(), SyncError> {
        const DOING: &str = "read the journal";
        let Some(theirs) = writer.last_event() else { return Ok(()) };
        let (events, seq) = (self.events.clone(), writer.cursor().seq);
        let read = tokio::task::spawn_blocking(move || events.numbered(seq)).await;
        // An event that was damaged or removed meanwhile proves nothing.
        let Some(ours) = read.map_err(SyncError::store(DOING))?.map_err(SyncError::store(DOING))? else {
            return Ok(());
        };
        if theirs.is(&ours) { Ok(()) } else { Err(GuardFault::Diverged { seq }.into()) }
    }

    /// Takes a reference time from the server, if no other source keeps the clock correct.
    async fn learn_time(&self, writer: &Writer) -> Result<(), SyncError> {
        match writer.time().await? {
            Some(reference) => {
                self.events.learn_time(reference).await.map(drop).map_err(SyncError::store("note the time"))
            }
            None => Ok(()),
        }
    }

    async fn waiting(&self) -> Result<Waiting, SyncError> {
        let feed = self.feed.clone();
        // The oldest pending event is read from disk.
        let backlog = blocking("read the backlog", move || feed.backlog()).await?;
        let oldest = backlog.oldest.filter(|_| backlog.events > 0);
        Ok(Waiting { events: backlog.events, files: backlog.media, oldest })
    }

    /// Reports the appliance if it is due. Returns the time until the next report.
    async fn announce(&self, session: &mut Session) -> Result<Duration, SyncError> {
        if session.announced.elapsed() >= ANNOUNCE_INTERVAL {
            self.learn_time(&session.writer).await?;
            session.writer.announce(self.waiting().await?).await?;
            session.announced = Instant::now();
        }
        Ok(ANNOUNCE_INTERVAL.saturating_sub(session.announced.elapsed()))
    }

    /// Moves the local cursor. It never moves backwards.
    async fn advance_cursor(&self, upto: Position) -> Result<(), SyncError> {
        self.feed.rows_delivered(upto).await.map_err(SyncError::store("move the local cursor"))
    }

    /// Records what was delivered and not yet recorded.
    async fn confirm(&self, session: &mut Session) -> Result<(), SyncError> {
        match session.unconfirmed.take() {
            Some(unconfirmed) => self.advance_cursor(unconfirmed).await,
            None => Ok(()),
        }
    }

    async fn read(&self, after: Position) -> Result<Portion, SyncError> {
        let (feed, limit) = (self.feed.clone(), self.batch_size.get());
        let read = tokio::task::spawn_blocking(move || feed.changes(after, limit)).await;
        let read = read.map_err(SyncError::store("read the journal"))?;
        let changes = read.map_err(SyncError::store("read the journal"))?;
        Ok(Portion { full: changes.len() >= limit, changes })
    }

    /// Upload first, then download: local changes are merged before changes of other appliances are applied.
    async fn push_with(&self, session: &mut Session) -> Result<Progress, SyncError> {
        let mut progress = self.push_rows(session).await?;
        if std::mem::take(&mut session.people_due) {
            let taken = session.writer.take_people(&self.people).await?;
            session.people_due = taken.more;
            progress.more |= taken.more;
            progress.taken = taken.people;
            progress.set_aside.extend(taken.set_aside);
        }
        progress.set_aside.append(&mut session.set_aside);
        Ok(progress)
    }

    /// Erasures bypass the backlog: those beyond the next batch are sent first. They are sent again with their batch,
    /// which changes nothing. A prefetched portion may still name the person, so it is read again. Later reads do not,
    /// and delivered events are erased.
    async fn erase_first(&self, session: &mut Session) -> Result<(), SyncError> {
        let (feed, batch_size) = (self.feed.clone(), self.batch_size.get());
        let behind = session.erased_until.max(session.writer.cursor().lsn.saturating_add(batch_size as u64));
        let found =
            tokio::task::spawn_blocking(move || feed.erasures_behind(behind, ERASURES_PER_PUSH_MAX)).await;
        let found = found.map_err(SyncError::store("read the journal"))?;
        let found = found.map_err(SyncError::store("read the journal"))?;
        let Some(last) = found.last().map(Change::position) else { return Ok(()) };
        session.prefetched = None;
        session.writer.erase(&found).await?;
        session.erased_until = last.lsn;
        Ok(())
    }

    async fn push_rows(&self, session: &mut Session) -> Result<Progress, SyncError> {
        self.erase_first(session).await?;
        let Portion { changes, full } = match session.prefetched.take() {
            Some(portion) => portion,
            None => self.read(session.after).await?,
        };
        let Some(last) = changes.last().map(Change::position) else {
            self.confirm(session).await?;
            return Ok(Progress::default());
        };
        let quiet = changes.iter().all(|change| matches!(change, Change::Nothing { .. }));
        // A gap in `seq` is a loss, which is delivered like an event.
        let jump = last.seq != session.writer.cursor().seq;
        if quiet && !jump && last.lsn - session.writer.cursor().lsn < QUIET_RECORDS {
            session.after = last;
            self.confirm(session).await?;
            return Ok(Progress { more: last.lsn < self.feed.watch().borrow().lsn, ..Progress::default() });
        }
        // While one batch is sent, the next one is read and the previous one is recorded.
        let unconfirmed = session.unconfirmed.take();
        let (delivered, prefetched, noted) = tokio::join!(
            session.writer.deliver(&changes),
            async { if full { Some(self.read(last).await) } else { None } },
            async {
                if let Some(unconfirmed) = unconfirmed {
                    self.advance_cursor(unconfirmed).await
                } else {
                    Ok(())
                }
            },
        );
        self.throttle.pay(session.writer.take_sent());
        let delivered = delivered?;
        noted?;
        session.after = session.writer.cursor();
        let whole = delivered.taken == changes.len();
        session.unconfirmed = Some(session.after);
        if whole && !full {
            self.confirm(session).await?;
        }
        session.prefetched = match whole {
            true => prefetched.transpose()?,
            false => Some(Portion { changes: changes[delivered.taken..].to_vec(), full }),
        };
        Ok(Progress {
            delivered: delivered.events,
            more: full || !whole,
            set_aside: delivered.set_aside,
            ..Progress::default()
        })
    }
}

impl SinkDriver for RowSink {
    async fn push(&mut self) -> Result<Progress, SyncError> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.open().await?,
        };
        let began = Instant::now();
        // An interrupted or failed push drops the session. The next one reads the central cursor again.
        let pushed = async {
            let again_in = Some(self.announce(&mut session).await?);
            Ok(Progress { again_in, ..self.push_with(&mut session).await? })
        }
        .await;
        match &pushed {
            Ok(progress) => {
                self.session = Some(session);
                // A batch that was not full does not measure the connection.
                if progress.more {
                    self.batch_size.arrived(began.elapsed());
                }
            }
            Err(error) => self.batch_size.failed(error),
        }
        pushed
    }

    fn reset(&mut self) {
        self.session = None;
    }

    async fn woken(&mut self) {
        let Some(session) = &mut self.session else { return std::future::pending().await };
        match session.writer.people_changed().await {
            true => session.people_due = true,
            // Without notifications the next push must reconnect.
            false => self.session = None,
        }
    }
}
