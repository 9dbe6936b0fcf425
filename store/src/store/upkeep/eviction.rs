//! Eviction: frees disk space for media files and on a full disk, the least valuable data first.
//!
//! Order: delivered files, then delivered events in whole segments of the journal; files without an event;
//! clips; pictures of events without a match; other pictures. Within each step the oldest are removed first.
//! The removal of undelivered data is a drop, and the ledger counts each one. Undelivered events are removed
//! last, and only where the operator allows it: they are small, and they are the purpose of the appliance. An
//! undelivered erasure is never removed.

use gatehouse_journal::JournalError;
use gatehouse_model::Outcome;
use gatehouse_vault::space::BALLAST_FREE_BYTES_MIN;

use super::super::StoreError;
use super::super::core::{FILES_PER_BATCH, blocking};
use super::Upkeep;
use super::retention::DISK_FULL;
use crate::files::is_picture;
use crate::record::Record;
use crate::views::entries::{self, FileEntry};

/// The steps of the eviction, in this order.
const STEPS: [Step; 5] = [Step::Delivered, Step::WithoutEvent, Step::Clips, Step::Unmatched, Step::Pictures];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Delivered,
    WithoutEvent,
    Clips,
    Unmatched,
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

/// One batch of files to remove.
#[derive(Default)]
struct Candidates {
    files: Vec<FileEntry>,
    /// Files before and between these that must be kept.
    kept: usize,
}

impl Upkeep {
    /// Frees space for `bytes` more of media; false where evicting all files would not suffice. The caller
    /// must hold `media_lock`.
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
        Ok(self.evict_files(short, &STEPS, "quota").await? >= short)
    }

    /// Keeps disk space free. Delivered data is removed when the reserve is used. Undelivered files are
    /// removed when the appliance itself cannot write any more, and undelivered events only with
    /// `events_too`. Returns the freed bytes.
    ///
    /// # Errors
    /// [`StoreError`] where views or journal failed.
    pub async fn keep_free_space(&self, events_too: bool) -> Result<u64, StoreError> {
        let _lock = self.core.media_lock.lock().await;
        let space = &self.core.space;
        let reserve = self.core.settings.reserve_free_bytes;
        let mut freed = self.evict_files(reserve.saturating_sub(space.free()?), &STEPS[..1], "quota").await?;
        let before = space.free()?;
        if before < reserve {
            self.remove_delivered().await?;
            freed += space.free()?.saturating_sub(before);
        }
        if space.pressure().borrow().reserve_used {
            let short = BALLAST_FREE_BYTES_MIN.saturating_sub(space.free()?);
            freed += self.evict_files(short, &STEPS, DISK_FULL).await?;
            if events_too {
                freed += self.evict_events(short.saturating_sub(freed)).await?;
            }
        }
        space.restore_ballast();
        Ok(freed)
    }

    /// Removes files until `short` bytes are free or no candidate is left. Returns the freed bytes.
    async fn evict_files(&self, short: u64, steps: &[Step], reason: &str) -> Result<u64, StoreError> {
        let mut freed = 0;
        for step in steps {
            let mut kept = 0;
            while freed < short {
                let (upkeep, step, left) = (self.clone(), *step, short - freed);
                let found = blocking(move || upkeep.candidates(step, left, kept)).await?;
                if found.files.is_empty() {
                    break;
                }
                kept += found.kept;
                freed += found.files.iter().map(|file| file.media.size).sum::<u64>();
                let records = found.files.into_iter().map(|file| {
                    let (id, bytes) = (file.media.id, file.media.size);
                    match step {
                        Step::Delivered => Record::MediaEvicted { id, bytes },
                        _ => Record::MediaDropped { id, bytes, reason: reason.to_owned() },
                    }
                });
                self.core.change_all(records.collect()).await?;
            }
        }
        Ok(freed)
    }

    /// The oldest files of a step that together have at least `short` bytes, or one batch, or all of them. The
    /// first `kept` files of the queue are not examined again.
    fn candidates(&self, step: Step, short: u64, kept: usize) -> Result<Candidates, StoreError> {
        let (mut found, mut bytes) = (Candidates::default(), 0);
        for file in self.core.queued(step.queue())?.skip(kept) {
            let file = file?;
            if bytes >= short || found.files.len() == FILES_PER_BATCH {
                break;
            }
            if self.is_candidate(step, &file)? {
                bytes += file.media.size;
                found.files.push(file);
            } else {
                found.kept += 1;
            }
        }
        Ok(found)
    }

    /// Removes the oldest events until `short` bytes are free or the rest must be kept. Returns the freed
    /// bytes.
    async fn evict_events(&self, short: u64) -> Result<u64, StoreError> {
        let space = &self.core.space;
        let before = space.free()?;
        while space.free()?.saturating_sub(before) < short {
            let Some(dropped) = self.evict_oldest_events().await? else { break };
            tracing::error!(
                dropped,
                "the disk is full: events that were not delivered were evicted to free disk space"
            );
        }
        Ok(space.free()?.saturating_sub(before))
    }

    /// Whether this step removes a file.
    fn is_candidate(&self, step: Step, file: &FileEntry) -> Result<bool, StoreError> {
        match step {
            // Clips from before clips had their own queue are in the queue of pictures.
            Step::Unmatched => Ok(!is_picture(file.media.name.as_str()) || !self.may_have_match(file)?),
            _ => Ok(true),
        }
    }

    /// Whether the event of a file has a match. An unreadable event counts as one with a match.
    fn may_have_match(&self, file: &FileEntry) -> Result<bool, StoreError> {
        match self.events.get(&file.media.event) {
            Ok(Some(event)) => Ok(event.identification.faces.iter().any(|f| f.outcome == Outcome::Match)),
            Ok(None) | Err(StoreError::Journal(JournalError::Damaged { .. })) => Ok(true),
            Err(error) => Err(error),
        }
    }
}
