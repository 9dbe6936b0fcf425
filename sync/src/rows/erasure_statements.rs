//! ErasureStatements about erasures: made from the accounts of the store, signed with the key of this appliance.

use std::collections::BTreeSet;

use gatehouse_central::error::SyncError;
use gatehouse_central::rows::{CALL_TIMEOUT, Identity, Link, Value, timed};
use gatehouse_model::KeyId;
use gatehouse_receipt::{
    Check, Condition, Counts, Destroyed, End, KeyKind, Left, Leftover, Method, Place, Program, Signer,
    Statement, Tool,
};
use gatehouse_store::record::{ErasureChecks, ErasureFound};
use gatehouse_store::store::{ErasureStatement, Feed};
use uuid::Uuid;

use crate::blocking;

const DOING: &str = "send a statement about an erasure to Postgres";

/// Signs for this appliance.
pub(crate) struct ErasureStatements {
    place: Place,
    signer: Signer,
    feed: Feed,
}

impl ErasureStatements {
    /// With the key of this state directory.
    pub(crate) async fn new(identity: &Identity, feed: &Feed) -> Result<Self, SyncError> {
        let state = KeyId::parse(&identity.state_id);
        let place = Place::device(identity.environment.as_str(), &identity.device, state)
            .map_err(|error| SyncError::Setup(format!("statements about erasures: {error}")))?;
        let (reader, name) = (feed.clone(), place.key_name());
        let signer = blocking(DOING, move || reader.signer(name)).await?.map_err(SyncError::store(DOING))?;
        Ok(Self { place, signer, feed: feed.clone() })
    }

    /// Sends all statements of this appliance. Those that the database has change nothing.
    pub(crate) async fn send_all(&self, link: &Link, device: &str) -> Result<(), SyncError> {
        let feed = self.feed.clone();
        let all = blocking(DOING, move || feed.statements()).await?.map_err(SyncError::store(DOING))?;
        for statement in &all {
            self.send(link, device, statement).await?;
        }
        Ok(())
    }

    /// Sends a statement.
    pub(crate) async fn send(
        &self,
        link: &Link,
        device: &str,
        statement: &ErasureStatement,
    ) -> Result<(), SyncError> {
        const RECORD: &str = "select gatehouse.record_statement($1, $2, $3, $4, $5)";
        let order = Uuid::from_bytes(*statement.account.order.as_bytes());
        let note = statement_of(&self.place, statement)
            .sign(&self.signer)
            .map_err(|error| SyncError::Setup(format!("statement about erasure {order}: {error}")))?;
        let state = self.place.state().map(|state| state.to_string()).unwrap_or_default();
        let (text, key) = (note.to_string(), self.signer.verifier_key().to_string());
        let values: [&Value<'_>; 5] = [&device, &order, &state, &text, &key];
        timed(DOING, CALL_TIMEOUT, link.client.execute(RECORD, &values)).await.map(drop)
    }
}

fn statement_of(place: &Place, ErasureStatement { subject, lsn, account }: &ErasureStatement) -> Statement {
    let ErasureFound { templates, references, attributes, files, bytes } = account.found;
    let checks: ErasureChecks = account.checks;
    // Only an enrolled person had a key.
    let people = u64::from(checks.free_slots > 0);
    Statement {
        order: Uuid::from_bytes(*account.order.as_bytes()),
        subject: *subject,
        place: place.clone(),
        ordered: account.ordered_at,
        by: account.by,
        done: account.done_at,
        uncertainty_ms: account.uncertainty_ms,
        method: Method::CryptoErase,
        tool: Tool {
            program: Program::Gatehoused,
            version: account.version.clone(),
            journal_lsn: Some(*lsn),
        },
        keys: counts([(KeyKind::Person, people), (KeyKind::Media, files)]),
        destroyed: counts([
            (Destroyed::People, people),
            (Destroyed::Templates, templates),
            (Destroyed::References, references),
            (Destroyed::Attributes, attributes),
            (Destroyed::Pictures, files),
            (Destroyed::Bytes, bytes),
        ]),
        object_names: None,
        verified: counts([
            (Check::SlotFree, checks.free_slots),
            (Check::ProfileRefused, checks.profiles),
            (Check::TemplateRefused, checks.templates),
            (Check::SearchOther, checks.searches),
            (Check::MediaRefused, checks.files),
        ]),
        left: BTreeSet::from([
            until(Leftover::UnrecognizedPictures, Condition::RetentionApplied),
            until(Leftover::Strangers, Condition::RetentionApplied),
            until(Leftover::FlashSpareBlocks, Condition::RootKeyDestroyed),
        ]),
    }
}

fn until(what: Leftover, until: Condition) -> Left {
    Left { what, until: End::Condition(until) }
}

/// Without zeros: a statement lists only what there was.
fn counts<K: Ord, const N: usize>(all: [(K, u64); N]) -> Counts<K> {
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}
