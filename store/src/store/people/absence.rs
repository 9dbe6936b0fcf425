//! Erasure of people without a visit for a configured time.
//!
//! Who was seen is kept in RAM and written into the sealed profile now and then, of all of them together: what a
//! profile record in the journal tells of somebody who was erased since is the week in which they were there, and not the visit.
//! The time of a person begins when the policy first looks at them, not when they were enrolled: switched on, it erases
//! nobody who came every day.

use std::time::Duration;

use gatehouse_model::{KeyId, Timestamp};

use super::super::StoreError;
use super::{People, profile_record};
use crate::clock::is_plausible;
use crate::people::{Member, Profile};

/// How far what is written down of a visit lies behind: so much later is a person forgotten.
pub const SEEN_GRAIN: Duration = Duration::from_secs(7 * 86_400);

/// What is to be done about a person.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    /// They were there then.
    Note(Timestamp),
    Erase,
}

impl People {
    /// Writes down who was at the door, where that is not written yet and people are of this appliance alone. Returns
    /// how many were.
    ///
    /// # Errors
    /// [`StoreError`] where journal or keys failed.
    pub async fn note_visits(&self) -> Result<usize, StoreError> {
        if self.core.deployment().is_some() {
            return Ok(0);
        }
        // A clock that was never set must not take back what is written down.
        let now = Some(self.core.time()).filter(|now| is_plausible(*now));
        let Some(now) = now else { return Ok(0) };
        let (noted, _) = self.look_after(None, now).await?;
        Ok(noted)
    }

    /// As [`People::note_visits`]; erases whoever has not been there for so long, and not been changed. Returns how many were
    /// noted, and erased.
    pub(in crate::store) async fn look_after(
        &self,
        patience: Option<Duration>,
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
            match due(&profile, last, patience, now) {
                Due::Nothing => {}
                Due::Note(at) => {
                    self.note(key_id, Profile { seen_at: at, ..profile }).await?;
                    noted += 1;
                }
                Due::Erase => {
                    self.erase_member(key_id, &profile.person.id, self.core.stamp()).await?;
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

fn due(profile: &Profile, last: Option<Timestamp>, patience: Option<Duration>, now: Timestamp) -> Due {
    let Profile { seen_at, .. } = *profile;
    // Never looked at, or noted by a clock that was ahead: the time begins now.
    let Some(last) = last.filter(|_| seen_at.0 > 0 && seen_at <= now) else { return Due::Note(now) };
    match patience {
        Some(patience) if last.is_older_than(patience.saturating_add(SEEN_GRAIN), now) => Due::Erase,
        _ if seen_at.is_older_than(SEEN_GRAIN, last) => Due::Note(last),
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
    const MONTH: Duration = DAY.saturating_mul(30);

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
    async fn who_stays_away_is_forgotten_and_who_comes_is_not_also_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = open(folder.path(), "m", 4);
        store.people.enroll("comes", "Comes", vec![encoding(0)]).await.unwrap();
        store.people.enroll("stays-away", "Stays Away", vec![encoding(1)]).await.unwrap();
        let begin = Timestamp::now();
        let night = |days: u32| later(begin, days);

        // Long after the enrolment: the policy looks at them for the first time.
        assert_eq!(store.people.look_after(Some(MONTH), night(400)).await.unwrap(), (2, 0));
        comes(&store, 0, night(430)).await;
        assert_eq!(store.people.look_after(Some(MONTH), night(431)).await.unwrap(), (1, 0));
        store.close();
        drop(store);

        let (store, _) = open(folder.path(), "m", 4);
        assert_eq!(store.people.look_after(Some(MONTH), night(436)).await.unwrap(), (0, 0));
        assert_eq!(store.people.look_after(None, night(438)).await.unwrap(), (0, 0), "it erases nobody");
        assert_eq!(store.people.look_after(Some(MONTH), night(438)).await.unwrap(), (0, 1));
        assert_eq!(ids(&store), ["comes"]);
        let face = ProbeFace { encoding: encoding(1), quality: None };
        let answer = store.galleries.identify(&visit("v").key.camera, &[face]);
        assert_eq!(answer.faces[0].outcome, Outcome::Stranger);
    }

    #[test]
    fn a_clock_that_was_ahead_erases_nobody_and_keeps_nobody_for_ever() {
        let person = Person { id: "a".into(), name: "A".into() };
        let (now, ahead) = (Timestamp(1_800_000_000_000_000), Timestamp(3_400_000_000_000_000));
        let noted_ahead = Profile { seen_at: ahead, ..Profile::new(person, ahead) };
        assert_eq!(due(&noted_ahead, None, Some(MONTH), now), Due::Note(now));
        let seen_now = Profile { seen_at: now, ..noted_ahead };
        assert_eq!(due(&seen_now, Some(now), Some(MONTH), later(now, 37)), Due::Nothing);
        assert_eq!(due(&seen_now, Some(now), Some(MONTH), later(now, 38)), Due::Erase);
    }
}
