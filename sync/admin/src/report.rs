//! `gatehouse central report`: frequent questions, answered from the public views.

use gatehouse_central::error::SyncError;
use gatehouse_central::rows::shared_people::SCHEMA_WITH_PEOPLE;
use gatehouse_central::rows::{BATCH_TIMEOUT, SCHEMA_NEEDED, timed};
use gatehouse_config::Config;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::GenericClient;
use tokio_postgres::types::ToSql;

use super::prepared;

/// Maximum number of unknown visitors listed, the newest first. The view contains all.
const UNKNOWN_MAX: i64 = 100;

const DOING: &str = "report from Postgres";
const PERSON: &str = "gather a person's data in Postgres";

/// The state of the fleet, and the visits of the last days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Every appliance.
    pub fleet: Vec<Appliance>,
    /// Visits per day and camera, the newest day first.
    pub days: Vec<Day>,
    /// Unknown visitors, the newest first, at most a hundred.
    pub unknown: Vec<Unknown>,
}

/// One row of view `fleet`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appliance {
    /// Device id.
    pub device_id: String,
    /// Site of the appliance.
    pub site: String,
    /// Version of the daemon.
    pub version: String,
    /// Whether it has a login role of its own.
    pub enrolled: bool,
    /// First contact, RFC 3339; none if it was enrolled and never connected.
    pub first_seen: Option<String>,
    /// Last contact, RFC 3339: a connection, a delivery, or a report.
    pub last_seen: Option<String>,
    /// Events delivered since its state directory was created.
    pub delivered: u64,
    /// Time of the last delivery, RFC 3339.
    pub delivered_at: Option<String>,
    /// Events that waited at the last report.
    pub pending_events: Option<u64>,
    /// Media files that waited at the last report.
    pub pending_files: Option<u64>,
    /// Arrival of the oldest waiting event, RFC 3339.
    pub oldest_pending: Option<String>,
    /// Time of the last report, RFC 3339.
    pub reported_at: Option<String>,
    /// Events destroyed by disk damage before delivery.
    pub lost: u64,
}

/// One row of view `visits_per_day`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Day {
    /// Day in UTC, `YYYY-MM-DD`.
    pub day: String,
    /// Device id.
    pub device_id: String,
    /// Camera name.
    pub camera: String,
    /// Visits of that day.
    pub visits: u64,
    /// Visits with a recognized person.
    pub recognised: u64,
    /// Visits with an unknown face.
    pub unknown: u64,
    /// First visit, RFC 3339.
    pub first_at: String,
    /// Last visit, RFC 3339.
    pub last_at: String,
}

/// One row of view `unknown_visitors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unknown {
    /// Day in UTC, `YYYY-MM-DD`.
    pub day: String,
    /// Device id.
    pub device_id: String,
    /// Camera name.
    pub camera: String,
    /// Event id of the camera.
    pub event_id: String,
    /// Sequence number of the event on the appliance.
    pub seq: u64,
    /// Arrival, RFC 3339.
    pub received_at: String,
    /// Number of unknown faces.
    pub strangers: u64,
    /// S3 keys of the media files.
    pub files: Vec<String>,
}

/// All data of one person in the database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Person {
    /// The operator's id of the person.
    pub id: String,
    /// Every visit in which they were recognised.
    pub visits: Vec<Visit>,
    /// Rows about them in other tables, by table. Of templates only the number: their content is unreadable.
    pub records: Value,
}

/// One row of function `visits_of`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Visit {
    /// Device id.
    pub device_id: String,
    /// Sequence number of the event on the appliance.
    pub seq: u64,
    /// Camera name.
    pub camera: String,
    /// Event id of the camera.
    pub event_id: String,
    /// Arrival, RFC 3339.
    pub received_at: String,
    /// Faces of the event as stored.
    pub faces: Value,
    /// S3 keys of the media files.
    pub files: Vec<String>,
}

/// The fleet, and visits of the last `days` days (UTC, 1 is today).
///
/// # Errors
/// [`SyncError`] if the database is unreachable, or the role lacks the permission.
pub async fn report(config: &Config, days: u16) -> Result<Report, SyncError> {
    let link = prepared(config, SCHEMA_NEEDED).await?;
    let client = &link.client;
    let back = i32::from(days.saturating_sub(1));
    let since = "day >= (now() at time zone 'UTC')::date - $1::int";
    let fleet = "select * from gatehouse.fleet order by last_seen nulls first, device_id";
    let visits =
        format!("select * from gatehouse.visits_per_day where {since} order by day desc, device_id, camera");
    let unknown = format!(
        "select * from gatehouse.unknown_visitors where {since} order by received_at desc limit {UNKNOWN_MAX}"
    );
    Ok(Report {
        fleet: rows_of(DOING, client, fleet, &[]).await?,
        days: rows_of(DOING, client, &visits, &[&back]).await?,
        unknown: rows_of(DOING, client, &unknown, &[&back]).await?,
    })
}

/// All data of a person, for an access request. The request has a line in the audit log.
///
/// # Errors
/// [`SyncError`] if the database is unreachable, or the role lacks the permission. No data is returned without the
/// line.
pub async fn person(config: &Config, id: &str) -> Result<Person, SyncError> {
    person_for(config, id, "person.report").await
}

/// As [`person`], for an export.
///
/// # Errors
/// As [`person`]; [`SyncError::Setup`] for an id without any data.
pub async fn export(config: &Config, id: &str) -> Result<Person, SyncError> {
    let person = person_for(config, id, "person.export").await?;
    let is_known = person.records["persons"].as_array().is_some_and(|rows| !rows.is_empty());
    match is_known || !person.visits.is_empty() {
        true => Ok(person),
        false => Err(SyncError::Setup(format!(
            "the database has no data of a person `{id}`; see `gatehouse central person list`"
        ))),
    }
}

async fn person_for(config: &Config, id: &str, action: &str) -> Result<Person, SyncError> {
    let mut link = prepared(config, SCHEMA_WITH_PEOPLE).await?;
    let transaction = timed(PERSON, BATCH_TIMEOUT, link.client.transaction()).await?;
    let visits: Vec<Visit> =
        rows_of(PERSON, &transaction, "select * from gatehouse.visits_of($1)", &[&id]).await?;
    let audit = "select * from gatehouse.audit_log where subject = gatehouse.person_reference($1) \
                 and action like 'person.%' order by id";
    let row =
        "select to_jsonb(p) - 'encrypted_metadata' as person from gatehouse.persons p where external_id = $1";
    let before = "select to_jsonb(h) - 'encrypted_metadata' as person from gatehouse.persons_history h \
                  where external_id = $1 order by version";
    let templates = "select e.model, e.added_by, e.created_at from gatehouse.face_encodings e \
                     join gatehouse.persons p on p.id = e.person_id where p.external_id = $1 order by e.created_at";
    let terms = "select t.kind, t.changed_at, t.changed_by, t.description, t.effective_at from gatehouse.person_terms t \
                 join gatehouse.persons p on p.id = t.person_id where p.external_id = $1 order by t.kind";
    let records = json!({
        "persons": rows_of::<Value>(PERSON, &transaction, row, &[&id]).await?,
        "persons_history": rows_of::<Value>(PERSON, &transaction, before, &[&id]).await?,
        "person_terms": rows_of::<Value>(PERSON, &transaction, terms, &[&id]).await?,
        "templates": rows_of::<Value>(PERSON, &transaction, templates, &[&id]).await?,
        "audit_log": rows_of::<Value>(PERSON, &transaction, audit, &[&id]).await?,
    });
    let details = json!({ "visits": visits.len() });
    let line = "select gatehouse.audit($3, gatehouse.person_reference($1), $2)";
    timed(PERSON, BATCH_TIMEOUT, transaction.execute(line, &[&id, &details, &action])).await?;
    timed(PERSON, BATCH_TIMEOUT, transaction.commit()).await?;
    Ok(Person { id: id.to_owned(), visits, records })
}

/// The rows of a query, by column name.
async fn rows_of<T: DeserializeOwned>(
    doing: &'static str,
    client: &impl GenericClient,
    query: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<T>, SyncError> {
    let query = format!("select to_jsonb(r) from ({query}) r");
    let rows = timed(doing, BATCH_TIMEOUT, client.query(&query, values)).await?;
    let strange = |error: serde_json::Error| {
        SyncError::Setup(format!("{doing}: the schema differs from that of this program: {error}"))
    };
    rows.iter().map(|row| serde_json::from_value(row.get(0)).map_err(strange)).collect()
}
