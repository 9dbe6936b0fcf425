//! Shared people in Postgres: the calls that the rows sink and `gatehouse central person` have in common.
//!
//! The SQL functions merge (`sync/central/sql/0002_people.up.sql`). A repeated call changes nothing.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use gatehouse_gallery::{repeat_radius, repeats};
use gatehouse_model::Timestamp;
use gatehouse_store::deployment::DeploymentKey;
use gatehouse_store::store::{ErasureOrder, PeopleCursor, Shared, SharedSample};
use gatehouse_store::terms::TermKind;
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use crate::error::{GuardFault, SyncError};
use crate::rows::connect::{BATCH_TIMEOUT, CALL_TIMEOUT, Link, timed};
use crate::rows::{Value, to_datetime, to_i64, to_timestamp, version};

/// Version of the schema that has people.
pub const SCHEMA_WITH_PEOPLE: i32 = 2;
/// Advice if the schema is older.
pub const TOO_OLD: &str =
    "the schema of the database has no people; install pgvector, then run `gatehouse central init`";
/// People per call.
pub const PEOPLE_PER_CALL: usize = 200;
/// Concurrent calls for templates. One round trip after the other would take hours on a slow line.
const TEMPLATES_IN_FLIGHT_MAX: usize = 64;

const UPLOADING_TEMPLATES: &str = "upload templates to Postgres";

/// Registers this appliance and its deployment key for sharing. False if the schema has no people.
pub async fn start_sharing(link: &Link, device: &str, key: &DeploymentKey) -> Result<bool, SyncError> {
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

/// Uploads some people with their templates.
pub async fn upload(link: &Link, device: &str, people: &[&Shared]) -> Result<(), SyncError> {
    for people in people.chunks(PEOPLE_PER_CALL) {
        let known = merge(link, device, people).await?;
        merge_terms(link, device, people).await?;
        let mut missing = Vec::new();
        people.iter().for_each(|person| missing.extend(missing_of(person, &known)));
        upload_templates(link, device, missing).await?;
    }
    Ok(())
}

/// Erases a person centrally and thereby on every appliance. The operator's id is none for a repeated order: then only
/// the central services may know it.
pub async fn erase(
    link: &Link,
    device: &str,
    ErasureOrder { order, reference, at }: &ErasureOrder,
    id: Option<&str>,
) -> Result<(), SyncError> {
    let erase = "select gatehouse.erase_shared_person($1, $2, $3, $4, $5)";
    let (order, person) = (Uuid::from_bytes(*order.as_bytes()), Uuid::from_bytes(reference.0));
    let at = to_datetime(*at);
    let values: [&Value<'_>; 5] = [&device, &order, &person, &id, &at];
    timed("erase a person in Postgres", BATCH_TIMEOUT, link.client.execute(erase, &values)).await.map(drop)
}

/// What an appliance has to do before it takes changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeoplePosition {
    /// Whether the last change that it took exists in the database. If not, one of the two was restored.
    pub continues: bool,
    /// Whether it has to send all of its erasures and people.
    pub send_all: bool,
}

/// Compares the last change that an appliance took with the database.
pub async fn compare_position(
    link: &Link,
    device: &str,
    cursor: &PeopleCursor,
) -> Result<PeoplePosition, SyncError> {
    let compare = "select continues, send_all from gatehouse.compare_people_position($1, $2, $3)";
    let (upto, change) = (to_i64(cursor.upto), Uuid::from_bytes(cursor.change));
    let values: [&Value<'_>; 3] = [&device, &upto, &change];
    let asked = link.client.query_one(compare, &values);
    let row = timed("compare the changes of people with Postgres", CALL_TIMEOUT, asked).await?;
    Ok(PeoplePosition { continues: row.get(0), send_all: row.get(1) })
}

/// Reports that the database has a lower cursor of this appliance than `delivered`, which it has confirmed before.
pub async fn report_restore(link: &Link, device: &str, delivered: u64) -> Result<(), SyncError> {
    let report = "select gatehouse.report_restore($1, $2)";
    let lsn = to_i64(delivered);
    let values: [&Value<'_>; 2] = [&device, &lsn];
    timed("report a restored database to Postgres", CALL_TIMEOUT, link.client.execute(report, &values))
        .await
        .map(drop)
}

async fn merge(link: &Link, device: &str, people: &[&Shared]) -> Result<TemplatesByPerson, SyncError> {
    const MERGE: &str =
        "select person, model, template from gatehouse.merge_people($1, $2, $3, $4, $5, $6, $7)";
    let ids: Vec<Uuid> = people.iter().map(|one| Uuid::from_bytes(one.reference.0)).collect();
    let externals: Vec<&str> = people.iter().map(|one| one.person.id.as_str()).collect();
    let names: Vec<&str> = people.iter().map(|one| one.person.name.as_str()).collect();
    let named: Vec<DateTime<Utc>> = people.iter().map(|one| to_datetime(one.named_at)).collect();
    let born: Vec<DateTime<Utc>> = people.iter().map(|one| to_datetime(one.born)).collect();
    let metadata: Vec<&[u8]> = people.iter().map(|one| one.sealed.as_slice()).collect();
    let values: [&Value<'_>; 7] = [&device, &ids, &externals, &names, &named, &born, &metadata];
    let rows = timed("upload people to Postgres", BATCH_TIMEOUT, link.client.query(MERGE, &values)).await?;
    Ok(templates_by_person(&rows))
}

/// Uploads consent and suspension of people, as far as they were ever changed. Few people have any.
async fn merge_terms(link: &Link, device: &str, people: &[&Shared]) -> Result<(), SyncError> {
    const MERGE: &str = "select gatehouse.merge_person_terms($1, $2, $3, $4, $5, $6, $7, $8)";
    let mut terms = Vec::new();
    for person in people {
        terms.extend(person.terms.iter().map(|sealed| (*person, sealed)));
    }
    if terms.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = terms.iter().map(|(person, _)| Uuid::from_bytes(person.reference.0)).collect();
    let born: Vec<DateTime<Utc>> = terms.iter().map(|(person, _)| to_datetime(person.born)).collect();
    let terms = || terms.iter().map(|(_, sealed)| sealed);
    let kinds: Vec<&str> = terms().map(|sealed| sealed.kind.as_str()).collect();
    let changed: Vec<DateTime<Utc>> = terms().map(|sealed| to_datetime(sealed.term.changed_at)).collect();
    let texts: Vec<Option<&str>> = terms().map(|sealed| sealed.term.text.as_deref()).collect();
    let times: Vec<Option<DateTime<Utc>>> = terms().map(|sealed| sealed.term.time.map(to_datetime)).collect();
    let encrypted: Vec<&[u8]> = terms().map(|sealed| sealed.sealed.as_slice()).collect();
    let values: [&Value<'_>; 8] = [&device, &ids, &born, &kinds, &changed, &texts, &times, &encrypted];
    timed("upload terms of people to Postgres", BATCH_TIMEOUT, link.client.execute(MERGE, &values))
        .await
        .map(drop)
}

/// Sealed terms by person.
pub type TermsByPerson = HashMap<Uuid, Vec<SealedTerm>>;

/// A term as the database gives it to appliances.
#[derive(Debug)]
pub struct SealedTerm {
    /// Which term.
    pub kind: TermKind,
    /// Its stamp.
    pub changed_at: Timestamp,
    /// Its content, sealed by [`DeploymentKey::seal_term`].
    pub sealed: Vec<u8>,
}

/// Downloads the terms of people. A kind of a later version is skipped.
pub async fn terms_of(link: &Link, device: &str, people: &[Uuid]) -> Result<TermsByPerson, SyncError> {
    const QUERY: &str =
        "select person, kind, changed_at, encrypted_value from gatehouse.person_terms_of($1, $2)";
    let values: [&Value<'_>; 2] = [&device, &people];
    let asked = link.client.query(QUERY, &values);
    let mut terms = TermsByPerson::new();
    for row in timed("download terms of people from Postgres", BATCH_TIMEOUT, asked).await? {
        let Some(kind) = TermKind::parse(row.get(1)) else { continue };
        let term = SealedTerm { kind, changed_at: to_timestamp(row.get(2)), sealed: row.get(3) };
        terms.entry(row.get(0)).or_default().push(term);
    }
    Ok(terms)
}

/// Templates by person, with their models.
pub type TemplatesByPerson = HashMap<Uuid, Vec<(String, Vec<f32>)>>;

/// Groups rows of person, model and template by person.
pub fn templates_by_person(rows: &[Row]) -> TemplatesByPerson {
    let mut known = TemplatesByPerson::new();
    for row in rows {
        known.entry(row.get(0)).or_default().push((row.get(1), row.get(2)));
    }
    known
}

/// Samples that Postgres does not have. They are compared by distance, because templates are rounded on the way and
/// have no common numbers.
fn missing_of<'a>(person: &'a Shared, known: &TemplatesByPerson) -> Vec<MissingTemplate<'a>> {
    let id = Uuid::from_bytes(person.reference.0);
    let there = known.get(&id).map_or(&[][..], Vec::as_slice);
    let is_there = |sample: &SharedSample| {
        let same = |(model, template): &(String, Vec<f32>)| {
            *model == sample.model && repeats(sample.template.as_slice(), template)
        };
        there.iter().any(same)
    };
    let missing = person.samples.iter().filter(|sample| !is_there(sample));
    missing.map(|sample| MissingTemplate { person: id, sample }).collect()
}

/// A template that Postgres does not have.
struct MissingTemplate<'a> {
    person: Uuid,
    sample: &'a SharedSample,
}

async fn upload_templates(
    link: &Link,
    device: &str,
    templates: Vec<MissingTemplate<'_>>,
) -> Result<(), SyncError> {
    const ADD: &str = "select gatehouse.add_template($1, $2, $3, $4, $5)";
    if templates.is_empty() {
        return Ok(());
    }
    let add = timed(UPLOADING_TEMPLATES, CALL_TIMEOUT, link.client.prepare(ADD)).await?;
    for chunk in templates.chunks(TEMPLATES_IN_FLIGHT_MAX) {
        // All calls are sent at once. Each waits for its own reply.
        let calls = chunk.iter().map(|template| upload_template(link, &add, device, template));
        for added in futures_util::future::join_all(calls).await {
            added?;
        }
    }
    Ok(())
}

async fn upload_template(
    link: &Link,
    add: &Statement,
    device: &str,
    MissingTemplate { person, sample }: &MissingTemplate<'_>,
) -> Result<(), SyncError> {
    let template = sample.template.as_slice();
    let within = repeat_radius(template);
    let values: [&Value<'_>; 5] = [&device, person, &sample.model, &template, &within];
    timed(UPLOADING_TEMPLATES, BATCH_TIMEOUT, link.client.execute(add, &values)).await.map(drop)
}
