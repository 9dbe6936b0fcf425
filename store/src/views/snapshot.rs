//! Snapshots: the views as records of the journal, so that earlier segments of the journal can be removed.
//!
//! A snapshot is taken at one position, in parts that fit into records. Restored into fresh views, it gives
//! the same views, except for files that were already removed. Profiles and templates stay sealed with their
//! person's key. So a snapshot from before an erasure reveals no more than the journal did.
//!
//! There may be millions of entries, and the views change during the snapshot. So only one part at a time is
//! in memory. The content of an entry before its first change is saved in the views themselves, after all
//! others, until the last part is taken. Saved content is not counted. If the end of a snapshot was
//! interrupted, the next one first removes what was saved.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gatehouse_model::KeyId;

use super::entries::{self, FileEntry, KEPT, Key, State};
use super::{BATCH_KEYS, ViewError, Views};
use crate::index::EventIndex;
use crate::ledger::Totals;
use crate::views::apply::Draft;

/// Bytes of a part: a quarter of the largest record.
const PART_BYTES: usize = gatehouse_journal::RECORD_BYTES_MAX / 4;
/// Largest number of entries that are read for a part, since writes wait meanwhile.
const PART_ENTRIES: usize = 4096;

/// Name and content of an entry.
pub(crate) type Content = (Vec<u8>, Vec<u8>);

/// A snapshot that is being taken. The state of the views at its start is kept until this is dropped.
pub(crate) struct Taking {
    views: Arc<Views>,
    /// Name of the last entry that was read. Saved entries come after all others.
    after: Vec<u8>,
}

impl Taking {
    /// Begins a snapshot. `at` is called while writes are held off.
    pub(crate) fn begin<T>(views: &Arc<Views>, at: impl FnOnce() -> T) -> Result<(Self, T), ViewError> {
        views.forget_kept()?;
        let _still = views.hold();
        views.frozen.store(true, Ordering::Relaxed);
        Ok((Self { views: Arc::clone(views), after: Vec::new() }, at()))
    }

    /// The next entries. A part can be empty; none means that all entries were taken. An entry may come twice
    /// with the same content. Blocking.
    pub(crate) fn next_part(&mut self) -> Result<Option<Vec<Content>>, ViewError> {
        let views = Arc::clone(&self.views);
        let _still = views.hold();
        let (mut part, mut bytes, mut looked_at) = (Vec::new(), 0, 0);
        for name in views.names_after(&self.after) {
            self.after = name?;
            looked_at += 1;
            // A saved entry is named after its original, which may be removed by now.
            let name = self.after.strip_prefix(&[KEPT]).unwrap_or(&self.after);
            if let Some(content) = views.content_before(name)? {
                bytes += name.len() + content.len();
                part.push((name.to_vec(), content));
            }
            if bytes >= PART_BYTES || looked_at == PART_ENTRIES {
                return Ok(Some(part));
            }
        }
        Ok((looked_at > 0).then_some(part))
    }

    /// Ends the snapshot and removes what was saved.
    pub(crate) fn end(self) -> Result<(), ViewError> {
        let views = Arc::clone(&self.views);
        drop(self);
        views.forget_kept()
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        let _still = self.views.hold();
        self.views.frozen.store(false, Ordering::Relaxed);
    }
}

impl Views {
    /// Saves the content of entries before their change while a snapshot is taken. An empty value stands for
    /// a missing entry.
    pub(super) fn keep(&self, changes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Result<(), ViewError> {
        let mut batch = sled::Batch::default();
        for name in changes.keys() {
            let kept = kept(name);
            if !self.db.contains_key(&kept)? {
                batch.insert(kept, self.db.get(name)?.unwrap_or_default());
            }
        }
        Ok(self.db.apply_batch(batch)?)
    }

    /// Removes what snapshots saved, a few entries at a time.
    fn forget_kept(&self) -> Result<(), ViewError> {
        loop {
            let _still = self.hold();
            let mut batch = sled::Batch::default();
            let mut any = false;
            for name in self.names_after(&[KEPT]).take(BATCH_KEYS) {
                batch.remove(name?);
                any = true;
            }
            if !any {
                return Ok(());
            }
            self.db.apply_batch(batch)?;
        }
    }

    /// An entry at the start of the snapshot; none if it did not exist.
    fn before(&self, name: &[u8]) -> Result<Option<sled::IVec>, ViewError> {
        let now = || self.db.get(name);
        Ok(self.db.get(kept(name))?.map_or_else(now, |kept| Ok(Some(kept)))?.filter(|it| !it.is_empty()))
    }

    /// The content of an entry for the snapshot; none for the totals, and for files that are not on disk.
    fn content_before(&self, name: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        let Some(stored) = self.before(name)? else { return Ok(None) };
        let says = match name.first() {
            Some(&entries::STATE) | None => false,
            Some(kind) if is_a_persons(*kind) => return Ok(Some(stored.to_vec())),
            Some(&entries::FILE | &entries::PREVIEWED) => {
                entries::id_in(name).map_or(Ok(false), |id| self.was_here(id))?
            }
            Some(&entries::FILE_NAME) => self.was_here(self.unseal(name, &stored)?)?,
            Some(_) => true,
        };
        says.then(|| self.open_raw(name, &stored)).transpose()
    }

    /// Whether a file was on disk at the start of the snapshot.
    fn was_here(&self, id: KeyId) -> Result<bool, ViewError> {
        let name = Key::File(id).bytes();
        let Some(stored) = self.before(&name)? else { return Ok(false) };
        Ok(self.unseal::<FileEntry>(&name, &stored)?.on_disk)
    }

    /// Restores entries, a few at a time. The state stays empty until [`Views::settle`].
    pub(crate) fn lay(
        &self,
        events: &EventIndex,
        state: State,
        contents: Vec<Content>,
    ) -> Result<State, ViewError> {
        let mut draft = Draft::new(self, events, state);
        for (name, content) in contents {
            if draft.len() >= BATCH_KEYS {
                draft = Draft::new(self, events, draft.write()?);
            }
            match name.first().copied().is_some_and(is_a_persons) {
                true => draft.put_stored(name, content)?,
                false => {
                    let sealed = self.seal_raw(&name, &content)?;
                    draft.put_stored(name, sealed)?;
                }
            }
        }
        draft.write()
    }

    /// Completes a restore: the state becomes that of the snapshot's position.
    pub(crate) fn settle(&self, mut state: State, totals: Totals) -> Result<State, ViewError> {
        state.totals = totals;
        self.write(BTreeMap::new(), &state)?;
        Ok(state)
    }
}

/// Whether entries of a kind are sealed with a person's key.
fn is_a_persons(kind: u8) -> bool {
    matches!(kind, entries::PROFILE | entries::TEMPLATE)
}

/// Name under which the previous content of an entry is saved.
fn kept(name: &[u8]) -> Vec<u8> {
    [&[KEPT], name].concat()
}

#[cfg(test)]
mod tests;
