//! Retention: how long the appliance keeps segments of the journal with their keys, pictures, and clips.
//!
//! A segment is removed only together with all earlier ones, so that the journal stays contiguous. A snapshot
//! must be durable before. Undelivered data is removed only where the policy allows it, and the ledger counts
//! it before. It is never removed while the time is not known. A segment with an undelivered erasure is never
//! removed. Ages are lower bounds ([`crate::clock`]), so a clock that jumps never makes data older.

use std::sync::Arc;
use std::time::Duration;

use gatehouse_journal::Position;
use gatehouse_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::StoreError;
use super::super::core::{FILES_PER_BATCH, blocking};
use super::super::events::clock::Ages;
use super::Upkeep;
use crate::clock::Moment;
use crate::record::Record;
use crate::views::entries::{self, FileEntry};

/// Minimum number of removable segments that justify a snapshot, while the disk has enough free space.
const SEGMENTS_MIN: usize = 4;
/// Drop reason in the ledger: the retention policy.
const TOO_OLD: &str = "retention";
/// Drop reason in the ledger: the disk is full.
pub(in crate::store) const DISK_FULL: &str = "disk_full";

/// Retention periods, counted from the receive time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Delivered events.
    pub delivered: Duration,
    /// Delivered pictures and clips.
    pub media: Duration,
    /// Undelivered events, pictures and clips; none: no limit.
    pub undelivered: Option<Duration>,
    /// People, from their last visit or change; none: no limit.
    pub people: Option<Duration>,
    /// Whether the wall clock is reliable. Otherwise undelivered data is removed only with a reference time
    /// of this boot.
    pub clock_is_set: bool,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Retained {
    /// Segments of the journal.
    pub segments: usize,
    /// Events in them that were not delivered.
    pub events_dropped: u64,
    /// Pictures and clips that were delivered.
    pub files_evicted: u64,
    /// Pictures and clips that were not delivered.
    pub files_dropped: u64,
    /// People who were erased because of their absence.
    pub people_erased: usize,
}

/// What was removed from the journal.
#[derive(Default)]
struct RemovedSegments {
    segments: usize,
    events_dropped: u64,
}

/// The removable beginning of the journal.
struct Removable {
    /// First record of the first segment that is kept.
    first_kept: u64,
    /// Number of the last event before it.
    seq: u64,
    segments: usize,
}

/// Age of a segment compared with its limit.
enum Age {
    Old,
    Young,
    /// No event in it has a reliable time; it counts as old as the next segment.
    Unknown,
}

impl Upkeep {
    /// Applies the retention policy.
    ///
    /// # Errors
    /// [`StoreError`] where journal, views or disk failed; the next call continues.
    pub async fn retain(&self, policy: &RetentionPolicy) -> Result<Retained, StoreError> {
        let ages = Arc::new(Ages::read(&self.core)?);
        let policy = RetentionPolicy { clock_is_set: policy.clock_is_set || ages.has_reference(), ..*policy };
        let mut retained = Retained::default();
        self.retain_files(&policy, &ages, &mut retained).await?;
        // People who are shared may visit other appliances, so a local absence proves nothing.
        let is_unshared = self.core.deployment().is_none();
        let can_erase = ages.wall_is_right(policy.clock_is_set) && is_unshared;
        if let Some(limit) = policy.people.filter(|_| can_erase) {
            (_, retained.people_erased) = self.people.update_absence(Some(limit), Timestamp::now()).await?;
        }
        let upkeep = self.clone();
        let removable =
            blocking(move || upkeep.removable(|segment, last| upkeep.is_old(&policy, &ages, segment, last)));
        if let Some(range) = removable.await?.filter(|range| range.segments >= SEGMENTS_MIN) {
            let RemovedSegments { segments, events_dropped } = self.remove_segments(range, TOO_OLD).await?;
            (retained.segments, retained.events_dropped) = (segments, events_dropped);
        }
        Ok(retained)
    }

    /// Removes all delivered segments to free disk space.
    pub(in crate::store) async fn remove_delivered(&self) -> Result<(), StoreError> {
        let rows = self.core.rows_cursor();
        let delivered = move |_, last| Ok(if rows.lsn >= last { Age::Old } else { Age::Young });
        let upkeep = self.clone();
        if let Some(range) = blocking(move || upkeep.removable(delivered)).await? {
            self.remove_segments(range, TOO_OLD).await?;
        }
        Ok(())
    }

    /// Removes the oldest segment, delivered or not, to free space on a full disk. Returns the number of
    /// undelivered events in it. None where it must be kept: the last segment, and one with an undelivered
    /// erasure.
    pub(in crate::store) async fn evict_oldest_events(&self) -> Result<Option<u64>, StoreError> {
        let oldest = self.core.journal.segments().list().first().map(|segment| segment.first);
        let first = move |segment, _| Ok(if Some(segment) == oldest { Age::Old } else { Age::Young });
        let upkeep = self.clone();
        let Some(range) = blocking(move || upkeep.removable(first)).await? else { return Ok(None) };
        self.remove_segments(range, DISK_FULL).await.map(|removed| Some(removed.events_dropped))
    }

    async fn retain_files(
        &self,
        policy: &RetentionPolicy,
        ages: &Arc<Ages>,
        retained: &mut Retained,
    ) -> Result<(), StoreError> {
        loop {
            // The lock is released after each batch, so that an arriving picture waits for one batch at most.
            let _lock = self.core.media_lock.lock().await;
            let (upkeep, policy, ages) = (self.clone(), *policy, Arc::clone(ages));
            let records = blocking(move || upkeep.old_files(&policy, &ages)).await?;
            let count = records.len();
            let evicted =
                records.iter().filter(|record| matches!(record, Record::MediaEvicted { .. })).count();
            self.core.change_all(records).await?;
            retained.files_evicted += evicted as u64;
            retained.files_dropped += (count - evicted) as u64;
            if count < FILES_PER_BATCH {
                return Ok(());
            }
        }
    }

    /// The records that remove the files which are older than their limit, for one batch.
    fn old_files(&self, policy: &RetentionPolicy, ages: &Ages) -> Result<Vec<Record>, StoreError> {
        let older = |file: &FileEntry, than: Duration| {
            let (moment, recorded) = (Moment::Record(file.lsn), file.media.received_at);
            ages.is_usable(moment, recorded) && ages.least(moment, recorded) > than
        };
        let mut records = Vec::new();
        for file in self.core.queued(entries::DELIVERED)? {
            let file = file?;
            if records.len() == FILES_PER_BATCH {
                return Ok(records);
            }
            if older(&file, policy.media) {
                records.push(Record::MediaEvicted { id: file.media.id, bytes: file.media.size });
            }
        }
        let Some(limit) = policy.undelivered.filter(|_| policy.clock_is_set) else { return Ok(records) };
        for file in self.core.queued(entries::QUEUE)?.chain(self.core.queued(entries::CLIP)?) {
            let file = file?;
            if records.len() == FILES_PER_BATCH {
                break;
            }
            if older(&file, limit) {
                let (id, bytes) = (file.media.id, file.media.size);
                records.push(Record::MediaDropped { id, bytes, reason: TOO_OLD.to_owned() });
            }
        }
        Ok(records)
    }

    /// The removable beginning of the journal, by a rule about a segment and its last record.
    fn removable(
        &self,
        rule: impl Fn(u64, u64) -> Result<Age, StoreError>,
    ) -> Result<Option<Removable>, StoreError> {
        let applied = *self.core.applied.borrow();
        let undelivered = self.oldest_undelivered_erasure()?.unwrap_or(u64::MAX);
        let segments = self.core.journal.segments().list();
        let mut removable = None;
        for (at, pair) in segments.windows(2).enumerate() {
            let last = pair[1].first - 1;
            if last > applied.lsn || last >= undelivered {
                break;
            }
            match (rule(pair[0].first, last)?, pair[1].before_seq) {
                (Age::Young, _) => break,
                (Age::Old, Some(seq)) => {
                    removable = Some(Removable { first_kept: pair[1].first, seq, segments: at + 1 });
                }
                // Where a header is damaged, the next intact one counts.
                (Age::Old, None) | (Age::Unknown, _) => {}
            }
        }
        Ok(removable)
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
        let known = newest.filter(|(moment, recorded)| ages.is_usable(*moment, *recorded));
        let Some((moment, recorded)) = known else {
            return Ok(Age::Unknown);
        };
        let age = ages.least(moment, recorded);
        let limit = match self.core.rows_cursor().lsn >= last {
            true => Some(policy.delivered),
            false => policy.undelivered.filter(|_| policy.clock_is_set),
        };
        Ok(if limit.is_some_and(|limit| age > limit) { Age::Old } else { Age::Young })
    }

    /// Number of the oldest record of an undelivered erasure.
    fn oldest_undelivered_erasure(&self) -> Result<Option<u64>, StoreError> {
        let first = self.core.views.scan(vec![entries::ERASURE], false).next().transpose()?;
        let undelivered = first.filter(|_| self.core.settings.central_rows);
        Ok(undelivered.and_then(|(name, _)| entries::number_in(&name)))
    }

    /// Removes the beginning of the journal. Its undelivered events are dropped for this reason.
    async fn remove_segments(&self, range: Removable, reason: &str) -> Result<RemovedSegments, StoreError> {
        let _lock = self.core.retention_lock.lock().await;
        let kept = self.core.numbers.borrow().totals.kept_until(range.seq);
        let mut removed = RemovedSegments::default();
        for (from, to) in kept {
            self.core.change(&Record::EventsDropped { from, to, reason: reason.to_owned() }).await?;
            removed.events_dropped += to - from + 1;
        }
        let Position { lsn, .. } = self.snapshot().await?;
        debug_assert!(lsn + 1 >= range.first_kept, "removed records must be in the views");
        let upkeep = self.clone();
        let gone = blocking(move || {
            let gone = upkeep.core.journal.forget_before(range.first_kept)?;
            upkeep.core.events.forget(&gone);
            Ok(gone.len())
        });
        removed.segments = gone.await?;
        Ok(removed)
    }
}
