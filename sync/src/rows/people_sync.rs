//! People in both directions: upload of all local people once, and download of changes of other appliances. Upload is
//! repeated if the database was restored to an earlier time: then erasures of this appliance may be missing there.
//!
//! SQL functions merge (`sync/central/sql/0002_people.up.sql`). They may be called again, so people are uploaded
//! before the transaction of their batch, and no other appliance waits for a slow connection. Downloaded changes are
//! numbered in the order in which they became visible. The last applied number is in the journal.
//!
//! After a crash: what was uploaded or applied and not recorded is repeated and changes nothing.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use gatehouse_central::error::SyncError;
use gatehouse_central::rows::shared_people::{
    self, PEOPLE_PER_CALL, SealedTerm, templates_by_person, upload,
};
use gatehouse_central::rows::{BATCH_TIMEOUT, CALL_TIMEOUT, Link, timed, to_i64, to_timestamp, to_u64};
use gatehouse_gallery::transform::Protected;
use gatehouse_model::{OrderId, Timestamp};
use gatehouse_store::deployment::Reference;
use gatehouse_store::store::{
    ErasureOrder, People, PeopleCursor, Refusal, RequestError, Shared, SharedSample, SharedTerm,
};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::blocking;
use crate::rows::erasure_statements::ErasureStatements;

/// The note of a database that was restored to an earlier time.
const RESTORED: &str = "the central database does not have the last change of people that this appliance took: it was \
     restored to an earlier time; all erasures and people are sent again";

/// Agrees with the database on what both have. Sends all erasures and people if the database has not received them, or
/// was restored. Returns a note if it was.
pub(crate) async fn reconcile(
    link: &Link,
    device: &str,
    people: &People,
    signed: &ErasureStatements,
) -> Result<Option<String>, SyncError> {
    const DOING: &str = "compare the changes of people with Postgres";
    let reader = people.clone();
    let before = blocking(DOING, move || reader.cursor()).await?.map_err(SyncError::store(DOING))?;
    let position = shared_people::compare_position(link, device, &before).await?;
    if !position.continues {
        tracing::warn!(change = before.upto, "{RESTORED}");
        people.advance_cursor(before, before.reset()).await.map_err(SyncError::store(DOING))?;
    }
    if position.send_all {
        upload_all(link, device, people, signed).await?;
    }
    Ok((!position.continues).then(|| RESTORED.to_owned()))
}

/// Uploads all erasures, and then all people: they may be from before people were shared, or lost by a restored database.
async fn upload_all(
    link: &Link,
    device: &str,
    people: &People,
    signed: &ErasureStatements,
) -> Result<(), SyncError> {
    const DOING: &str = "upload people to Postgres";
    let store = people.clone();
    let erasures = blocking(DOING, move || store.erasures()).await?.map_err(SyncError::store(DOING))?;
    for order in &erasures {
        shared_people::erase(link, device, order, None).await?;
    }
    signed.send_all(link, device).await?;
    // Each person is sealed and each template transformed, which takes too long for an async worker.
    for chunk in people.keys().chunks(PEOPLE_PER_CALL) {
        let (people, keys) = (people.clone(), chunk.to_vec());
        let read = move || keys.iter().filter_map(|key| people.shared(key)).collect::<Vec<Shared>>();
        let shared = blocking(DOING, read).await?;
        upload(link, device, &shared.iter().collect::<Vec<_>>()).await?;
    }
    let note = "select gatehouse.confirm_people_sent($1)";
    timed(DOING, CALL_TIMEOUT, link.client.execute(note, &[&device])).await.map(drop)
}

/// Result of one download.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Changes received.
    pub(crate) people: u64,
    /// Whether more changes are pending.
    pub(crate) more: bool,
    /// People who were skipped, each as a text.
    pub(crate) set_aside: Vec<String>,
}

/// Downloads and applies the next changes.
pub(crate) async fn take(
    link: &Link,
    device: &str,
    people: &People,
    signed: &ErasureStatements,
) -> Result<Taken, SyncError> {
    const DOING: &str = "download people from Postgres";
    const AFTER: &str = "select change_no, change_id, id, order_id, erased_at, enrolled_at, named_at, metadata, queried_at, \
         statement_due \
         from gatehouse.people_changed_after($1, $2, $3)";
    let note = reconcile(link, device, people, signed).await?;
    let reader = people.clone();
    let before = blocking(DOING, move || reader.cursor()).await?.map_err(SyncError::store(DOING))?;
    let most = i32::try_from(PEOPLE_PER_CALL).unwrap_or(i32::MAX);
    let rows = timed(DOING, BATCH_TIMEOUT, link.client.query(AFTER, &[&device, &to_i64(before.upto), &most]))
        .await?;
    let changes: Vec<PersonChange> = rows.iter().map(PersonChange::new).collect();
    let mut taken =
        Taken { people: changes.len() as u64, more: changes.len() >= PEOPLE_PER_CALL, set_aside: Vec::new() };
    taken.set_aside.extend(note);
    let mut now = before;
    if !changes.is_empty() {
        let alive: Vec<Uuid> =
            changes.iter().filter(|one| one.metadata.is_some()).map(|one| one.person).collect();
        let query = "select person, model, template from gatehouse.templates_of($1, $2)";
        let rows = timed(DOING, BATCH_TIMEOUT, link.client.query(query, &[&device, &alive])).await?;
        let mut templates = templates_by_person(&rows);
        let mut terms = shared_people::terms_of(link, device, &alive).await?;
        let has_erasures = changes.iter().any(|change| change.erased_at.is_some());
        let ids = match has_erasures {
            true => ids_by_reference(DOING, people).await?,
            false => HashMap::new(),
        };
        for change in &changes {
            let stamps = terms.get(&change.person).into_iter().flatten().map(|term| term.changed_at);
            let newest = stamps.fold(now.newest.max(change.stamp()), Timestamp::max);
            // An erasure may come before a new enrollment of the same id, to which the details belong.
            let details = change.metadata.is_some().then(|| Details {
                samples: templates.remove(&change.person).unwrap_or_default(),
                terms: terms.remove(&change.person).unwrap_or_default(),
            });
            taken.set_aside.extend(change.take(people, &ids, details).await?);
            now = PeopleCursor { upto: change.number, change: *change.id.as_bytes(), newest };
        }
        let orders = changes.iter().filter_map(PersonChange::order).collect();
        let due = changes.iter().filter_map(PersonChange::due).collect();
        people.record_erasures(orders, &due).await.map_err(SyncError::store(DOING))?;
        people.advance_cursor(before, now).await.map_err(SyncError::store(DOING))?;
    }
    let note = "select gatehouse.confirm_people_applied($1, $2)";
    timed(DOING, CALL_TIMEOUT, link.client.execute(note, &[&device, &to_i64(now.upto)])).await?;
    Ok(taken)
}

/// The ids of all people by reference. It hashes every id.
pub(super) async fn ids_by_reference(
    doing: &'static str,
    people: &People,
) -> Result<HashMap<Reference, String>, SyncError> {
    let people = people.clone();
    blocking(doing, move || people.ids_by_reference()).await
}

/// What belongs to a downloaded person.
struct Details {
    /// Templates, with their models.
    samples: Vec<(String, Vec<f32>)>,
    terms: Vec<SealedTerm>,
}

/// A downloaded change.
struct PersonChange {
    number: u64,
    id: Uuid,
    person: Uuid,
    order: Option<Uuid>,
    erased_at: Option<Timestamp>,
    born: Option<Timestamp>,
    named_at: Option<Timestamp>,
    metadata: Option<Vec<u8>>,
    asked_at: Timestamp,
    /// Whether this appliance has to state the erasure.
    statement_due: bool,
}

impl PersonChange {
    fn new(row: &Row) -> Self {
        let at = |nth: usize| row.get::<_, Option<DateTime<Utc>>>(nth).map(to_timestamp);
        Self {
            number: to_u64(row.get(0)),
            id: row.get(1),
            person: row.get(2),
            order: row.get(3),
            erased_at: at(4),
            born: at(5),
            named_at: at(6),
            metadata: row.get(7),
            asked_at: to_timestamp(row.get(8)),
            statement_due: row.get(9),
        }
    }

    /// Its erasure, if there is one.
    fn order(&self) -> Option<ErasureOrder> {
        let (order, at) = (OrderId::from_bytes(*self.order?.as_bytes()), self.erased_at?);
        Some(ErasureOrder { order, reference: Reference(*self.person.as_bytes()), at })
    }

    /// The order of its erasure, if this appliance has to state it.
    fn due(&self) -> Option<OrderId> {
        self.order().filter(|_| self.statement_due).map(|order| order.order)
    }

    /// The latest of its timestamps.
    fn stamp(&self) -> Timestamp {
        let stamps = [self.erased_at, self.born, self.named_at];
        stamps.into_iter().flatten().max().unwrap_or(self.asked_at)
    }

    /// Applies it. Returns a text if it was skipped.
    async fn take(
        &self,
        people: &People,
        ids: &HashMap<Reference, String>,
        details: Option<Details>,
    ) -> Result<Option<String>, SyncError> {
        const DOING: &str = "apply changes of people";
        let reference = Reference(*self.person.as_bytes());
        if let (Some(erasure), Some(id)) = (self.order(), ids.get(&reference)) {
            let merged = people.merge_erasure(id, erasure.order, erasure.at, self.asked_at);
            merged.await.map_err(SyncError::store(DOING))?;
        }
        let Some(details) = details else { return Ok(None) };
        let Some(person) = self.person(people, reference, details) else {
            return Ok(Some(self.left_out("it is not sealed with this deployment's key")));
        };
        match people.merge(&person, self.asked_at).await {
            Ok(_) => Ok(None),
            Err(RequestError::Refused(
                refused @ (Refusal::Person(_) | Refusal::Terms(_) | Refusal::NotNormalised { .. }),
            )) => Ok(Some(self.left_out(&refused.to_string()))),
            Err(error) => Err(SyncError::store(DOING)(error)),
        }
    }

    fn person(
        &self,
        people: &People,
        reference: Reference,
        Details { samples, terms }: Details,
    ) -> Option<Shared> {
        let sealed = self.metadata.clone()?;
        let key = people.deployment()?;
        let person = key.open(reference, &sealed).ok()?;
        let sample = |(model, components): (String, Vec<f32>)| {
            let template = Protected::received(components).ok()?;
            Some(SharedSample { model, template })
        };
        let samples = samples.into_iter().filter_map(sample).collect();
        // A term that cannot be opened is not one of the holders of the key: the person is skipped.
        let opened = terms.into_iter().map(|SealedTerm { kind, changed_at, sealed }| {
            let term = key.open_term(reference, kind, changed_at, &sealed).ok()?;
            Some(SharedTerm { kind, term, sealed })
        });
        let terms = opened.collect::<Option<Vec<SharedTerm>>>()?;
        Some(Shared { reference, person, born: self.born?, named_at: self.named_at?, sealed, terms, samples })
    }

    fn left_out(&self, message: &str) -> String {
        format!("central person {}: {message}; skipped", self.person)
    }
}
