//! Eviction: frees disk space for media files and on a full disk, the least valuable data first.
//!
//! Order: files that the central side has, then events that it has, in whole segments of the journal; files whose event did not come; clips; pictures of nobody who is known;
//! other pictures; within each the oldest first. What is not delivered is a drop, and each is a line in the ledger. Such events
//! are the last to go, and only where the operator allows it: they are small, and they are what the appliance is for. An
//! erasure of which the central side has not heard never goes.

use gatehouse_journal::JournalError;
use gatehouse_model::Outcome;
use gatehouse_vault::space::BALLAST_FREE_BYTES_MIN;

use super::super::StoreError;
use super::super::core::blocking;
use super::Upkeep;
use super::retention::DISK_FULL;
use crate::files::is_picture;
use crate::record::Record;
use crate::views::entries::{self, FileEntry};

/// What is given up, in this order.
const STEPS: [Step; 5] = [Step::Delivered, Step::WithoutEvent, Step::Clips, Step::Nobody, Step::Pictures];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Delivered,
    WithoutEvent,
    Clips,
    Nobody,
    Pictures,
}

impl Step {
    fn queue(self) -> u8 {
        match self {
            Self::Delivered => entries::DELIVERED,
            Self::WithoutEvent => entries::WAITING,
            Self::Clips => entries::CLIP,
            _ => entries::QUEUE,
        }
    }
}

impl Upkeep {
    /// Frees what `bytes` more of media need; false where even everything would not do. The caller holds the media
    /// door.
    pub(in crate::store) async fn make_space(&self, bytes: u64) -> Result<bool, StoreError> {
        let settings = &self.core.settings;
        let used = self.core.numbers.borrow().totals.media_bytes;
        let over_quota = (used + bytes).saturating_sub(settings.media_quota_bytes);
        let free = self.core.space.free()?;
        let under_reserve = settings.reserve_free_bytes.saturating_add(bytes).saturating_sub(free);
        let short = over_quota.max(under_reserve);
        if short > used {
            return Ok(false);
        }
        Ok(self.give_up(short, &STEPS, "quota").await? >= short)
    }

    /// Keeps room on the disk: what the central side has goes when the reserve is touched, and what it does not
    /// have when the appliance itself cannot write any more; events of that only with `events_too`. Returns the bytes
    /// that were freed.
    ///
    /// # Errors
    /// [`StoreError`] where views or journal failed.
    pub async fn keep_free_space(&self, events_too: bool) -> Result<u64, StoreError> {
        let _lock = self.core.media_lock.lock().await;
        let space = &self.core.space;
        let reserve = self.core.settings.reserve_free_bytes;
        let mut freed = self.give_up(reserve.saturating_sub(space.free()?), &STEPS[..1], "quota").await?;
        let before = space.free()?;
        if before < reserve {
            self.forget_delivered().await?;
            freed += space.free()?.saturating_sub(before);
        }
        if space.pressure().borrow().reserve_used {
            let short = BALLAST_FREE_BYTES_MIN.saturating_sub(space.free()?);
            freed += self.give_up(short, &STEPS, DISK_FULL).await?;
            if events_too {
                freed += self.give_up_events(short.saturating_sub(freed)).await?;
            }
        }
        space.restore_ballast();
        Ok(freed)
    }

    /// Gives files up until `short` bytes are free or nothing is left to give. Returns the bytes.
    async fn give_up(&self, short: u64, steps: &[Step], reason: &str) -> Result<u64, StoreError> {
        let mut freed = 0;
        for step in steps {
            if freed >= short {
                break;
            }
            let (upkeep, step, left) = (self.clone(), *step, short - freed);
            let files = blocking(move || upkeep.candidates(step, left)).await?;
            freed += files.iter().map(|file| file.media.size).sum::<u64>();
            let records = files.into_iter().map(|file| {
                let (id, bytes) = (file.media.id, file.media.size);
                match step {
                    Step::Delivered => Record::MediaEvicted { id, bytes },
                    _ => Record::MediaDropped { id, bytes, reason: reason.to_owned() },
                }
            });
            self.core.change_all(records.collect()).await?;
        }
        Ok(freed)
    }

    /// The oldest files of a step that together have at least `short` bytes, or all of them.
    fn candidates(&self, step: Step, short: u64) -> Result<Vec<FileEntry>, StoreError> {
        let (mut files, mut bytes) = (Vec::new(), 0);
        for file in self.core.queued(step.queue())? {
            let file = file?;
            if bytes >= short {
                break;
            }
            if self.goes(step, &file)? {
                bytes += file.media.size;
                files.push(file);
            }
        }
        Ok(files)
    }

    /// Gives the oldest events up until `short` bytes are free or no more may go. Returns the bytes.
    async fn give_up_events(&self, short: u64) -> Result<u64, StoreError> {
        let space = &self.core.space;
        let before = space.free()?;
        while space.free()?.saturating_sub(before) < short {
            let Some(dropped) = self.give_up_oldest_events().await? else { break };
            tracing::error!(
                dropped,
                "the disk is full: events that were not delivered were evicted to free disk space"
            );
        }
        Ok(space.free()?.saturating_sub(before))
    }

    /// Whether a file goes with this step.
    fn goes(&self, step: Step, file: &FileEntry) -> Result<bool, StoreError> {
        match step {
            // Clips of before they had a queue of their own lie among the pictures.
            Step::Nobody => Ok(!is_picture(file.media.name.as_str()) || !self.shows_somebody(file)?),
            _ => Ok(true),
        }
    }

    /// Whether the event of a file knew somebody. One that cannot be read any more might have.
    fn shows_somebody(&self, file: &FileEntry) -> Result<bool, StoreError> {
        match self.events.get(&file.media.event) {
            Ok(Some(event)) => Ok(event.identification.faces.iter().any(|f| f.outcome == Outcome::Match)),
            Ok(None) | Err(StoreError::Journal(JournalError::Damaged { .. })) => Ok(true),
            Err(error) => Err(error),
        }
    }
}
