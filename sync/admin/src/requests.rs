//! `gatehouse central request`: register of requests of data subjects, with the day on which each answer is due.
//!
//! The register outlives the people whom it concerns, so it contains no name: a request has a reference of the operator,
//! such as the number of a letter. A reference that names an enrolled person is refused.

use chrono::NaiveDate;
use gatehouse_central::error::SyncError;
use gatehouse_central::rows::{CALL_TIMEOUT, Link, Value, shared_people::SCHEMA_WITH_PEOPLE, timed, version};
use gatehouse_central::services;
use gatehouse_config::Config;
use serde::{Deserialize, Serialize};

/// Longest reference, in bytes.
pub const REFERENCE_BYTES_MAX: usize = 128;
/// Maximum number of requests listed.
const LIST_MAX: i64 = 10_000;
const DOING: &str = "read or change the register of requests";
const COLUMNS: &str = "r.id, r.kind, r.reference, r.received_on::text, r.due_on::text, \
     case when r.closed_at is null then r.due_on - (now() at time zone 'UTC')::date end, r.outcome, \
     to_char(r.closed_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";

/// A request of a data subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectRequest {
    /// Its number.
    pub id: i64,
    /// `access`, `rectification`, `erasure`, `restriction`, `portability` or `objection`.
    pub kind: String,
    /// Reference of the operator.
    pub reference: String,
    /// Day on which it was received.
    pub received_on: String,
    /// Last day for the answer: one month after it was received.
    pub due_on: String,
    /// Days until then (UTC); negative if it is overdue. None for a closed request.
    pub days_left: Option<i32>,
    /// `done`, `refused` or `withdrawn`. None for an open request.
    pub outcome: Option<String>,
    /// When it was closed, RFC 3339.
    pub closed_at: Option<String>,
}

/// Opens a request that was received on a day, or today (UTC). The audit log gets a line.
///
/// # Errors
/// [`SyncError::Setup`] if the reference is invalid, names an enrolled person, or has an open request of this kind, and
/// for a day in the future. Other errors if a call fails.
pub async fn open(
    config: &Config,
    kind: &str,
    reference: &str,
    received_on: Option<NaiveDate>,
) -> Result<SubjectRequest, SyncError> {
    let link = connect(config).await?;
    check(reference)?;
    refuse_names(&link, reference).await?;
    let open = "select gatehouse.open_request($1, $2, $3)";
    let values: [&Value<'_>; 3] = [&kind, &reference, &received_on];
    let row = timed(DOING, CALL_TIMEOUT, link.client.query_one(open, &values)).await?;
    match row.get::<_, Option<i64>>(0) {
        Some(id) => find(&link, id).await,
        None => Err(SyncError::Setup(
            "a request of this kind and reference is open already, or the day is in the future".to_owned(),
        )),
    }
}

/// The open requests, the next due first; with `all` also those that are closed.
///
/// # Errors
/// If a call fails.
pub async fn list(config: &Config, all: bool) -> Result<Vec<SubjectRequest>, SyncError> {
    let link = connect(config).await?;
    let query = format!(
        "select {COLUMNS} from gatehouse.requests r where $1 or r.closed_at is null \
         order by r.closed_at is not null, r.due_on, r.id limit $2"
    );
    let values: [&Value<'_>; 2] = [&all, &LIST_MAX];
    let rows = timed(DOING, CALL_TIMEOUT, link.client.query(&query, &values)).await?;
    Ok(rows.iter().map(request).collect())
}

/// Closes a request. The audit log gets a line.
///
/// # Errors
/// [`SyncError::Setup`] if there is no such open request. Other errors if a call fails.
pub async fn close(config: &Config, id: i64, outcome: &str) -> Result<SubjectRequest, SyncError> {
    let link = connect(config).await?;
    let close = "select gatehouse.close_request($1, $2)";
    let row = timed(DOING, CALL_TIMEOUT, link.client.query_one(close, &[&id, &outcome])).await?;
    match row.get::<_, bool>(0) {
        true => find(&link, id).await,
        false => Err(SyncError::Setup(format!(
            "there is no open request {id}; see `gatehouse central request list --all`"
        ))),
    }
}

async fn connect(config: &Config) -> Result<Link, SyncError> {
    services::ready(services::database_of(config)?, config).await
}

async fn find(link: &Link, id: i64) -> Result<SubjectRequest, SyncError> {
    let query = format!("select {COLUMNS} from gatehouse.requests r where r.id = $1");
    let row = timed(DOING, CALL_TIMEOUT, link.client.query_one(&query, &[&id])).await?;
    Ok(request(&row))
}

fn request(row: &tokio_postgres::Row) -> SubjectRequest {
    SubjectRequest {
        id: row.get(0),
        kind: row.get(1),
        reference: row.get(2),
        received_on: row.get(3),
        due_on: row.get(4),
        days_left: row.get(5),
        outcome: row.get(6),
        closed_at: row.get(7),
    }
}

fn check(reference: &str) -> Result<(), SyncError> {
    let fits = !reference.is_empty()
        && reference.len() <= REFERENCE_BYTES_MAX
        && reference.trim() == reference
        && !reference.chars().any(char::is_control);
    let message = || {
        format!(
            "a reference has 1 to {REFERENCE_BYTES_MAX} bytes without control characters or spaces at the ends"
        )
    };
    if fits { Ok(()) } else { Err(SyncError::Setup(message())) }
}

async fn refuse_names(link: &Link, reference: &str) -> Result<(), SyncError> {
    if version(link).await? < SCHEMA_WITH_PEOPLE {
        return Ok(());
    }
    let named = "select exists (select from gatehouse.persons p where lower(p.external_id) = lower($1) \
                 or position(lower(p.name) in lower($1)) > 0)";
    let row = timed(DOING, CALL_TIMEOUT, link.client.query_one(named, &[&reference])).await?;
    match row.get::<_, bool>(0) {
        false => Ok(()),
        true => Err(SyncError::Setup(
            "the reference names an enrolled person, and the register outlives an erasure: use the number of the letter"
                .to_owned(),
        )),
    }
}
