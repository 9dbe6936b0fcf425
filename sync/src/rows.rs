//! The rows sink: events, file records and erasures to central Postgres.
//!
//! The journal is the queue and the central cursor is the truth: on every connect the sink goes on after it, whatever
//! the local cursor says. Locally the cursor is moved last, only so that the appliance knows what it may forget.
//! Crash story: before COMMIT nothing happened; after COMMIT and before the local cursor, the next connect finds the
//! central cursor ahead of the local one and moves the local one. A batch sent twice is left out the second time.

mod batch;
mod batch_size;
pub(crate) mod conflicts;
mod copy;
mod erase;
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

use crate::rows::batch_size::BatchSize;
use crate::sink::{Outlet, Progress};

/// Journal records without interest for the central side after which the cursor is moved all the same. Without it a
/// restart would read them again; at every record, the sink's own records would keep it awake for ever.
const QUIET_RECORDS: u64 = 4096;

/// Most erasures that are told before a batch.
const ERASURES_AT_ONCE: usize = 100;

/// How often an open session says that the appliance is there, and what waits: often enough to see today that a house
/// has gone silent, and three updates a second for a thousand houses.
const ANNOUNCE: Duration = Duration::from_secs(300);

/// The sink.
pub(crate) struct RowSink {
    rows: Rows,
    identity: Identity,
    feed: Feed,
    people: People,
    events: Events,
    /// Changes read at once; at most `sync.batch_events`.
    batch_size: BatchSize,
    throttle: Arc<Throttle>,
    session: Option<Session>,
}

/// What is gone after an error.
struct Session {
    writer: Writer,
    /// How far the journal was read; past the cursor where nothing of interest came.
    after: Position,
    /// Read ahead while the batch before was written.
    ahead: Option<Portion>,
    /// Whether people may have changed at the central side.
    people_due: bool,
    /// What is to be told with the next progress.
    set_aside: Vec<String>,
    /// Delivered, and not yet noted here: done while the next batch is on its way.
    owed: Option<Position>,
    /// When it said last that the appliance is there.
    announced: Instant,
    /// Journal position up to which erasures were told out of their turn.
    erased: u64,
}

/// What was read at once.
struct Portion {
    changes: Vec<Change>,
    /// Whether more may follow.
    full: bool,
}

impl RowSink {
    /// No IO happens here.
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
        self.same_past(&writer).await?;
        // Before the first batch: what waited for a clock is delivered right.
        self.learn_time(&writer).await?;
        writer.announce(self.waiting()).await?;
        let ours = self.feed.rows_cursor().lsn;
        if ours > theirs.lsn {
            let theirs = theirs.lsn;
            tracing::warn!(
                ours,
                theirs,
                "the database is older than what was delivered: sent again from its cursor"
            );
        }
        self.moved(theirs).await?;
        let set_aside = writer.share_people(&self.people).await?.into_iter().collect();
        let announced = Instant::now();
        Ok(Session {
            writer,
            after: theirs,
            ahead: None,
            owed: None,
            announced,
            people_due: true,
            set_aside,
            erased: theirs.lsn,
        })
    }

    /// The event at the central cursor must be ours: an old copy of the state directory that went on by itself has
    /// another event under that number.
    async fn same_past(&self, writer: &Writer) -> Result<(), SyncError> {
        const DOING: &str = "read the journal";
        let Some(theirs) = writer.last_event() else { return Ok(()) };
        let (events, seq) = (self.events.clone(), writer.cursor().seq);
        let read = tokio::task::spawn_blocking(move || events.numbered(seq)).await;
        // An event that was damaged or removed meanwhile can say nothing.
        let Some(ours) = read.map_err(SyncError::store(DOING))?.map_err(SyncError::store(DOING))? else {
            return Ok(());
        };
        if theirs.is(&ours) { Ok(()) } else { Err(GuardFault::Diverged { seq }.into()) }
    }

    /// Where nothing else keeps the clock of the appliance right, the server's does.
    async fn learn_time(&self, writer: &Writer) -> Result<(), SyncError> {
        match writer.time().await? {
            Some(truth) => {
                self.events.learn_time(truth).await.map(drop).map_err(SyncError::store("note the time"))
            }
            None => Ok(()),
        }
    }

    fn waiting(&self) -> Waiting {
        let backlog = self.feed.backlog();
        let oldest = backlog.oldest.filter(|_| backlog.events > 0);
        Waiting { events: backlog.events, files: backlog.media, oldest }
    }

    /// Says that the appliance is there, where it is time; tells when it is time again.
    async fn announce(&self, session: &mut Session) -> Result<Duration, SyncError> {
        if session.announced.elapsed() >= ANNOUNCE {
            self.learn_time(&session.writer).await?;
            session.writer.announce(self.waiting()).await?;
            session.announced = Instant::now();
        }
        Ok(ANNOUNCE.saturating_sub(session.announced.elapsed()))
    }

    /// Tells the store; it never goes back.
    async fn moved(&self, upto: Position) -> Result<(), SyncError> {
        self.feed.rows_delivered(upto).await.map_err(SyncError::store("move the local cursor"))
    }

    /// Notes what is owed.
    async fn settle(&self, session: &mut Session) -> Result<(), SyncError> {
        match session.owed.take() {
            Some(owed) => self.moved(owed).await,
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

    /// Up, then down: what came about here is merged before what came about elsewhere is taken in.
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

    /// Whoever is to be forgotten does not wait behind a backlog: what would not come with the next batch is told now, and
    /// again in its turn, where it counts for nothing. What was read ahead may still name the person and is read anew; what
    /// is read from now on does not, and what was delivered before is scrubbed.
    async fn erase_first(&self, session: &mut Session) -> Result<(), SyncError> {
        let (feed, batch_size) = (self.feed.clone(), self.batch_size.get());
        let behind = session.erased.max(session.writer.cursor().lsn.saturating_add(batch_size as u64));
        let found = tokio::task::spawn_blocking(move || feed.erasures_behind(behind, ERASURES_AT_ONCE)).await;
        let found = found.map_err(SyncError::store("read the journal"))?;
        let found = found.map_err(SyncError::store("read the journal"))?;
        let Some(last) = found.last().map(Change::position) else { return Ok(()) };
        session.ahead = None;
        session.writer.erase(&found).await?;
        session.erased = last.lsn;
        Ok(())
    }

    async fn push_rows(&self, session: &mut Session) -> Result<Progress, SyncError> {
        self.erase_first(session).await?;
        let Portion { changes, full } = match session.ahead.take() {
            Some(portion) => portion,
            None => self.read(session.after).await?,
        };
        let Some(last) = changes.last().map(Change::position) else {
            self.settle(session).await?;
            return Ok(Progress::default());
        };
        let quiet = changes.iter().all(|change| matches!(change, Change::Nothing { .. }));
        // A jump of the number hides a loss, which is delivered like an event.
        let jump = last.seq != session.writer.cursor().seq;
        if quiet && !jump && last.lsn - session.writer.cursor().lsn < QUIET_RECORDS {
            session.after = last;
            self.settle(session).await?;
            return Ok(Progress { more: last.lsn < self.feed.watch().borrow().lsn, ..Progress::default() });
        }
        // While one batch is on its way the next one is read, and the one before is noted.
        let owed = session.owed.take();
        let (delivered, ahead, noted) = tokio::join!(
            session.writer.deliver(&changes),
            async { if full { Some(self.read(last).await) } else { None } },
            async { if let Some(owed) = owed { self.moved(owed).await } else { Ok(()) } },
        );
        self.throttle.pay(session.writer.take_sent());
        let delivered = delivered?;
        noted?;
        session.after = session.writer.cursor();
        let whole = delivered.taken == changes.len();
        session.owed = Some(session.after);
        if whole && !full {
            self.settle(session).await?;
        }
        session.ahead = match whole {
            true => ahead.transpose()?,
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

impl Outlet for RowSink {
    async fn push(&mut self) -> Result<Progress, SyncError> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.open().await?,
        };
        let began = Instant::now();
        // A push that is cut off or fails loses the session: the next one asks the database where it stands.
        let pushed = async {
            let again_in = Some(self.announce(&mut session).await?);
            Ok(Progress { again_in, ..self.push_with(&mut session).await? })
        }
        .await;
        match &pushed {
            Ok(progress) => {
                self.session = Some(session);
                // One that was not full says nothing of the line.
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
            // Where nobody can be heard the next push connects anew.
            false => self.session = None,
        }
    }
}
