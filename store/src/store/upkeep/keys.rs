//! Status of the keys.

use gatehouse_receipt::Place;
use gatehouse_vault::keys::KeyKind;
use serde::{Deserialize, Serialize};

use super::Upkeep;

/// The keys of this appliance. It contains no secret and no id of a live key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyStatus {
    /// All kinds, including those without a key.
    pub kinds: Vec<KeyCount>,
    /// Counts the template keys of this deployment, from 1.
    pub template_generation: u32,
    /// When the template key came into force, RFC 3339.
    pub template_since: String,
    /// The public key that verifies this appliance's statements about erasures, as `NAME+ID+KEY`. None if its id cannot
    /// be on a receipt, or its key is lost.
    pub verifier_key: Option<String>,
    /// Slots whose key is lost.
    pub damaged: Vec<DamagedKey>,
    /// Slots that were damaged in one copy at the start and were restored from the other.
    pub healed: usize,
}

/// Number of keys of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCount {
    /// The kind, as text.
    pub kind: String,
    /// Number of its keys.
    pub keys: usize,
}

/// A slot whose key is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedKey {
    /// Number of the slot.
    pub slot: u32,
    /// The id of the key that was probably in it.
    pub id: Option<String>,
}

impl Upkeep {
    /// Numbers of keys, the generation of the templates, the verifier key of this appliance in its environment, and
    /// damaged slots.
    pub fn key_status(&self, environment: &str, device: &str) -> KeyStatus {
        let place = Place::device(environment, device, None).ok();
        let signer = place.and_then(|place| self.core.signer(place.key_name()).ok());
        let (keys, templates) = (&self.core.keys, self.core.templates());
        let count = |kind: KeyKind| KeyCount { kind: kind.as_str().to_owned(), keys: keys.ids(kind).len() };
        let damaged = keys.damaged().iter();
        KeyStatus {
            kinds: KeyKind::ALL.into_iter().map(count).collect(),
            template_generation: templates.mark.generation,
            template_since: templates.mark.since.to_string(),
            verifier_key: signer.map(|signer| signer.verifier_key().to_string()),
            damaged: damaged
                .map(|lost| DamagedKey { slot: lost.slot, id: lost.id.map(|id| id.to_string()) })
                .collect(),
            healed: keys.healed(),
        }
    }
}
