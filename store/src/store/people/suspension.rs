//! Suspension: a person is answered as a stranger until they are resumed. Nothing is destroyed.
//!
//! A suspended person stays in the gallery, so that a face near to theirs does not match another person.

use super::super::{Refusal, RequestError};
use super::privacy::Privacy;
use crate::people::{PersonSummary, Profile};
use crate::terms::{Term, check_text};

impl Privacy {
    /// Suspends a person. Answers change immediately, on other appliances after the next synchronization. A suspended
    /// person gets the new reason.
    ///
    /// # Errors
    /// A refusal for an unknown id or a bad reason.
    pub async fn suspend(&self, id: &str, reason: Option<&str>) -> Result<PersonSummary, RequestError> {
        check_text(reason)?;
        self.change_suspension(id, |before| {
            let now = self.people.core.stamp();
            let reason = reason.map(str::to_owned);
            Term { changed_at: now, text: reason, time: before.time.or(Some(now)) }
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
        self.change_suspension(id, |_| Term { changed_at: self.people.core.stamp(), text: None, time: None })
            .await
    }

    async fn change_suspension(
        &self,
        id: &str,
        change: impl FnOnce(&Term) -> Term + Send,
    ) -> Result<PersonSummary, RequestError> {
        let unknown = || Refusal::UnknownPerson(id.to_owned());
        let _lock = self.people.core.people_lock.lock().await;
        let (key_id, mut profile) = {
            let people = self.people.core.people();
            let key_id = people.key_of(id).ok_or_else(unknown)?;
            (key_id, people.member(&key_id).ok_or_else(unknown)?.profile.clone())
        };
        profile.terms.suspension = change(&profile.terms.suspension);
        let updated_at = profile.terms.suspension.changed_at;
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
}
