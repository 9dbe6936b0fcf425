//! The views as records of the journal, so that the journal before them can go.
//!
//! Taken at one position, in parts that fit into records; laid down in fresh views, they are as they were there, but for
//! files that were gone already. People's profiles and templates stay under the seals of their keys, so that a snapshot
//! of before an erasure says no more than the journal did.

use std::collections::HashSet;

use super::entries::{self, FileEntry, State};
use super::{BATCH_KEYS, ViewError, Views};
use crate::index::EventIndex;
use crate::keys::KeyId;
use crate::ledger::Totals;
use crate::views::apply::Draft;

/// Bytes of a part: a quarter of the largest record.
const PART_BYTES: usize = crate::journal::RECORD_BYTES_MAX / 4;

/// Name and content of an entry.
pub(crate) type Content = (Vec<u8>, Vec<u8>);

impl Views {
    /// Everything but the state. The caller holds the views still.
    pub(crate) fn contents(&self) -> Result<Vec<Vec<Content>>, ViewError> {
        let here = self.files_here()?;
        let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
        for entry in self.scan(Vec::new(), false) {
            let (name, stored) = entry?;
            let content = match name.first() {
                Some(&entries::STATE) | None => continue,
                Some(kind) if is_a_persons(*kind) => stored.to_vec(),
                Some(&entries::FILE | &entries::PREVIEWED)
                    if entries::id_in(&name).is_none_or(|id| !here.contains(&id)) =>
                {
                    continue;
                }
                Some(&entries::FILE_NAME) if !here.contains(&self.unseal::<KeyId>(&name, &stored)?) => {
                    continue;
                }
                Some(_) => self.open_raw(&name, &stored)?,
            };
            bytes += name.len() + content.len();
            part.push((name, content));
            if bytes >= PART_BYTES {
                parts.push(std::mem::take(&mut part));
                bytes = 0;
            }
        }
        if !part.is_empty() {
            parts.push(part);
        }
        Ok(parts)
    }

    /// Ids of the files that lie on the disk.
    fn files_here(&self) -> Result<HashSet<KeyId>, ViewError> {
        let mut here = HashSet::new();
        for entry in self.scan(vec![entries::FILE], false) {
            let (name, value) = entry?;
            let file: FileEntry = self.unseal(&name, &value)?;
            here.extend(file.on_disk.then_some(file.media.id));
        }
        Ok(here)
    }

    /// Lays entries down, a few at a time; the state stays that of nothing until [`Views::settle`].
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
                true => draft.lay(name, content)?,
                false => {
                    let sealed = self.seal_raw(&name, &content)?;
                    draft.lay(name, sealed)?;
                }
            }
        }
        draft.write()
    }

    /// All entries of a snapshot lie here: the state is that of its position.
    pub(crate) fn settle(&self, mut state: State, totals: Totals) -> Result<State, ViewError> {
        state.totals = totals;
        self.write(std::collections::BTreeMap::new(), &state)?;
        Ok(state)
    }
}

/// Whether entries of a kind are sealed with a person's key.
fn is_a_persons(kind: u8) -> bool {
    matches!(kind, entries::PROFILE | entries::TEMPLATE)
}
