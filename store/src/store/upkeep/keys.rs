//! Status of the keys.

use gatehouse_vault::keys::KeyKind;
use serde::{Deserialize, Serialize};

use super::Upkeep;

/// The keys of this appliance. No secret and no id of a live key is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyStatus {
    /// Each kind, also those without a key.
    pub kinds: Vec<KeyCount>,
    /// Counts the template keys of this deployment, from 1.
    pub template_generation: u32,
    /// When the template key came into force, RFC 3339.
    pub template_since: String,
    /// Slots whose key is lost.
    pub damaged: Vec<DamagedKey>,
    /// Slots that were found damaged in one copy at the start and were mended from the other.
    pub healed: usize,
}

/// How many keys there are of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCount {
    /// The kind, in a word.
    pub kind: String,
    /// Keys of it.
    pub keys: usize,
}

/// A slot whose key is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedKey {
    /// Number of the slot.
    pub slot: u32,
    /// The key that was probably in it.
    pub id: Option<String>,
}

impl Upkeep {
    /// How many keys there are, of which generation the templates are, and what is damaged.
    pub fn key_status(&self) -> KeyStatus {
        let (keys, templates) = (&self.core.keys, self.core.templates());
        let count = |kind: KeyKind| KeyCount { kind: kind.as_str().to_owned(), keys: keys.ids(kind).len() };
        let damaged = keys.damaged().iter();
        KeyStatus {
            kinds: KeyKind::ALL.into_iter().map(count).collect(),
            template_generation: templates.mark.generation,
            template_since: templates.mark.since.to_string(),
            damaged: damaged
                .map(|lost| DamagedKey { slot: lost.slot, id: lost.id.map(|id| id.to_string()) })
                .collect(),
            healed: keys.healed(),
        }
    }
}
