//! Terms of an enrollment: consent with an end, suspension, and an erasure that is ordered for later.
//!
//! Each term has a stamp, and the later one wins, on appliances and centrally (`gatehouse.merge_person_terms`). Of two
//! terms with equal stamps the greater one wins, so that all appliances agree.

use std::time::Duration;

use gatehouse_model::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::store::OrderedBy;

/// Longest reference of a consent and longest reason of a suspension, in bytes.
pub const TERM_TEXT_BYTES_MAX: usize = 256;

/// A term with the stamp of its last change. The order of the fields defines which of two terms wins.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Term {
    /// Stamp of the last change. 0: never changed.
    pub changed_at: Timestamp,
    /// Reference of the consent, reason of the suspension, or who ordered the erasure.
    pub text: Option<String>,
    /// End of the consent, begin of the suspension, or time of the erasure.
    pub time: Option<Timestamp>,
}

/// Which term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TermKind {
    /// Reference and end of the consent.
    Consent,
    /// Reason and begin of the suspension.
    Suspension,
    /// An erasure after the grace period.
    Erasure,
}

impl TermKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Consent, Self::Suspension, Self::Erasure];

    /// Its name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consent => "consent",
            Self::Suspension => "suspension",
            Self::Erasure => "erasure",
        }
    }

    /// The kind of a name in the database.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// The terms of a person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Reference and end of the consent.
    pub consent: Term,
    /// Reason and begin of the suspension.
    pub suspension: Term,
    /// The erasure that is ordered, with its time and who ordered it.
    pub erasure: Term,
}

impl Terms {
    /// A term.
    pub fn term(&self, kind: TermKind) -> &Term {
        match kind {
            TermKind::Consent => &self.consent,
            TermKind::Suspension => &self.suspension,
            TermKind::Erasure => &self.erasure,
        }
    }

    /// A term, to be changed.
    pub fn term_mut(&mut self, kind: TermKind) -> &mut Term {
        match kind {
            TermKind::Consent => &mut self.consent,
            TermKind::Suspension => &mut self.suspension,
            TermKind::Erasure => &mut self.erasure,
        }
    }

    /// Whether the person is answered as a stranger: suspended, or in the grace period of an erasure.
    pub fn is_stranger(&self) -> bool {
        self.suspension.time.is_some() || self.erasure.time.is_some()
    }

    /// When the person is erased: at the end of the consent or of the grace period.
    pub fn ends_at(&self) -> Option<Timestamp> {
        self.consent.time.into_iter().chain(self.erasure.time).min()
    }

    /// Orders an erasure after a grace period. An order that exists keeps its time.
    pub fn order_erasure(&mut self, by: OrderedBy, now: Timestamp, grace: Duration) {
        let micros = i64::try_from(grace.as_micros()).unwrap_or(i64::MAX);
        let time = self.erasure.time.unwrap_or(Timestamp(now.0.saturating_add(micros)));
        self.erasure = Term { changed_at: now, text: Some(by.to_string()), time: Some(time) };
    }

    /// Who ordered the erasure at [`Terms::ends_at`].
    pub fn ends_by(&self) -> OrderedBy {
        match self.erasure.time {
            Some(time) if self.ends_at() == Some(time) => {
                let by = self.erasure.text.as_deref().and_then(|text| text.parse().ok());
                by.unwrap_or(OrderedBy::Central)
            }
            _ => OrderedBy::Expiry,
        }
    }

    /// The latest stamp.
    pub fn newest_stamp(&self) -> Timestamp {
        self.consent.changed_at.max(self.suspension.changed_at).max(self.erasure.changed_at)
    }

    /// Applies a consent that was given at `now`. Parts that are not given stay as they are. Returns whether anything
    /// changed.
    pub fn give(&mut self, given: &Consent, now: Timestamp) -> bool {
        let text = given.reference.clone().or_else(|| self.consent.text.clone());
        let time = given.until.or(self.consent.time);
        if text == self.consent.text && time == self.consent.time {
            return false;
        }
        self.consent = Term { changed_at: now, text, time };
        true
    }
}

/// A consent as it is given with an enrollment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consent {
    /// The operator's reference of the consent, such as the number of a form. None: as before.
    pub reference: Option<String>,
    /// When the person is erased. None: as before.
    pub until: Option<Timestamp>,
}

/// Why a term is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TermFault {
    /// The settings require a consent, and there is no reference.
    #[error(
        "privacy.consent is \"required\": name the consent of this person with --consent REF, such as the number of \
         the signed form"
    )]
    NoConsent,
    /// The reference or the reason is invalid.
    #[error(
        "reference of a consent, reason of a suspension: 1 to {TERM_TEXT_BYTES_MAX} bytes without control characters \
         or spaces at the ends"
    )]
    Text,
    /// The end is in the past.
    #[error("--until is in the past: name a later date")]
    Past,
}

/// Validates a reference or a reason.
///
/// # Errors
/// [`TermFault::Text`].
pub fn check_text(text: Option<&str>) -> Result<(), TermFault> {
    let fits = text.is_none_or(|text| crate::people::fits(text, TERM_TEXT_BYTES_MAX));
    if fits { Ok(()) } else { Err(TermFault::Text) }
}

impl Consent {
    /// Validates a consent that is given at `now`.
    ///
    /// # Errors
    /// [`TermFault::Text`] or [`TermFault::Past`].
    pub fn check(&self, now: Timestamp) -> Result<(), TermFault> {
        check_text(self.reference.as_deref())?;
        if self.until.is_some_and(|until| until <= now) { Err(TermFault::Past) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_consent_that_are_not_given_stay() {
        let mut terms = Terms::default();
        let (first, second) = (Timestamp(10), Timestamp(20));
        assert!(!terms.give(&Consent::default(), first));
        assert!(terms.give(&Consent { reference: Some("form 7".into()), until: Some(Timestamp(99)) }, first));
        assert!(!terms.give(&Consent::default(), second), "nothing is given");
        assert!(terms.give(&Consent { reference: None, until: Some(Timestamp(200)) }, second));
        let now = Term { changed_at: second, text: Some("form 7".into()), time: Some(Timestamp(200)) };
        assert_eq!(terms.consent, now);
    }

    #[test]
    fn an_ordered_erasure_makes_a_stranger_and_keeps_its_time() {
        let (day, now) = (Duration::from_secs(86_400), Timestamp(10));
        let mut terms = Terms::default();
        terms.order_erasure(OrderedBy::User(1000), now, day);
        let due = Timestamp(now.0 + 86_400_000_000);
        assert!(terms.is_stranger());
        assert_eq!((terms.ends_at(), terms.ends_by()), (Some(due), OrderedBy::User(1000)));
        terms.order_erasure(OrderedBy::Central, Timestamp(20), day * 9);
        assert_eq!((terms.ends_at(), terms.ends_by()), (Some(due), OrderedBy::Central), "not later");
        terms.consent.time = Some(Timestamp(15));
        assert_eq!((terms.ends_at(), terms.ends_by()), (Some(Timestamp(15)), OrderedBy::Expiry));
    }

    #[test]
    fn an_end_in_the_past_and_a_bad_reference_are_refused() {
        let until = |at| Consent { reference: None, until: Some(Timestamp(at)) };
        assert_eq!(until(5).check(Timestamp(5)), Err(TermFault::Past));
        assert_eq!(until(6).check(Timestamp(5)), Ok(()));
        for bad in ["", " a", "a\n", &"x".repeat(TERM_TEXT_BYTES_MAX + 1)] {
            let consent = Consent { reference: Some(bad.to_owned()), until: None };
            assert_eq!(consent.check(Timestamp(0)), Err(TermFault::Text), "{bad:?}");
        }
    }
}
