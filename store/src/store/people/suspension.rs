//! Suspension, and the grace period of an erasure: a person is answered as a stranger until they are resumed, or the
//! erasure is cancelled. Nothing is destroyed.
//!
//! A suspended person stays in the gallery, so that a face near to theirs does not match another person.

use std::time::Duration;

use gatehouse_model::Timestamp;

use super::super::{OrderedBy, Refusal, RequestError};
use super::privacy::Privacy;
use crate::people::{PersonSummary, Profile};
use crate::terms::{Term, Terms, check_text};

impl Privacy {
    /// Suspends a person. Answers change immediately, on other appliances after the next synchronization. A suspended
    /// person gets the new reason.
    ///
    /// # Errors
    /// A refusal for an unknown id or a bad reason.
    pub async fn suspend(&self, id: &str, reason: Option<&str>) -> Result<PersonSummary, RequestError> {
        check_text(reason)?;
        self.change_terms(id, |terms, now| {
            let time = terms.suspension.time.or(Some(now));
            terms.suspension = Term { changed_at: now, text: reason.map(str::to_owned), time };
        })
        .await
    }

    /// Ends a suspension.
    ///
    /// # Errors
    /// A refusal for an unknown id, and for a person who is not suspended.
    pub async fn resume(&self, id: &str) -> Result<PersonSummary, RequestError> {
        if self.people.get(id).is_some_and(|person| person.suspended_at.is_none()) {
            return Err(Refusal::NotSuspended(id.to_owned()).into());
        }
        self.change_terms(id, |terms, now| terms.suspension = Term { changed_at: now, ..Term::default() })
            .await
    }

    /// Orders the erasure of a person after a grace period. Until then the person is answered as a stranger, and
    /// [`Privacy::restore`] cancels the order. A second order changes nothing but its author.
    ///
    /// # Errors
    /// A refusal for an unknown id.
    pub async fn order_erasure(
        &self,
        id: &str,
        by: OrderedBy,
        grace: Duration,
    ) -> Result<PersonSummary, RequestError> {
        self.change_terms(id, |terms, now| terms.order_erasure(by, now, grace)).await
    }

    /// Cancels an erasure in its grace period.
    ///
    /// # Errors
    /// A refusal for an unknown id, and for a person whose erasure is not ordered.
    pub async fn restore(&self, id: &str) -> Result<PersonSummary, RequestError> {
        if self.people.get(id).is_some_and(|person| !person.erasure_ordered) {
            return Err(Refusal::NotOrdered(id.to_owned()).into());
        }
        self.change_terms(id, |terms, now| terms.erasure = Term { changed_at: now, ..Term::default() }).await
    }

    async fn change_terms(
        &self,
        id: &str,
        change: impl FnOnce(&mut Terms, Timestamp) + Send,
    ) -> Result<PersonSummary, RequestError> {
        let unknown = || Refusal::UnknownPerson(id.to_owned());
        let _lock = self.people.core.people_lock.lock().await;
        let (key_id, mut profile) = {
            let people = self.people.core.people();
            let key_id = people.key_of(id).ok_or_else(unknown)?;
            (key_id, people.member(&key_id).ok_or_else(unknown)?.profile.clone())
        };
        let updated_at = self.people.core.stamp();
        change(&mut profile.terms, updated_at);
        self.people.put_person(key_id, Profile { updated_at, ..profile }, Vec::new()).await?;
        // A face that is kept for a correction names the person.
        self.people.galleries.forget_matches_of(id);
        Ok(self.people.get(id).ok_or_else(unknown)?)
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_gallery::Encoding;
    use gatehouse_model::Outcome;

    use super::*;
    use crate::store::testing::{open, visit};
    use crate::store::{ProbeFace, Store};

    fn encoding(of: usize) -> Encoding {
        let mut values = vec![0.0; 4];
        values[of] = 1.0;
        Encoding::new(values, 4).unwrap()
    }

    fn outcome(store: &Store, of: usize) -> Outcome {
        let face = ProbeFace { encoding: encoding(of), quality: None };
        let answer = store.galleries.identify(&visit("v").key.camera, &[face]);
        let face = &answer.faces[0];
        assert_eq!(face.person.is_some(), face.outcome == Outcome::Match);
        assert!(face.outcome == Outcome::Match || face.distance.is_none_or(|near| near > face.threshold));
        face.outcome
    }

    #[tokio::test]
    async fn a_suspended_person_is_a_stranger_across_restarts_until_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = open(folder.path(), "m", 4);
        store.people.enroll("anna", "Anna", vec![encoding(0)]).await.unwrap();
        store.people.enroll("bert", "Bert", vec![encoding(1)]).await.unwrap();
        let face = ProbeFace { encoding: encoding(0), quality: None };
        let earlier = store.galleries.identify(&visit("v").key.camera, &[face]);
        assert!(store.galleries.still_valid(&earlier));
        let anna = store.privacy.suspend("anna", Some("objection of 1 May")).await.unwrap();
        assert_eq!(anna.suspension_reason.as_deref(), Some("objection of 1 May"));
        assert!(!store.galleries.still_valid(&earlier), "a repeated answer does not name her either");
        assert_eq!((outcome(&store, 0), outcome(&store, 1)), (Outcome::Stranger, Outcome::Match));
        store.close();
        drop(store);

        let (store, report) = open(folder.path(), "m", 4);
        assert_eq!(report.damaged, Vec::<String>::new());
        assert_eq!((outcome(&store, 0), outcome(&store, 1)), (Outcome::Stranger, Outcome::Match));
        assert_eq!(store.people.get("anna").unwrap().suspended_at, anna.suspended_at);
        assert_eq!(store.people.get("anna").unwrap().samples, 1, "templates are kept");
        let resumed = store.privacy.resume("anna").await.unwrap();
        assert_eq!((resumed.suspended_at, resumed.suspension_reason), (None, None));
        assert_eq!(outcome(&store, 0), Outcome::Match);
        assert!(store.privacy.resume("anna").await.is_err(), "she is not suspended");
        assert!(store.privacy.suspend("carl", None).await.is_err());
        assert!(store.privacy.suspend("anna", Some("")).await.is_err());
        store.close();
    }

    #[tokio::test]
    async fn an_ordered_erasure_can_be_cancelled_until_its_time_and_is_carried_out_then() {
        const DAY: Duration = Duration::from_secs(86_400);
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = open(folder.path(), "m", 4);
        store.people.enroll("anna", "Anna", vec![encoding(0)]).await.unwrap();
        let ordered = store.privacy.order_erasure("anna", OrderedBy::User(7), DAY).await.unwrap();
        assert!(ordered.erasure_ordered && ordered.expires_at.is_some() && ordered.suspended_at.is_none());
        assert_eq!(outcome(&store, 0), Outcome::Stranger);
        let restored = store.privacy.restore("anna").await.unwrap();
        assert_eq!((restored.erasure_ordered, restored.expires_at), (false, None));
        assert_eq!(outcome(&store, 0), Outcome::Match);
        assert!(store.privacy.restore("anna").await.is_err());
        assert!(store.privacy.order_erasure("carl", OrderedBy::User(7), DAY).await.is_err());
        store.privacy.order_erasure("anna", OrderedBy::User(7), Duration::from_millis(20)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(40)).await;
        assert_eq!(store.privacy.erase_expired(true).await.unwrap(), 1);
        assert!(store.people.get("anna").is_none());
        store.close();
    }
}
