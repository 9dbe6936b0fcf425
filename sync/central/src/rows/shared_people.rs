//! Shared people in Postgres: one call per step of the merge, used by the rows sink and by `gatehouse central person`.
//!
//! The SQL functions merge (`sync/central/sql/0002_people.up.sql`) and may be called again: a repeated call changes nothing.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use gatehouse_gallery::{repeat_radius, repeats};
use gatehouse_model::Timestamp;
use gatehouse_store::deployment::{DeploymentKey, Reference};
use gatehouse_store::store::{Shared, SharedSample};
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use crate::error::{GuardFault, SyncError};
use crate::rows::connect::{BATCH_TIMEOUT, CALL_TIMEOUT, Link, timed};
use crate::rows::{Value, to_datetime, version};

/// Version of the schema that has people.
pub const SCHEMA_WITH_PEOPLE: i32 = 2;
/// Advice if the schema is older.
pub const TOO_OLD: &str =
    "the schema of the database has no people; install pgvector, then run `gatehouse central init`";
/// People in one call.
pub const PEOPLE_MAX: usize = 200;
/// Templates on their way at once: a round trip for each would take hours over a slow line.
const TEMPLATES_MAX: usize = 64;

/// Says who we are to the functions for people; false where the schema has none.
pub async fn begin(link: &Link, device: &str, key: &DeploymentKey) -> Result<bool, SyncError> {
    const DOING: &str = "share people at Postgres";
    if version(link).await? < SCHEMA_WITH_PEOPLE {
        return Ok(false);
    }
    let share = "select gatehouse.check_deployment_key($1, $2)";
    let print = key.fingerprint();
    let row = timed(DOING, CALL_TIMEOUT, link.client.query_one(share, &[&device, &print.as_slice()])).await?;
    if !row.get::<_, bool>(0) {
        return Err(GuardFault::DeploymentKey.into());
    }
    timed(DOING, CALL_TIMEOUT, link.client.batch_execute("listen gatehouse_people")).await?;
    Ok(true)
}

/// Gives what is known of some people.
pub async fn give(link: &Link, device: &str, people: &[&Shared]) -> Result<(), SyncError> {
    for people in people.chunks(PEOPLE_MAX) {
        let known = merge(link, device, people).await?;
        let mut missing = Vec::new();
        people.iter().for_each(|person| missing.extend(missing_of(person, &known)));
        add(link, device, missing).await?;
    }
    Ok(())
}

/// Erases somebody at the central side and, through it, everywhere.
pub async fn bury(
    link: &Link,
    device: &str,
    reference: Reference,
    id: &str,
    at: Timestamp,
) -> Result<(), SyncError> {
    let bury = "select gatehouse.erase_shared_person($1, $2, $3, $4)";
    let (person, at) = (Uuid::from_bytes(reference.0), to_datetime(at));
    let values: [&Value<'_>; 4] = [&device, &person, &id, &at];
    timed("erase a person in Postgres", BATCH_TIMEOUT, link.client.execute(bury, &values)).await.map(drop)
}

async fn merge(link: &Link, device: &str, people: &[&Shared]) -> Result<Known, SyncError> {
    const MERGE: &str =
        "select person, model, template from gatehouse.merge_people($1, $2, $3, $4, $5, $6, $7)";
    let ids: Vec<Uuid> = people.iter().map(|one| Uuid::from_bytes(one.reference.0)).collect();
    let externals: Vec<&str> = people.iter().map(|one| one.person.id.as_str()).collect();
    let names: Vec<&str> = people.iter().map(|one| one.person.name.as_str()).collect();
    let named: Vec<DateTime<Utc>> = people.iter().map(|one| to_datetime(one.named_at)).collect();
    let born: Vec<DateTime<Utc>> = people.iter().map(|one| to_datetime(one.born)).collect();
    let metadata: Vec<&[u8]> = people.iter().map(|one| one.sealed.as_slice()).collect();
    let values: [&Value<'_>; 7] = [&device, &ids, &externals, &names, &named, &born, &metadata];
    let rows = timed("give people to Postgres", BATCH_TIMEOUT, link.client.query(MERGE, &values)).await?;
    Ok(by_person(&rows))
}

/// Templates by person, with their models.
pub type Known = HashMap<Uuid, Vec<(String, Vec<f32>)>>;

/// Groups rows of person, model and template by person.
pub fn by_person(rows: &[Row]) -> Known {
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
    let add = timed(DOING, CALL_TIMEOUT, link.client.prepare(ADD)).await?;
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
    timed("give templates to Postgres", BATCH_TIMEOUT, link.client.execute(add, &values)).await.map(drop)
}
