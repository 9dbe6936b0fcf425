//! `gatehouse central receipt`: receipts of erasures.
//!
//! Each appliance has signed its own statement. The statements of database and bucket are made at each issue, from what
//! both contain at that time, and signed with the key of the central services, as is the cover.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use gatehouse_central::deployment::deployment_key;
use gatehouse_central::error::SyncError;
use gatehouse_central::objects::{Limits, Objects};
use gatehouse_central::rows::{BATCH_TIMEOUT, CALL_TIMEOUT, Link, Value, timed, to_datetime, to_timestamp};
use gatehouse_central::services::{audit, database_of, ready};
use gatehouse_config::Config;
use gatehouse_model::{KeyId, Timestamp, sha256};
use gatehouse_receipt::{
    Bundle, By, Check, Condition, Counts, Cover, Destroyed, End, Left, Leftover, Method, Note, Place,
    PlaceState, Program, Signer, Statement, Subject, Tool, TrustedKeys, VerifierKey, central_key_name,
};
use gatehouse_store::deployment::{DeploymentKey, Reference};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::Row;
use uuid::Uuid;

const DOING: &str = "issue the receipt of an erasure";
/// Orders that are listed, the newest first.
const ORDERS_MAX: i64 = 1_000;
/// Tables that are searched for the person without and with the operator's id.
const TABLES: u64 = 3;
const TABLES_WITH_EVENTS: u64 = 4;

/// Whose receipt is issued.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// That of an order.
    Order(Uuid),
    /// That of the last erasure of the person with this operator's id. Then the events are searched for the id as well.
    Person(&'a str),
}

/// An erasure order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// Its id.
    pub order: String,
    /// When it was ordered, RFC 3339.
    pub ordered_at: String,
    /// Its origin: an appliance, or `central`.
    pub ordered_by: String,
    /// State directories of appliances that have stated it.
    pub stated: i64,
    /// State directories that have not answered yet.
    pub pending: i64,
}

/// Issues receipts for one environment.
pub struct Receipts<'a> {
    config: &'a Config,
    link: Link,
    key: DeploymentKey,
}

struct Order {
    id: Uuid,
    person: Uuid,
    ordered: Timestamp,
    subject: Subject,
}

impl<'a> Receipts<'a> {
    /// Connects. The settings must name database and deployment key.
    ///
    /// # Errors
    /// [`SyncError::Setup`] if a setting is missing. Other errors if a call fails.
    pub async fn open(config: &'a Config) -> Result<Self, SyncError> {
        let key = deployment_key(config)?.ok_or_else(|| {
            let message =
                "receipts name the person with the deployment key: name its file in central.people.key_file";
            SyncError::Setup(message.to_owned())
        })?;
        Ok(Self { config, link: ready(database_of(config)?, config).await?, key })
    }

    /// The orders, the newest first.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn orders(&self) -> Result<Vec<OrderLine>, SyncError> {
        const ORDERS: &str = "select o.order_id::text, \
             to_char(o.erased_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), o.erased_by, \
             count(*) filter (where p.statement is not null), \
             count(*) filter (where p.order_id is not null and p.statement is null and p.given_up is null) \
             from gatehouse.erasure_orders o left join gatehouse.erasure_places p using (order_id) \
             group by o.order_id order by o.erased_at desc limit $1";
        let rows = timed(DOING, BATCH_TIMEOUT, self.link.client.query(ORDERS, &[&ORDERS_MAX])).await?;
        let line = |row: &Row| OrderLine {
            order: row.get(0),
            ordered_at: row.get(1),
            ordered_by: row.get(2),
            stated: row.get(3),
            pending: row.get(4),
        };
        Ok(rows.iter().map(line).collect())
    }

    /// The verifier keys of all appliances that have stated an erasure.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn keys(&self) -> Result<Vec<String>, SyncError> {
        const KEYS: &str = "select distinct verifier_key from gatehouse.erasure_places where verifier_key is not null \
             order by 1";
        let rows = timed(DOING, BATCH_TIMEOUT, self.link.client.query(KEYS, &[])).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Issues the receipt of an erasure as it is now.
    ///
    /// # Errors
    /// [`SyncError::Setup`] if there is no such order, or a statement cannot be signed. Other errors if a call fails.
    pub async fn issue(&self, which: Which<'_>, signer: &Signer) -> Result<Bundle, SyncError> {
        let order = self.order(which).await?;
        let (mut places, mut statements) = (BTreeMap::new(), Vec::new());
        for row in self.stated(&order).await? {
            let (place, answer) = self.appliance(&order, &row)?;
            statements.extend(answer.note);
            places.insert(place, answer.state);
        }
        let id = match which {
            Which::Person(id) => Some(id),
            Which::Order(_) => None,
        };
        for statement in [self.rows(&order, id).await?, self.objects(&order).await?].into_iter().flatten() {
            let place = statement.place;
            let state = match statement.statement {
                Some(statement) => {
                    let note = statement.sign(signer).map_err(unsigned)?;
                    let done = PlaceState::Done { at: statement.done, sha256: note.digest() };
                    statements.push(note);
                    done
                }
                None => PlaceState::Pending { last_contact: None },
            };
            places.insert(place, state);
        }
        let cover = Cover { order: order.id, subject: order.subject, issued: Timestamp::now(), places };
        let pending =
            cover.places.values().filter(|state| matches!(state, PlaceState::Pending { .. })).count();
        let bundle = Bundle::new(statements, cover.sign(signer).map_err(unsigned)?).map_err(unsigned)?;
        let details = json!({ "places": bundle.cover().places.len(), "pending": pending });
        audit(&self.link, "receipt.issue", &order.id.to_string(), &details).await?;
        Ok(bundle)
    }

    async fn order(&self, which: Which<'_>) -> Result<Order, SyncError> {
        const BY_ID: &str =
            "select order_id, person, erased_at from gatehouse.erasure_orders where order_id = $1";
        const BY_PERSON: &str = "select order_id, person, erased_at from gatehouse.erasure_orders where person = $1 \
             order by erased_at desc limit 1";
        let (query, value) = match which {
            Which::Order(id) => (BY_ID, id),
            Which::Person(id) => (BY_PERSON, Uuid::from_bytes(self.key.reference(id).0)),
        };
        let row = timed(DOING, CALL_TIMEOUT, self.link.client.query_opt(query, &[&value])).await?;
        let row = row.ok_or_else(|| {
            let message = "there is no such erasure; `gatehouse central receipt list` lists all";
            SyncError::Setup(message.to_owned())
        })?;
        let person: Uuid = row.get(1);
        let subject = self.key.subject(Reference(*person.as_bytes()));
        Ok(Order { id: row.get(0), person, ordered: to_timestamp(row.get(2)), subject })
    }

    async fn stated(&self, order: &Order) -> Result<Vec<Row>, SyncError> {
        const PLACES: &str = "select p.device_id, p.state_id, p.statement, p.verifier_key, p.stated_at, p.given_up, \
             p.given_up_at, d.last_seen from gatehouse.erasure_places p join gatehouse.devices d using (device_id) \
             where p.order_id = $1";
        timed(DOING, BATCH_TIMEOUT, self.link.client.query(PLACES, &[&order.id])).await
    }

    /// The answer of an appliance. A statement that is not authentic is not on the receipt: its place stays pending.
    fn appliance(&self, order: &Order, row: &Row) -> Result<(Place, Answer), SyncError> {
        let (device, state): (&str, &str) = (row.get(0), row.get(1));
        let place = Place::device(self.environment(), device, KeyId::parse(state))
            .map_err(|error| SyncError::Setup(format!("appliance `{device}`: {error}")))?;
        let note = row.get::<_, Option<&str>>(2).and_then(|text| Note::parse(text).ok()).filter(|note| {
            let key = row.get::<_, Option<&str>>(3).and_then(|key| VerifierKey::parse(key).ok());
            let is_signed = key.is_some_and(|key| {
                *key.name() == place.key_name() && note.signers(&TrustedKeys::new(vec![key])).is_ok()
            });
            let fits = |statement: Statement| {
                (statement.order, statement.subject) == (order.id, order.subject) && statement.place == place
            };
            is_signed && Statement::parse(note.text()).is_ok_and(fits)
        });
        let at = |nth: usize| row.get::<_, Option<DateTime<Utc>>>(nth).map(to_timestamp);
        let state = match (&note, at(4), row.get::<_, Option<&str>>(5), at(6)) {
            (Some(note), Some(at), ..) => PlaceState::Done { at, sha256: note.digest() },
            (_, _, Some("lost"), Some(at)) => PlaceState::Impossible { at },
            (_, _, Some(_), Some(at)) => PlaceState::Retired { at },
            _ => PlaceState::Pending { last_contact: at(7) },
        };
        Ok((place, Answer { note, state }))
    }

    /// The statement of the database, if it has nothing of the person.
    async fn rows(&self, order: &Order, id: Option<&str>) -> Result<Option<Central>, SyncError> {
        const LEFT: &str = "select (select count(*) from gatehouse.persons p where p.id = $1 and p.enrolled_at <= $2) \
             + (select count(*) from gatehouse.persons_history h where h.id = $1 and h.enrolled_at <= $2) \
             + (select count(*) from gatehouse.face_encodings e where e.person_id = $1 \
                 and not exists (select from gatehouse.persons p where p.id = $1))";
        const EVENTS_LEFT: &str = "select count(*) from gatehouse.events e where e.received_at <= $2 \
             and jsonb_path_query_array(e.identification, '$.faces[*].person.id') ? $1";
        const COUNTS: &str = "select coalesce(sum(events_scrubbed), 0)::bigint, coalesce(sum(files_erased), 0)::bigint \
             from gatehouse.erasure_counts where order_id = $1";
        let ordered = to_datetime(order.ordered);
        let values: [&Value<'_>; 2] = [&order.person, &ordered];
        let row = timed(DOING, BATCH_TIMEOUT, self.link.client.query_one(LEFT, &values)).await?;
        let mut left: i64 = row.get(0);
        if let Some(id) = id {
            let values: [&Value<'_>; 2] = [&id, &ordered];
            let row = timed(DOING, BATCH_TIMEOUT, self.link.client.query_one(EVENTS_LEFT, &values)).await?;
            left += row.get::<_, i64>(0);
        }
        let row = timed(DOING, CALL_TIMEOUT, self.link.client.query_one(COUNTS, &[&order.id])).await?;
        let place =
            Place::postgres(self.environment()).map_err(|error| SyncError::Setup(error.to_string()))?;
        let (events, files) = (row.get::<_, i64>(0), row.get::<_, i64>(1));
        let statement = (left == 0).then(|| Statement {
            method: Method::DeleteRows,
            destroyed: counts([
                (Destroyed::Events, events.unsigned_abs()),
                (Destroyed::Attributes, events.unsigned_abs()),
                (Destroyed::Files, files.unsigned_abs()),
            ]),
            verified: counts([(Check::RowsAbsent, if id.is_some() { TABLES_WITH_EVENTS } else { TABLES })]),
            left: BTreeSet::from([
                until(Leftover::DatabasePages, Condition::Vacuumed),
                until(Leftover::DatabaseLog, Condition::BackupsExpired),
                until(Leftover::Replicas, Condition::ReplicasApplied),
                until(Leftover::Backups, Condition::BackupsExpired),
                until(Leftover::Archive, Condition::RetentionApplied),
                until(Leftover::Reference, Condition::OrderClosed),
            ]),
            ..self.statement(order, place.clone())
        });
        Ok(Some(Central { place, statement }))
    }

    /// The statement of the bucket, if all objects of the order are gone. None without a bucket.
    async fn objects(&self, order: &Order) -> Result<Option<Central>, SyncError> {
        const FILES: &str = "select f.s3_key, f.status, f.file_size from gatehouse.erasure_files e \
             join gatehouse.files f on f.id = e.file_id where e.order_id = $1 order by f.s3_key";
        let files = timed(DOING, BATCH_TIMEOUT, self.link.client.query(FILES, &[&order.id])).await?;
        let place =
            Place::objects(self.environment()).map_err(|error| SyncError::Setup(error.to_string()))?;
        if self.config.central.objects.is_none() {
            return Ok((!files.is_empty()).then_some(Central { place, statement: None }));
        }
        let objects = Objects::open(self.config, Limits::default())?;
        let (mut names, mut bytes) = (String::new(), 0_u64);
        for row in &files {
            let (key, status): (&str, &str) = (row.get(0), row.get(1));
            if status != "deleted" || !objects.is_gone(key).await? {
                return Ok(Some(Central { place, statement: None }));
            }
            names.push_str(key);
            names.push('\n');
            bytes += row.get::<_, i64>(2).unsigned_abs();
        }
        let count = files.len() as u64;
        let statement = Statement {
            method: Method::DeleteObjects,
            destroyed: counts([(Destroyed::Objects, count), (Destroyed::Bytes, bytes)]),
            object_names: Some(sha256(names.as_bytes())),
            verified: counts([(Check::ObjectsAbsent, count), (Check::VersionsAbsent, count)]),
            left: BTreeSet::from([
                until(Leftover::UnrecognizedPictures, Condition::RetentionApplied),
                until(Leftover::Backups, Condition::BackupsExpired),
            ]),
            ..self.statement(order, place.clone())
        };
        Ok(Some(Central { place, statement: Some(statement) }))
    }

    /// A statement without content.
    fn statement(&self, order: &Order, place: Place) -> Statement {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Statement {
            order: order.id,
            subject: order.subject,
            place,
            ordered: order.ordered,
            by: By::Central,
            done: Timestamp::now(),
            uncertainty_ms: None,
            method: Method::DeleteRows,
            tool: Tool { program: Program::Gatehouse, version, journal_lsn: None },
            keys: Counts::new(),
            destroyed: Counts::new(),
            object_names: None,
            verified: Counts::new(),
            left: BTreeSet::new(),
        }
    }

    fn environment(&self) -> &'static str {
        self.config.device.environment.as_str()
    }
}

/// The answer of an appliance.
struct Answer {
    note: Option<Note>,
    state: PlaceState,
}

/// A central place, with its statement if it has nothing of the person.
struct Central {
    place: Place,
    statement: Option<Statement>,
}

/// The key that signs for the central services, from a file with 64 hexadecimal digits.
///
/// # Errors
/// [`SyncError::Setup`] for any other secret.
pub fn signer(config: &Config, secret: &[u8]) -> Result<Signer, SyncError> {
    let message = "the file of the signing key has no 64 hexadecimal digits; `gatehouse central receipt make-key FILE` \
                   makes one";
    let fault = || SyncError::Setup(message.to_owned());
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    hex::decode_to_slice(secret, seed.as_mut_slice()).map_err(|_| fault())?;
    Signer::from_seed(central_key_name(config.device.environment.as_str()), &seed).map_err(|_| fault())
}

fn until(what: Leftover, until: Condition) -> Left {
    Left { what, until: End::Condition(until) }
}

/// Without zeros: a statement lists only what there was.
fn counts<K: Ord, const N: usize>(all: [(K, u64); N]) -> Counts<K> {
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

fn unsigned(error: impl std::fmt::Display) -> SyncError {
    SyncError::Setup(format!("the receipt cannot be signed: {error}"))
}
