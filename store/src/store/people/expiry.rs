//! Erasure of people at the end of their consent, or of the grace period of an ordered erasure.
//!
//! Constraints: nothing is erased while the time is not known. Every appliance erases a shared person by itself, under
//! the same order. The erasure has the time of the end, so a person who is enrolled again later is not erased, even if
//! an appliance that was offline erases the former person only then.

use gatehouse_model::{OrderId, Timestamp};

use super::super::StoreError;
use super::super::events::clock::Ages;
use super::erasure::Ordered;
use super::privacy::Privacy;
use crate::people::Profile;

impl Privacy {
    /// Erases the people whose consent or grace period has ended. `clock_is_set` is whether the wall clock is reliable; without it, a
    /// reference time of this boot is needed. Returns how many were erased.
    ///
    /// # Errors
    /// [`StoreError`] where journal or keys failed; the next call continues.
    pub async fn erase_expired(&self, clock_is_set: bool) -> Result<usize, StoreError> {
        // Both are quick. The clock's state is read only if a person is due.
        if self.people.core.people().expired(Timestamp::now()).is_empty() {
            return Ok(0);
        }
        let ages = Ages::read(&self.people.core)?;
        match ages.wall_is_right(clock_is_set || ages.has_reference()) {
            true => self.erase_expired_at(Timestamp::now()).await,
            false => Ok(0),
        }
    }

    async fn erase_expired_at(&self, now: Timestamp) -> Result<usize, StoreError> {
        let _lock = self.people.core.people_lock.lock().await;
        let expired = self.people.core.people().expired(now);
        for (person, profile) in &expired {
            let Profile { person: named, enrolled_at, terms, .. } = profile;
            let at = terms.ends_at().unwrap_or(now).max(*enrolled_at);
            let order = match self.people.core.deployment() {
                Some(key) => key.expiry_order(&named.id, *enrolled_at, at),
                None => OrderId::random(),
            };
            self.people
                .erase_member(Ordered { order, person: *person, id: &named.id, at, by: terms.ends_by() })
                .await?;
        }
        Ok(expired.len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gatehouse_gallery::Encoding;

    use super::*;
    use crate::clock::{ClockSource, Reading, ReferenceTime};
    use crate::store::testing::open;
    use crate::store::{Enrollment, RequestError, Store};
    use crate::terms::Consent;

    const HOUR: i64 = 3_600_000_000;

    fn encoding(of: usize) -> Encoding {
        let mut values = vec![0.0; 4];
        values[of] = 1.0;
        Encoding::new(values, 4).unwrap()
    }

    async fn enroll(store: &Store, id: &str, of: usize, consent: Consent) -> Result<(), RequestError> {
        let encodings = vec![encoding(of)];
        let enrollment = Enrollment { id, name: id, encodings, gallery: None, force: false, consent };
        store.people.enroll_reviewed(enrollment).await.map(drop)
    }

    fn until(at: i64) -> Consent {
        Consent { reference: Some("form 7".into()), until: Some(Timestamp(at)) }
    }

    fn ids(store: &Store) -> Vec<String> {
        store.people.list().into_iter().map(|person| person.id).collect()
    }

    #[tokio::test]
    async fn a_person_is_erased_once_at_the_end_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = open(folder.path(), "m", 4);
        let now = Timestamp::now().0;
        enroll(&store, "anna", 0, until(now + HOUR)).await.unwrap();
        enroll(&store, "bert", 1, Consent::default()).await.unwrap();
        assert!(enroll(&store, "carl", 2, until(now - 1)).await.is_err(), "the end is in the past");
        store.close();
        drop(store);
        let (store, _) = open(folder.path(), "m", 4);
        let anna = store.people.get("anna").unwrap();
        assert_eq!(anna.consent.as_deref(), Some("form 7"));
        assert_eq!(anna.expires_at, Some(Timestamp(now + HOUR).to_string()));
        assert_eq!(store.privacy.erase_expired_at(Timestamp(now + HOUR - 1)).await.unwrap(), 0);
        assert_eq!(ids(&store), ["anna", "bert"]);
        assert_eq!(store.privacy.erase_expired_at(Timestamp(now + HOUR)).await.unwrap(), 1);
        assert_eq!(store.privacy.erase_expired_at(Timestamp(now + HOUR)).await.unwrap(), 0);
        assert_eq!(ids(&store), ["bert"]);
        store.close();
    }

    #[tokio::test]
    async fn a_later_end_of_the_same_person_is_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = open(folder.path(), "m", 4);
        let now = Timestamp::now().0;
        enroll(&store, "anna", 0, until(now + HOUR)).await.unwrap();
        // The same sample again: nothing is added, but the consent changes.
        enroll(&store, "anna", 0, Consent { reference: None, until: Some(Timestamp(now + 2 * HOUR)) })
            .await
            .unwrap();
        assert_eq!(store.people.get("anna").unwrap().consent.as_deref(), Some("form 7"));
        assert_eq!(store.privacy.erase_expired_at(Timestamp(now + HOUR)).await.unwrap(), 0);
        assert_eq!(store.privacy.erase_expired_at(Timestamp(now + 2 * HOUR)).await.unwrap(), 1);
        store.close();
    }

    #[tokio::test]
    async fn nothing_is_erased_while_the_clock_is_unsure() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = open(folder.path(), "m", 4);
        let soon = Timestamp::now().0 + 100_000;
        enroll(&store, "anna", 0, until(soon)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(store.privacy.erase_expired(false).await.unwrap(), 0, "no source of time");
        // A reference time that contradicts the wall clock by a day.
        let reading = Reading::now();
        store.events.note_clock(reading).await.unwrap();
        let off = Timestamp(reading.wall.0 - 24 * HOUR);
        let reference = ReferenceTime {
            boot: reading.boot,
            uptime: reading.uptime,
            time: off,
            uncertainty: 10_000,
            source: ClockSource::Rows,
        };
        assert!(store.events.learn_time(reference).await.unwrap());
        assert_eq!(store.privacy.erase_expired(true).await.unwrap(), 0, "the wall clock is ahead");
        assert_eq!(ids(&store), ["anna"]);
        store.close();
    }

    #[tokio::test]
    async fn without_a_reference_no_person_is_enrolled_where_it_is_required() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = open(folder.path(), "m", 4);
        enroll(&store, "before", 3, Consent::default()).await.unwrap();
        store.privacy.require_consent();
        let refused = enroll(&store, "anna", 0, Consent::default()).await.unwrap_err().to_string();
        assert!(refused.contains("privacy.consent") && refused.contains("--consent REF"), "{refused}");
        assert!(store.people.enroll("anna", "Anna", vec![encoding(0)]).await.is_err());
        assert!(enroll(&store, "before", 2, Consent::default()).await.is_err(), "also for more samples");
        assert!(enroll(&store, "before", 3, Consent::default()).await.is_err(), "also for repeated ones");
        let given = Consent { reference: Some("form 8".into()), until: None };
        enroll(&store, "anna", 0, given.clone()).await.unwrap();
        enroll(&store, "anna", 1, Consent::default()).await.unwrap();
        enroll(&store, "before", 3, given).await.unwrap();
        assert_eq!(store.people.get("before").unwrap().consent.as_deref(), Some("form 8"));
        store.close();
    }
}
