//! How long the appliance keeps what it has: whole segments of the journal with their keys, and pictures.
//!
//! A segment goes only with all before it, so that the journal stays one piece; a snapshot is durable before. What the
//! central side does not have goes only where the policy says so, and is a line in the ledger before it is gone; never
//! while the time is not known, nor while the central side has not heard of an erasure that lies there. Ages are
//! what is certain of them ([`crate::clock`]): a clock that jumps makes nothing older.

use std::sync::Arc;
use std::time::Duration;

use gatehouse_journal::Position;
use gatehouse_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::StoreError;
use super::super::core::blocking;
use super::super::events::clock::Ages;
use super::Upkeep;
use crate::clock::Moment;
use crate::record::Record;
use crate::views::entries::{self, FileEntry};

/// Segments that are worth a snapshot, as long as there is room on the disk.
const SEGMENTS_WORTH: usize = 4;
/// Why something is dropped, in the ledger.
const TOO_OLD: &str = "retention";
/// The same, where nothing else makes room.
pub(in crate::store) const DISK_FULL: &str = "disk_full";

/// How long what is kept, counted from its arrival here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Events, once the central side has them.
    pub delivered: Duration,
    /// Pictures and clips, once it has them.
    pub media: Duration,
    /// Both where it has them not; none: for ever.
    pub undelivered: Option<Duration>,
    /// People who are not at the door, from their last visit or change on; none: for ever.
    pub people: Option<Duration>,
    /// Whether the wall clock can be believed; where it cannot, and nobody told the time in this boot, nothing goes
    /// that is not delivered.
    pub clock_is_set: bool,
}

/// What went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Retained {
    /// Segments of the journal.
    pub segments: usize,
    /// Events in them that were not delivered.
    pub events_dropped: u64,
    /// Pictures and clips that were delivered.
    pub files_evicted: u64,
    /// Those that were not.
    pub files_dropped: u64,
    /// People who had not been at the door for long, erased.
    pub people_erased: usize,
}

/// What went of the journal.
#[derive(Default)]
struct Forgotten {
    segments: usize,
    events_dropped: u64,
}

/// The end of what may go.
struct Ripe {
    /// First record of the segment that stays.
    stays: u64,
    /// Number of the last event before it.
    seq: u64,
    segments: usize,
}

/// What is asked of a segment.
enum Age {
    Old,
    Young,
    /// No event in it tells a time that can be believed; it is as old as what follows.
    Unknown,
}

impl Upkeep {
    /// Lets go what has been kept long enough.
    ///
    /// # Errors
    /// [`StoreError`] where journal, views or disk failed; what was not done is done by the next call.
    pub async fn retain(&self, policy: &RetentionPolicy) -> Result<Retained, StoreError> {
        let ages = Arc::new(Ages::read(&self.core)?);
        let policy = RetentionPolicy { clock_is_set: policy.clock_is_set || ages.has_reference(), ..*policy };
        let mut retained = Retained::default();
        self.retain_files(&policy, &ages, &mut retained).await?;
        // Who does not come to this door may come to another one.
        let apart = self.core.deployment().is_none();
        if let Some(patience) = policy.people.filter(|_| ages.wall_is_right(policy.clock_is_set) && apart) {
            (_, retained.people_erased) = self.people.update_absence(Some(patience), Timestamp::now()).await?;
        }
        let upkeep = self.clone();
        let ripe =
            blocking(move || upkeep.ripe(|segment, last| upkeep.is_old(&policy, &ages, segment, last)));
        if let Some(ripe) = ripe.await?.filter(|ripe| ripe.segments >= SEGMENTS_WORTH) {
            let Forgotten { segments, events_dropped } = self.forget(ripe, TOO_OLD).await?;
            (retained.segments, retained.events_dropped) = (segments, events_dropped);
        }
        Ok(retained)
    }

    /// Lets all segments go that the central side has, for room on the disk.
    pub(in crate::store) async fn forget_delivered(&self) -> Result<(), StoreError> {
        let rows = self.core.rows_cursor();
        let delivered = move |_, last| Ok(if rows.lsn >= last { Age::Old } else { Age::Young });
        let upkeep = self.clone();
        if let Some(ripe) = blocking(move || upkeep.ripe(delivered)).await? {
            self.forget(ripe, TOO_OLD).await?;
        }
        Ok(())
    }

    /// Gives the oldest segment up, delivered or not, for room on a full disk. How many events in it were not delivered;
    /// none where it must stay: the last segment, and one with an erasure of which the central side has not heard.
    pub(in crate::store) async fn give_up_oldest_events(&self) -> Result<Option<u64>, StoreError> {
        let oldest = self.core.journal.segments().list().first().map(|segment| segment.first);
        let first = move |segment, _| Ok(if Some(segment) == oldest { Age::Old } else { Age::Young });
        let upkeep = self.clone();
        let Some(ripe) = blocking(move || upkeep.ripe(first)).await? else { return Ok(None) };
        self.forget(ripe, DISK_FULL).await.map(|forgotten| Some(forgotten.events_dropped))
    }

    async fn retain_files(
        &self,
        policy: &RetentionPolicy,
        ages: &Arc<Ages>,
        retained: &mut Retained,
    ) -> Result<(), StoreError> {
        let _lock = self.core.media_lock.lock().await;
        let (upkeep, policy, ages) = (self.clone(), *policy, Arc::clone(ages));
        let records = blocking(move || upkeep.old_files(&policy, &ages)).await?;
        let evicted = records.iter().filter(|record| matches!(record, Record::MediaEvicted { .. })).count();
        let (evicted, dropped) = (evicted as u64, (records.len() - evicted) as u64);
        self.core.change_all(records).await?;
        retained.files_evicted += evicted;
        retained.files_dropped += dropped;
        Ok(())
    }

    /// The records that remove the files which have been kept long enough.
    fn old_files(&self, policy: &RetentionPolicy, ages: &Ages) -> Result<Vec<Record>, StoreError> {
        let older = |file: &FileEntry, than: Duration| {
            let (moment, told) = (Moment::Record(file.lsn), file.media.received_at);
            ages.knows(moment, told) && ages.least(moment, told) > than
        };
        let mut records = Vec::new();
        for file in self.core.queued(entries::DELIVERED)? {
            let file = file?;
            if older(&file, policy.media) {
                records.push(Record::MediaEvicted { id: file.media.id, bytes: file.media.size });
            }
        }
        let Some(limit) = policy.undelivered.filter(|_| policy.clock_is_set) else { return Ok(records) };
        for file in self.core.queued(entries::QUEUE)?.chain(self.core.queued(entries::CLIP)?) {
            let file = file?;
            if older(&file, limit) {
                let (id, bytes) = (file.media.id, file.media.size);
                records.push(Record::MediaDropped { id, bytes, reason: TOO_OLD.to_owned() });
            }
        }
        Ok(records)
    }

    /// How far the journal's beginning may go, by a rule about a segment and its last record.
    fn ripe(&self, rule: impl Fn(u64, u64) -> Result<Age, StoreError>) -> Result<Option<Ripe>, StoreError> {
        let applied = *self.core.applied.borrow();
        let unheard = self.oldest_unheard_erasure()?.unwrap_or(u64::MAX);
        let segments = self.core.journal.segments().list();
        let mut ripe = None;
        for (at, pair) in segments.windows(2).enumerate() {
            let last = pair[1].first - 1;
            if last > applied.lsn || last >= unheard {
                break;
            }
            match (rule(pair[0].first, last)?, pair[1].before_seq) {
                (Age::Young, _) => break,
                (Age::Old, Some(seq)) => ripe = Some(Ripe { stays: pair[1].first, seq, segments: at + 1 }),
                // Where a header is damaged, the next whole one counts.
                (Age::Old, None) | (Age::Unknown, _) => {}
            }
        }
        Ok(ripe)
    }

    fn is_old(
        &self,
        policy: &RetentionPolicy,
        ages: &Ages,
        segment: u64,
        last: u64,
    ) -> Result<Age, StoreError> {
        let newest = self.core.events.newest_in(segment)?;
        let newest = newest.map(|event| (Moment::Event(event.seq), event.received_at));
        let Some((moment, told)) = newest.filter(|(moment, told)| ages.knows(*moment, *told)) else {
            return Ok(Age::Unknown);
        };
        let age = ages.least(moment, told);
        let patience = match self.core.rows_cursor().lsn >= last {
            true => Some(policy.delivered),
            false => policy.undelivered.filter(|_| policy.clock_is_set),
        };
        Ok(if patience.is_some_and(|patience| age > patience) { Age::Old } else { Age::Young })
    }

    /// Where the oldest erasure lies of which the central side has not heard.
    fn oldest_unheard_erasure(&self) -> Result<Option<u64>, StoreError> {
        let first = self.core.views.scan(vec![entries::ERASURE], false).next().transpose()?;
        let asked = first.filter(|_| self.core.settings.central_rows);
        Ok(asked.and_then(|(name, _)| entries::number_in(&name)))
    }

    /// Lets the journal's beginning go; what of it is not delivered is given up for this reason.
    async fn forget(&self, ripe: Ripe, reason: &str) -> Result<Forgotten, StoreError> {
        let _lock = self.core.retention_lock.lock().await;
        let kept = self.core.numbers.borrow().totals.kept_until(ripe.seq);
        let mut forgotten = Forgotten::default();
        for (from, to) in kept {
            self.core.change(&Record::EventsDropped { from, to, reason: reason.to_owned() }).await?;
            forgotten.events_dropped += to - from + 1;
        }
        let Position { lsn, .. } = self.snapshot().await?;
        debug_assert!(lsn + 1 >= ripe.stays, "what goes is in the views already");
        let upkeep = self.clone();
        let gone = blocking(move || {
            let gone = upkeep.core.journal.forget_before(ripe.stays)?;
            upkeep.core.events.forget(&gone);
            Ok(gone.len())
        });
        forgotten.segments = gone.await?;
        Ok(forgotten)
    }
}
