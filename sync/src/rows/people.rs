//! People both ways: what an appliance knows of the enrolled goes up, what others know comes down.
//!
//! The central side merges in functions of its own (`sync/sql/0002_people.up.sql`); each may be called again, so people are
//! given before the transaction of their batch, and nobody else waits for a slow line. What comes down is numbered in the
//! order in which it became visible there; the number taken in last is in the journal. Crash story: what was given
//! or taken and not noted is given or taken once more and changes nothing.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use gatehouse_store::deployment::{DeploymentKey, Reference};
use gatehouse_store::gallery::transform::Protected;
use gatehouse_store::gallery::{repeat_radius, repeats};
use gatehouse_store::store::{People, PeopleCursor, Shared, SharedSample, StoreError};
use gatehouse_store::time::Timestamp;
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use crate::error::{GuardFault, SyncError};
use crate::rows::connect::{BATCH, CALL, Link, timed};
use crate::rows::{Value, copy, number, signed};

/// Version of the schema that has people.
pub(crate) const SCHEMA_WITH_PEOPLE: i32 = 2;
/// Advice if the schema is older.
pub(crate) const TOO_OLD: &str =
    "the schema of the database has no people; install pgvector, then run `gatehouse central init`";
/// People in one call.
const PEOPLE_MAX: usize = 200;
/// Templates on their way at once: a round trip for each would take hours over a slow line.
const TEMPLATES_MAX: usize = 64;

/// Says who we are to the functions for people; false where the schema has none.
pub(crate) async fn begin(link: &Link, device: &str, key: &DeploymentKey) -> Result<bool, SyncError> {
    const DOING: &str = "share people at Postgres";
    if super::version(link).await? < SCHEMA_WITH_PEOPLE {
        return Ok(false);
    }
    let share = "select gatehouse.check_deployment_key($1, $2)";
    let print = key.fingerprint();
    let row = timed(DOING, CALL, link.client.query_one(share, &[&device, &print.as_slice()])).await?;
    if !row.get::<_, bool>(0) {
        return Err(GuardFault::DeploymentKey.into());
    }
    timed(DOING, CALL, link.client.batch_execute("listen gatehouse_people")).await?;
    Ok(true)
}

/// Gives what is known of some people.
pub(crate) async fn give(link: &Link, device: &str, people: &[&Shared]) -> Result<(), SyncError> {
    for people in people.chunks(PEOPLE_MAX) {
        let known = merge(link, device, people).await?;
        let mut missing = Vec::new();
        people.iter().for_each(|person| missing.extend(missing_of(person, &known)));
        add(link, device, missing).await?;
    }
    Ok(())
}

/// Gives everybody, once per appliance and database: they may have been enrolled before people were shared.
pub(crate) async fn give_all(link: &Link, device: &str, people: &People) -> Result<(), SyncError> {
    const DOING: &str = "give people to Postgres";
    let query = "select people_sent_at is null from gatehouse.device_cursors where device_id = $1";
    let row = timed(DOING, CALL, link.client.query_opt(query, &[&device])).await?;
    if !row.is_some_and(|row| row.get(0)) {
        return Ok(());
    }
    for some in people.keys().chunks(PEOPLE_MAX) {
        let people: Vec<Shared> = some.iter().filter_map(|key| people.shared(key)).collect();
        give(link, device, &people.iter().collect::<Vec<_>>()).await?;
    }
    let note = "select gatehouse.confirm_people_sent($1)";
    timed(DOING, CALL, link.client.execute(note, &[&device])).await.map(drop)
}

/// Erases somebody at the central side and, through it, everywhere.
pub(crate) async fn bury(
    link: &Link,
    device: &str,
    reference: Reference,
    id: &str,
    at: Timestamp,
) -> Result<(), SyncError> {
    let bury = "select gatehouse.erase_shared_person($1, $2, $3, $4)";
    let (person, at) = (Uuid::from_bytes(reference.0), copy::time(at));
    let values: [&Value<'_>; 4] = [&device, &person, &id, &at];
    timed("erase a person in Postgres", BATCH, link.client.execute(bury, &values)).await.map(drop)
}

async fn merge(link: &Link, device: &str, people: &[&Shared]) -> Result<Known, SyncError> {
    const MERGE: &str =
        "select person, model, template from gatehouse.merge_people($1, $2, $3, $4, $5, $6, $7)";
    let ids: Vec<Uuid> = people.iter().map(|one| Uuid::from_bytes(one.reference.0)).collect();
    let externals: Vec<&str> = people.iter().map(|one| one.person.id.as_str()).collect();
    let names: Vec<&str> = people.iter().map(|one| one.person.name.as_str()).collect();
    let named: Vec<DateTime<Utc>> = people.iter().map(|one| copy::time(one.named_at)).collect();
    let born: Vec<DateTime<Utc>> = people.iter().map(|one| copy::time(one.born)).collect();
    let metadata: Vec<&[u8]> = people.iter().map(|one| one.sealed.as_slice()).collect();
    let values: [&Value<'_>; 7] = [&device, &ids, &externals, &names, &named, &born, &metadata];
    let rows = timed("give people to Postgres", BATCH, link.client.query(MERGE, &values)).await?;
    Ok(by_person(&rows))
}

/// Templates by person, with their models.
type Known = HashMap<Uuid, Vec<(String, Vec<f32>)>>;

fn by_person(rows: &[Row]) -> Known {
    let mut known = Known::new();
    for row in rows {
        known.entry(row.get(0)).or_default().push((row.get(1), row.get(2)));
    }
    known
}

/// Samples that the central side does not have. It tells them apart by what they are, not by numbers: on its way a
/// sample is rounded, and what one appliance leaves out as repeated another one may have.
fn missing_of<'a>(person: &'a Shared, known: &Known) -> Vec<(Uuid, &'a SharedSample)> {
    let id = Uuid::from_bytes(person.reference.0);
    let there = known.get(&id).map_or(&[][..], Vec::as_slice);
    let is_there = |sample: &SharedSample| {
        let same = |(model, template): &(String, Vec<f32>)| {
            *model == sample.model && repeats(sample.template.as_slice(), template)
        };
        there.iter().any(same)
    };
    person.samples.iter().filter(|sample| !is_there(sample)).map(|sample| (id, sample)).collect()
}

async fn add(link: &Link, device: &str, samples: Vec<(Uuid, &SharedSample)>) -> Result<(), SyncError> {
    const ADD: &str = "select gatehouse.add_template($1, $2, $3, $4, $5)";
    const DOING: &str = "give templates to Postgres";
    if samples.is_empty() {
        return Ok(());
    }
    let add = timed(DOING, CALL, link.client.prepare(ADD)).await?;
    for some in samples.chunks(TEMPLATES_MAX) {
        let mut calls = Vec::with_capacity(some.len());
        for (person, sample) in some {
            let template = sample.template.as_slice().to_vec();
            calls.push(add_one(link, &add, (device, *person, &sample.model), template));
        }
        // All leave at once; each waits for its own answer.
        for added in futures_util::future::join_all(calls).await {
            added?;
        }
    }
    Ok(())
}

async fn add_one(
    link: &Link,
    add: &Statement,
    (device, person, model): (&str, Uuid, &str),
    template: Vec<f32>,
) -> Result<(), SyncError> {
    let within = repeat_radius(&template);
    let values: [&Value<'_>; 5] = [&device, &person, &model, &template, &within];
    timed("give templates to Postgres", BATCH, link.client.execute(add, &values)).await.map(drop)
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
    let rows = timed(DOING, BATCH, link.client.query(AFTER, &[&device, &signed(before.upto), &most])).await?;
    let changes: Vec<Came> = rows.iter().map(Came::new).collect();
    let mut taken =
        Taken { people: changes.len() as u64, more: changes.len() >= PEOPLE_MAX, set_aside: Vec::new() };
    let mut now = before;
    if !changes.is_empty() {
        let alive: Vec<Uuid> =
            changes.iter().filter(|one| one.metadata.is_some()).map(|one| one.person).collect();
        let query = "select person, model, template from gatehouse.templates_of($1, $2)";
        let rows = timed(DOING, BATCH, link.client.query(query, &[&device, &alive])).await?;
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
    timed(DOING, CALL, link.client.execute(note, &[&device, &signed(now.upto)])).await?;
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
        let at = |nth: usize| row.get::<_, Option<DateTime<Utc>>>(nth).map(stamp);
        Self {
            number: number(row.get(0)),
            person: row.get(1),
            erased_at: at(2),
            born: at(3),
            named_at: at(4),
            metadata: row.get(5),
            asked_at: stamp(row.get(6)),
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

/// A time of Postgres as a stamp.
pub(crate) fn stamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp(at.timestamp_micros())
}
