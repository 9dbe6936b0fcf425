//! The handle for the rights of people: consent, suspension, end of the consent, export.

use std::sync::atomic::Ordering;

use super::People;

/// Consent, suspension, end of the consent, and export of people. Cheap to clone.
#[derive(Clone)]
pub struct Privacy {
    pub(in crate::store) people: People,
}

impl Privacy {
    pub(in crate::store) fn new(people: &People) -> Self {
        Self { people: people.clone() }
    }

    /// From now on, a person is enrolled only with the reference of a consent.
    pub fn require_consent(&self) {
        self.people.core.consent_required.store(true, Ordering::Relaxed);
    }
}
