//! The interface of sync: reads changes, and reports what was delivered.
//!
//! The journal is the only queue, and each sink has a cursor in it. [`Feed::changes`] reads from a position
//! and [`Feed::rows_delivered`] advances the cursor. There is no second queue that could become inconsistent.

use std::sync::Arc;

use gatehouse_journal::{Committed, Position};
use gatehouse_model::{Event, EventKey, Identification, OrderId, Person, Timestamp};
use tokio::sync::watch;

use super::StoreError;
use super::core::{Core, Opened};
use super::people::People;
use super::people::erasure::NOTICE_AD;
use super::people::shared::Shared;
use super::people::statements::ErasureStatement;
use crate::clock::{Clocks, Known, Moment};
use crate::deployment::Reference;
use crate::files::content_type;
use crate::record::{Erasure, ErasureNotice, Media, ObjectPlace, Record, Thumbnail};
use crate::views::entries::{self, FileEntry, Key};

/// Records that one call of [`Feed::changes`] reads at most for each change that it may return.
const RECORDS_PER_CHANGE: usize = 8;

/// Payload bytes after which one call of [`Feed::changes`] stops: a batch of the largest events must fit into
/// RAM twice, since sync reads ahead.
const CHANGE_BYTES_MAX: usize = 4 << 20;

/// A change that must be applied to the central rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A visit.
    Event {
        /// Position in the journal.
        position: Position,
        /// The visit.
        event: Event,
        /// The answer, without people that were erased since.
        identification: Identification<Person>,
        /// When it was received, corrected as far as known now.
        time: Known,
    },
    /// A media file was delivered to the objects sink.
    File {
        /// Position in the journal.
        position: Position,
        /// The file.
        media: Media,
        /// Its object in the central storage.
        place: ObjectPlace,
        /// Its MIME type.
        content_type: &'static str,
        /// Why it cannot be displayed; none for an intact picture and for other files.
        fault: Option<String>,
    },
    /// Thumbnails of a picture were delivered to the objects sink, before the picture itself.
    Thumbnails {
        /// Position in the journal.
        position: Position,
        /// The picture.
        picture: Media,
        /// Its thumbnails.
        thumbnails: Vec<Thumbnail>,
    },
    /// The media files of an event of an erased person are to be removed from the central storage.
    FilesErased {
        /// Position in the journal.
        position: Position,
        /// The event.
        event: EventKey,
    },
    /// A person was erased.
    Erasure {
        /// Position in the journal.
        position: Position,
        /// The order.
        order: OrderId,
        /// The person's id. It is not available afterwards.
        person_id: String,
        /// The reference of a shared person; none where people are not shared.
        reference: Option<Reference>,
        /// When.
        at: Timestamp,
    },
    /// An erasure of a shared person was verified.
    Statement {
        /// Position in the journal.
        position: Position,
        /// What was erased and verified.
        statement: Box<ErasureStatement>,
    },
    /// A shared person is new or has changed: the current state.
    Person {
        /// Position in the journal.
        position: Position,
        /// The person.
        person: Box<Shared>,
    },
    /// Nothing for the central services up to here.
    Nothing {
        /// Position in the journal.
        position: Position,
    },
}

impl Change {
    /// The position of the change in the journal.
    pub fn position(&self) -> Position {
        match self {
            Self::Event { position, .. }
            | Self::File { position, .. }
            | Self::Thumbnails { position, .. }
            | Self::FilesErased { position, .. }
            | Self::Erasure { position, .. }
            | Self::Statement { position, .. }
            | Self::Person { position, .. }
            | Self::Nothing { position } => *position,
        }
    }
}

/// What waits for delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Events that the rows sink has not delivered.
    pub events: u64,
    /// Media files that the objects sink has not delivered.
    pub media: u64,
    /// When the oldest pending event was received.
    pub oldest: Option<Timestamp>,
}

/// Delivery: what sync reads from the journal, and reports back. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    pub(in crate::store) core: Arc<Core>,
    pub(in crate::store) people: People,
}

impl Feed {
    pub(in crate::store) fn new(core: &Arc<Core>, people: &People) -> Self {
        Self { core: Arc::clone(core), people: people.clone() }
    }

    /// Identity of this state directory, created with it and never changed. The central services refuse a
    /// second state directory under the same device id.
    pub fn state_id(&self) -> &str {
        &self.core.state_id
    }

    /// The position of the views; changes with every batch.
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.core.applied.clone()
    }

    /// Returns once all earlier appends are durable and in the views, so that [`Feed::changes`] contains
    /// them.
    ///
    /// # Errors
    /// [`StoreError`] where journal or views have failed.
    pub async fn caught_up(&self) -> Result<(), StoreError> {
        self.core.caught_up().await
    }

    /// What waits for delivery. Blocking.
    pub fn backlog(&self) -> Backlog {
        let (events, media) = {
            let ledger = &self.core.numbers.borrow().totals.ledger;
            (ledger.events.pending(), ledger.files.pending())
        };
        Backlog { events, media, oldest: self.core.oldest_pending() }
    }

    /// How far the rows sink has delivered.
    pub fn rows_cursor(&self) -> Position {
        self.core.rows_cursor()
    }

    /// The changes after a position, oldest first: at most `limit`, or about 4 MiB of them, and never beyond
    /// the position of the views. Ends with [`Change::Nothing`] where only records without a change follow.
    /// Empty where no record follows. Blocking.
    ///
    /// # Errors
    /// [`StoreError`] where the journal cannot be read.
    pub fn changes(&self, after: Position, limit: usize) -> Result<Vec<Change>, StoreError> {
        let applied = *self.core.applied.borrow();
        let mut slot = self.core.follower.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut reader = match slot.take() {
            Some((lsn, reader)) if lsn == after.lsn => reader,
            _ => self.core.journal.reader(after.lsn),
        };
        let clocks = self.core.clocks()?;
        let (mut changes, mut at, mut bytes) = (Vec::new(), after, 0);
        for _ in 0..limit.saturating_mul(RECORDS_PER_CHANGE) {
            if changes.len() == limit || at.lsn >= applied.lsn || bytes >= CHANGE_BYTES_MAX {
                break;
            }
            let Some(committed) = reader.next()? else { break };
            at = committed.position;
            bytes += committed.payload.len();
            changes.extend(self.to_change(&committed, &clocks)?);
        }
        for damage in reader.damaged() {
            tracing::error!(%damage, "the journal is damaged here; delivery continues with the next record");
        }
        *slot = Some((at.lsn, reader));
        if at.lsn > changes.last().map_or(after, Change::position).lsn {
            changes.push(Change::Nothing { position: at });
        }
        Ok(changes)
    }

    /// Erasures after a journal position that are not delivered, oldest first, at most `limit`. Blocking.
    ///
    /// # Errors
    /// [`StoreError`] where views or journal cannot be read.
    pub fn erasures_behind(&self, lsn: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        let (mut erasures, clocks) = (Vec::new(), self.core.clocks()?);
        for entry in self.core.views.scan(vec![entries::ERASURE], false) {
            let number = entries::number_in(&entry?.0).unwrap_or_default();
            if erasures.len() == limit {
                break;
            }
            if number > lsn {
                let committed = self.core.journal.reader(number - 1).next()?;
                let committed = committed.filter(|committed| committed.position.lsn == number);
                erasures.extend(
                    committed.map(|committed| self.to_change(&committed, &clocks)).transpose()?.flatten(),
                );
            }
        }
        Ok(erasures)
    }

    fn to_change(&self, committed: &Committed, clocks: &Clocks) -> Result<Option<Change>, StoreError> {
        let position = committed.position;
        // A damaged payload is not delivered. The log of the next start reports it.
        let Ok(record) = Record::decode(&committed.payload) else { return Ok(None) };
        Ok(match record {
            Record::Event { event, identification, attributes } => {
                let Opened { event, identification } =
                    self.core.open_event(event, identification, attributes);
                let time = clocks.when(Moment::Event(position.seq), event.received_at);
                Some(Change::Event { position, event, identification, time })
            }
            Record::MediaDelivered { id, place, .. } => {
                let fault = self.core.preview(&id)?.fault;
                self.core.views.get(&Key::File(id))?.map(|FileEntry { media, .. }| {
                    let content_type = content_type(media.name.as_str(), &[]);
                    Change::File { position, media, place, content_type, fault }
                })
            }
            Record::Previewed { id, thumbnails, .. } if !thumbnails.is_empty() => {
                let file: Option<FileEntry> = self.core.views.get(&Key::File(id))?;
                file.map(|FileEntry { media: picture, .. }| Change::Thumbnails {
                    position,
                    picture,
                    thumbnails,
                })
            }
            Record::MediaErased { id } => self
                .core
                .views
                .get(&Key::File(id))?
                .map(|FileEntry { media, .. }| Change::FilesErased { position, event: media.event }),
            Record::Erased(Erasure { order, at, notice: Some(notice), .. }) => {
                self.open_notice(&notice).map(|person_id| {
                    let reference = self.core.deployment().map(|key| key.reference(&person_id));
                    Change::Erasure { position, order, person_id, reference, at }
                })
            }
            Record::ErasureVerified { account, .. } => {
                let statement = self.people.statement(position.lsn, account);
                statement.map(|statement| Change::Statement { position, statement: Box::new(statement) })
            }
            // The current state, not that of the record: a person who was erased since is not delivered.
            Record::Profile { person, .. } | Record::Templates { person, replaces: false, .. } => self
                .people
                .shared(&person)
                .map(|person| Change::Person { position, person: Box::new(person) }),
            _ => None,
        })
    }

    fn open_notice(&self, notice: &ErasureNotice) -> Option<String> {
        // The key is destroyed once the erasure is delivered.
        let id = self.core.keys.key(&notice.key).ok()?.open(NOTICE_AD, &notice.sealed).ok()?;
        String::from_utf8(id.to_vec()).ok()
    }

    /// Advances the cursor of the rows sink.
    ///
    /// # Errors
    /// [`StoreError`] where the journal failed.
    pub async fn rows_delivered(&self, upto: Position) -> Result<(), StoreError> {
        if upto.lsn > self.core.rows_cursor().lsn {
            self.core.change(&Record::RowsDelivered { lsn: upto.lsn, seq: upto.seq }).await?;
        }
        Ok(())
    }
}
