//! People both ways: what an appliance knows of the enrolled goes up, what others know comes down.
//!
//! The central side merges in functions of its own (`sync/central/sql/0002_people.up.sql`); each may be called again, so people are
//! given before the transaction of their batch, and nobody else waits for a slow line. What comes down is numbered in the
//! order in which it became visible there; the number taken in last is in the journal. Crash story: what was given
//! or taken and not noted is given or taken once more and changes nothing.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use gatehouse_central::error::SyncError;
use gatehouse_central::rows::shared_people::{Known, PEOPLE_MAX, by_person, give};
use gatehouse_central::rows::{BATCH_TIMEOUT, CALL_TIMEOUT, Link, timed, to_i64, to_timestamp, to_u64};
use gatehouse_gallery::transform::Protected;
use gatehouse_model::Timestamp;
use gatehouse_store::deployment::Reference;
use gatehouse_store::store::{People, PeopleCursor, Shared, SharedSample, StoreError};
use tokio_postgres::Row;
use uuid::Uuid;

/// Gives everybody, once per appliance and database: they may have been enrolled before people were shared.
pub(crate) async fn give_all(link: &Link, device: &str, people: &People) -> Result<(), SyncError> {
    const DOING: &str = "give people to Postgres";
    let query = "select people_sent_at is null from gatehouse.device_cursors where device_id = $1";
    let row = timed(DOING, CALL_TIMEOUT, link.client.query_opt(query, &[&device])).await?;
    if !row.is_some_and(|row| row.get(0)) {
        return Ok(());
    }
    for some in people.keys().chunks(PEOPLE_MAX) {
        let people: Vec<Shared> = some.iter().filter_map(|key| people.shared(key)).collect();
        give(link, device, &people.iter().collect::<Vec<_>>()).await?;
    }
    let note = "select gatehouse.confirm_people_sent($1)";
    timed(DOING, CALL_TIMEOUT, link.client.execute(note, &[&device])).await.map(drop)
}

/// What was taken in.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Changes of people that came.
    pub(crate) people: u64,
    /// Whether more is there.
    pub(crate) more: bool,
    /// People who were left out, in words.
    pub(crate) set_aside: Vec<String>,
}

/// Takes in the next people that changed at the central side.
pub(crate) async fn take(link: &Link, device: &str, people: &People) -> Result<Taken, SyncError> {
    const DOING: &str = "take people from Postgres";
    const AFTER: &str = "select change_no, id, erased_at, enrolled_at, named_at, metadata, queried_at from gatehouse.people_changed_after($1, $2, $3)";
    let before = people.cursor().map_err(SyncError::store(DOING))?;
    let most = i32::try_from(PEOPLE_MAX).unwrap_or(i32::MAX);
    let rows = timed(DOING, BATCH_TIMEOUT, link.client.query(AFTER, &[&device, &to_i64(before.upto), &most]))
        .await?;
    let changes: Vec<Came> = rows.iter().map(Came::new).collect();
    let mut taken =
        Taken { people: changes.len() as u64, more: changes.len() >= PEOPLE_MAX, set_aside: Vec::new() };
    let mut now = before;
    if !changes.is_empty() {
        let alive: Vec<Uuid> =
            changes.iter().filter(|one| one.metadata.is_some()).map(|one| one.person).collect();
        let query = "select person, model, template from gatehouse.templates_of($1, $2)";
        let rows = timed(DOING, BATCH_TIMEOUT, link.client.query(query, &[&device, &alive])).await?;
        let mut templates = by_person(&rows);
        let has_erasures = changes.iter().any(|change| change.erased_at.is_some());
        let ids = if has_erasures { people.ids_by_reference() } else { HashMap::new() };
        for change in &changes {
            taken.set_aside.extend(change.take(people, &ids, &mut templates).await?);
            now = PeopleCursor { upto: change.number, newest: now.newest.max(change.stamp()) };
        }
        people.advance_cursor(before, now).await.map_err(SyncError::store(DOING))?;
    }
    let note = "select gatehouse.confirm_people_applied($1, $2)";
    timed(DOING, CALL_TIMEOUT, link.client.execute(note, &[&device, &to_i64(now.upto)])).await?;
    Ok(taken)
}

/// A change that came down.
struct Came {
    number: u64,
    person: Uuid,
    erased_at: Option<Timestamp>,
    born: Option<Timestamp>,
    named_at: Option<Timestamp>,
    metadata: Option<Vec<u8>>,
    asked_at: Timestamp,
}

impl Came {
    fn new(row: &Row) -> Self {
        let at = |nth: usize| row.get::<_, Option<DateTime<Utc>>>(nth).map(to_timestamp);
        Self {
            number: to_u64(row.get(0)),
            person: row.get(1),
            erased_at: at(2),
            born: at(3),
            named_at: at(4),
            metadata: row.get(5),
            asked_at: to_timestamp(row.get(6)),
        }
    }

    /// The latest stamp in it.
    fn stamp(&self) -> Timestamp {
        let stamps = [self.erased_at, self.born, self.named_at];
        stamps.into_iter().flatten().max().unwrap_or(self.asked_at)
    }

    /// Takes it in; words where it cannot be.
    async fn take(
        &self,
        people: &People,
        ids: &HashMap<Reference, String>,
        templates: &mut Known,
    ) -> Result<Option<String>, SyncError> {
        const DOING: &str = "take people in";
        let reference = Reference(*self.person.as_bytes());
        if let (Some(at), Some(id)) = (self.erased_at, ids.get(&reference)) {
            people.merge_erasure(id, at, self.asked_at).await.map_err(SyncError::store(DOING))?;
        }
        if self.metadata.is_none() {
            return Ok(None);
        }
        let samples = templates.remove(&self.person).unwrap_or_default();
        let Some(person) = self.person(people, reference, samples) else {
            return Ok(Some(self.aside("it is not sealed with this deployment's key")));
        };
        match people.merge(&person, self.asked_at).await {
            Ok(_) => Ok(None),
            Err(
                refused @ (StoreError::PersonId | StoreError::PersonName | StoreError::NotNormalised { .. }),
            ) => Ok(Some(self.aside(&refused.to_string()))),
            Err(error) => Err(SyncError::store(DOING)(error)),
        }
    }

    fn person(
        &self,
        people: &People,
        reference: Reference,
        samples: Vec<(String, Vec<f32>)>,
    ) -> Option<Shared> {
        let sealed = self.metadata.clone()?;
        let person = people.deployment()?.open(reference, &sealed).ok()?;
        let sample = |(model, components): (String, Vec<f32>)| {
            let template = Protected::received(components).ok()?;
            Some(SharedSample { model, template })
        };
        let samples = samples.into_iter().filter_map(sample).collect();
        Some(Shared { reference, person, born: self.born?, named_at: self.named_at?, sealed, samples })
    }

    fn aside(&self, words: &str) -> String {
        format!("person {} of the central side: {words}; left out", self.person)
    }
}
