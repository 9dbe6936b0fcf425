//! Erasure of people without a visit for a configured time.
//!
//! The last visit of each person is kept in memory and written into the sealed profile about once a week. The
//! profile records of a person who was erased since therefore reveal at most the week of a visit, not the
//! visit itself. The time of a person starts when the policy first examines them, not at enrollment.
//! Otherwise enabling the policy would erase people who came every day.

use std::time::Duration;

use gatehouse_model::{KeyId, OrderId, Timestamp};
use gatehouse_receipt::By;

use super::super::StoreError;
use super::erasure::Ordered;
use super::{People, profile_record};
use crate::clock::is_plausible;
use crate::people::{Member, Profile};

/// Maximum lag of the recorded last visit; a person is erased later by this time.
pub const LAST_SEEN_RESOLUTION: Duration = Duration::from_secs(7 * 86_400);

/// The action that is due for a person.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    /// Record this time as their last visit.
    Note(Timestamp),
    Erase,
}

impl People {
    /// Records the last visits that are not recorded yet, unless people are shared with other appliances.
    /// Returns how many were recorded.
    ///
    /// # Errors
    /// [`StoreError`] where journal or keys failed.
    pub async fn note_visits(&self) -> Result<usize, StoreError> {
        if self.core.deployment().is_some() {
            return Ok(0);
        }
        // A clock that was never set must not overwrite recorded visits.
        let now = Some(self.core.time()).filter(|now| is_plausible(*now));
        let Some(now) = now else { return Ok(0) };
        let (noted, _) = self.update_absence(None, now).await?;
        Ok(noted)
    }

    /// As [`People::note_visits`]; also erases people without a visit or change for `absence_max`. Returns
    /// how many visits were recorded and how many people were erased.
    pub(in crate::store) async fn update_absence(
        &self,
        absence_max: Option<Duration>,
        now: Timestamp,
    ) -> Result<(usize, usize), StoreError> {
        let _lock = self.core.people_lock.lock().await;
        let people = self.core.people().last_there(now);
        let (mut noted, mut erased) = (0, 0);
        for (key_id, last) in people {
            let Some(profile) = self.core.people().member(&key_id).map(|member| member.profile.clone())
            else {
                continue;
            };
            match due(&profile, last, absence_max, now) {
                Due::Nothing => {}
                Due::Note(at) => {
                    self.note(key_id, Profile { seen_at: at, ..profile }).await?;
                    noted += 1;
                }
                Due::Erase => {
                    self.erase_member(Ordered {
                        order: OrderId::random(),
                        person: key_id,
                        id: &profile.person.id,
                        at: self.core.stamp(),
                        by: By::Retention,
                    })
                    .await?;
                    erased += 1;
                }
            }
        }
        Ok((noted, erased))
    }

    async fn note(&self, key_id: KeyId, profile: Profile) -> Result<(), StoreError> {
        let key = self.core.keys.key(&key_id)?;
        self.core.change(&profile_record(key_id, &key, &profile)?).await?;
        self.core.people_mut().put(key_id, Member { profile, key });
        Ok(())
    }
}

fn due(profile: &Profile, last: Option<Timestamp>, absence_max: Option<Duration>, now: Timestamp) -> Due {
    let Profile { seen_at, .. } = *profile;
    // Never examined, or recorded by a clock that was ahead: the time starts now.
    let Some(last) = last.filter(|_| seen_at.0 > 0 && seen_at <= now) else { return Due::Note(now) };
    match absence_max {
        Some(limit) if last.is_older_than(limit.saturating_add(LAST_SEEN_RESOLUTION), now) => Due::Erase,
        _ if seen_at.is_older_than(LAST_SEEN_RESOLUTION, last) => Due::Note(last),
        _ => Due::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{open, visit};
    use crate::store::{ProbeFace, Store};
    use gatehouse_gallery::Encoding;
    use gatehouse_model::{Outcome, Person};

    const DAY: Duration = Duration::from_secs(86_400);
    const ABSENCE_AGE_MAX: Duration = DAY.saturating_mul(30);

    fn later(than: Timestamp, days: u32) -> Timestamp {
        Timestamp(than.0 + i64::try_from((DAY * days).as_micros()).unwrap())
    }

    fn encoding(of: usize) -> Encoding {
        let mut values = vec![0.0; 4];
        values[of] = 1.0;
        Encoding::new(values, 4).unwrap()
    }

    async fn comes(store: &Store, of: usize, at: Timestamp) {
        let event = gatehouse_model::Event { received_at: at, ..visit(&format!("v{}", at.0)) };
        let answer = store
            .galleries
            .identify(&event.key.camera, &[ProbeFace { encoding: encoding(of), quality: None }]);
        assert_eq!(answer.faces[0].outcome, Outcome::Match);
        store.events.record(event, answer).await.unwrap().await.unwrap();
    }

    fn ids(store: &Store) -> Vec<String> {
        store.people.list().into_iter().map(|person| person.id).collect()
    }

    #[tokio::test]
    async fn absent_people_are_erased_and_visitors_are_not_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = open(folder.path(), "m", 4);
        store.people.enroll("comes", "Comes", vec![encoding(0)]).await.unwrap();
        store.people.enroll("stays-away", "Stays Away", vec![encoding(1)]).await.unwrap();
        let begin = Timestamp::now();
        let night = |days: u32| later(begin, days);

        // Long after the enrollment: the policy examines them for the first time.
        assert_eq!(store.people.update_absence(Some(ABSENCE_AGE_MAX), night(400)).await.unwrap(), (2, 0));
        comes(&store, 0, night(430)).await;
        assert_eq!(store.people.update_absence(Some(ABSENCE_AGE_MAX), night(431)).await.unwrap(), (1, 0));
        store.close();
        drop(store);

        let (store, _) = open(folder.path(), "m", 4);
        assert_eq!(store.people.update_absence(Some(ABSENCE_AGE_MAX), night(436)).await.unwrap(), (0, 0));
        assert_eq!(store.people.update_absence(None, night(438)).await.unwrap(), (0, 0), "no limit");
        assert_eq!(store.people.update_absence(Some(ABSENCE_AGE_MAX), night(438)).await.unwrap(), (0, 1));
        assert_eq!(ids(&store), ["comes"]);
        let face = ProbeFace { encoding: encoding(1), quality: None };
        let answer = store.galleries.identify(&visit("v").key.camera, &[face]);
        assert_eq!(answer.faces[0].outcome, Outcome::Stranger);
    }

    #[test]
    fn a_clock_that_was_ahead_neither_erases_a_person_nor_prevents_erasure() {
        let person = Person { id: "a".into(), name: "A".into() };
        let (now, ahead) = (Timestamp(1_800_000_000_000_000), Timestamp(3_400_000_000_000_000));
        let noted_ahead = Profile { seen_at: ahead, ..Profile::new(person, ahead) };
        assert_eq!(due(&noted_ahead, None, Some(ABSENCE_AGE_MAX), now), Due::Note(now));
        let seen_now = Profile { seen_at: now, ..noted_ahead };
        assert_eq!(due(&seen_now, Some(now), Some(ABSENCE_AGE_MAX), later(now, 37)), Due::Nothing);
        assert_eq!(due(&seen_now, Some(now), Some(ABSENCE_AGE_MAX), later(now, 38)), Due::Erase);
    }
}
