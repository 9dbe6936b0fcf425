//! Verification: every byte on disk is read and authenticated.
//!
//! The work is cut into steps of bounded time, so that a large state directory is verified while the daemon
//! runs. Each step returns where the next one begins. Findings describe the damage and never contain the
//! damaged data.

use std::io::Read;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use gatehouse_model::KeyId;
use serde::{Deserialize, Serialize};

use super::super::StoreError;
use super::super::people::PROFILE_AD;
use super::Upkeep;
use crate::files::FileError;
use crate::views::ViewError;
use crate::views::entries::{self, FileEntry, Key};

/// Time after which a step ends: far below the timeout of a request.
const STEP_DURATION_MAX: Duration = Duration::from_secs(2);
/// Maximum number of findings that one step reports: more would not help.
const FINDINGS_MAX: usize = 100;
/// Bytes of a media file read at once.
const PIECE_BYTES: usize = 64 << 10;

/// Where a step begins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyAt {
    /// The key table.
    #[default]
    Keys,
    /// The journal, after this record.
    Journal(u64),
    /// The views, after this entry.
    Views(Vec<u8>),
    /// The media files, after this one in the order of ids.
    Media(Option<KeyId>),
    /// The event index, after this journal segment.
    Index(u64),
}

/// What a step found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Verified {
    /// Keys that were read.
    pub keys: u64,
    /// Journal records that were read.
    pub records: u64,
    /// Entries of the views that were read.
    pub entries: u64,
    /// Media files that were read to their end.
    pub files: u64,
    /// Journal records that cannot be read any more.
    pub records_lost: u64,
    /// Media files that cannot be read any more.
    pub files_lost: u64,
    /// Descriptions of the damage.
    pub damaged: Vec<String>,
    /// Where the next step begins; none after the last.
    pub next: Option<VerifyAt>,
}

impl Verified {
    fn found(&mut self, message: impl Into<String>) {
        if self.damaged.len() < FINDINGS_MAX {
            self.damaged.push(message.into());
        }
    }
}

impl Upkeep {
    /// One step of the verification. Blocking.
    ///
    /// # Errors
    /// [`StoreError`] where the disk cannot be read at all; damage is no error.
    pub fn verify(&self, at: VerifyAt) -> Result<Verified, StoreError> {
        let mut step = Verified::default();
        step.next = match at {
            VerifyAt::Keys => self.verify_keys(&mut step)?,
            VerifyAt::Journal(after) => self.verify_journal(after, &mut step)?,
            VerifyAt::Views(after) => self.verify_views(after, &mut step),
            VerifyAt::Media(after) => self.verify_media(after, &mut step)?,
            VerifyAt::Index(after) => self.verify_index(after, &mut step),
        };
        Ok(step)
    }

    fn verify_keys(&self, step: &mut Verified) -> Result<Option<VerifyAt>, StoreError> {
        let (keys, faults) = self.core.keys.verify()?;
        step.keys = keys;
        for fault in faults {
            step.found(fault.to_string());
        }
        Ok(Some(VerifyAt::Journal(0)))
    }

    fn verify_journal(&self, after: u64, step: &mut Verified) -> Result<Option<VerifyAt>, StoreError> {
        let begin = Instant::now();
        let mut reader = self.core.journal.reader(after);
        let mut done = false;
        while !done && begin.elapsed() < STEP_DURATION_MAX {
            match reader.next()? {
                Some(_) => step.records += 1,
                None => done = true,
            }
        }
        for damage in reader.damaged() {
            step.records_lost += damage.lost;
            step.found(damage.to_string());
        }
        Ok(Some(if done { VerifyAt::Views(Vec::new()) } else { VerifyAt::Journal(reader.position()) }))
    }

    fn verify_views(&self, after: Vec<u8>, step: &mut Verified) -> Option<VerifyAt> {
        let begin = Instant::now();
        let mut last = after;
        // sled panics on damaged data. The views can be rebuilt from the journal.
        let read = std::panic::catch_unwind(AssertUnwindSafe(|| -> Result<bool, ViewError> {
            for name in self.core.views.names_after(&last) {
                let name = name?;
                match self.is_whole(&name)? {
                    true => step.entries += 1,
                    false => step.found("an entry of the views is damaged; a restart rebuilds the views"),
                }
                last = name;
                if begin.elapsed() >= STEP_DURATION_MAX {
                    return Ok(false);
                }
            }
            Ok(true)
        }));
        match read {
            Ok(Ok(false)) => return Some(VerifyAt::Views(last)),
            Ok(Ok(true)) => {}
            Ok(Err(error)) => step.found(error.to_string()),
            Err(_) => step.found(ViewError::Panicked.to_string()),
        }
        Some(VerifyAt::Index(0))
    }

    fn verify_index(&self, after: u64, step: &mut Verified) -> Option<VerifyAt> {
        let begin = Instant::now();
        for (segment, whole) in self.core.events.verify(after) {
            match whole {
                true => step.entries += 1,
                false => step.found(format!(
                    "the event index of journal segment {segment} is damaged; it is rebuilt when it is needed"
                )),
            }
            if begin.elapsed() >= STEP_DURATION_MAX {
                return Some(VerifyAt::Index(segment));
            }
        }
        Some(VerifyAt::Media(None))
    }

    /// Whether an entry of the views is intact, or was removed meanwhile.
    fn is_whole(&self, name: &[u8]) -> Result<bool, ViewError> {
        let core = &*self.core;
        let Some(stored) = core.views.stored(name)? else { return Ok(true) };
        // Entries that a running snapshot holds are checked by the snapshot.
        if name.first() == Some(&entries::KEPT) {
            return Ok(true);
        }
        let of_person = matches!(name.first(), Some(&entries::PROFILE | &entries::TEMPLATE));
        let Some(person) = entries::id_in(name).filter(|_| of_person) else {
            return Ok(core.views.is_whole(name, &stored));
        };
        let opens = core.keys.key(&person).is_ok_and(|key| match name.first() {
            Some(&entries::PROFILE) => key.open(PROFILE_AD, &stored).is_ok(),
            _ => core.templates().can_open(&key, entries::gallery_in(name), &stored),
        });
        // A person who is being erased has no key any more: check whether the entry changed.
        Ok(opens || core.views.stored(name)?.is_none_or(|now| now != stored))
    }

    fn verify_media(
        &self,
        after: Option<KeyId>,
        step: &mut Verified,
    ) -> Result<Option<VerifyAt>, StoreError> {
        let begin = Instant::now();
        let mut ids = self.core.files.ids()?;
        ids.sort_unstable_by_key(|id| *id.as_bytes());
        let from = after.map_or(0, |after| ids.partition_point(|id| id.as_bytes() <= after.as_bytes()));
        for id in &ids[from..] {
            match self.read_through(id) {
                Ok(()) => step.files += 1,
                // Removed meanwhile.
                Err(FileError::Missing(_)) => {}
                Err(error) => {
                    step.files_lost += 1;
                    let of = self.core.views.get::<FileEntry>(&Key::File(*id))?;
                    let of = of.map(|f| {
                        format!(" ({}/{}/{})", f.media.event.camera, f.media.event.id, f.media.name)
                    });
                    step.found(format!("{error}{}", of.unwrap_or_default()));
                }
            }
            if begin.elapsed() >= STEP_DURATION_MAX {
                return Ok(Some(VerifyAt::Media(Some(*id))));
            }
        }
        Ok(None)
    }

    fn read_through(&self, id: &KeyId) -> Result<(), FileError> {
        let mut reader = self.core.files.open_file(id)?;
        let mut piece = zeroize::Zeroizing::new(vec![0; PIECE_BYTES]);
        loop {
            match reader.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(_) => {
                    return Err(FileError::Damaged {
                        id: *id,
                        what: "its bytes are not those that were written",
                    });
                }
            }
        }
    }
}
