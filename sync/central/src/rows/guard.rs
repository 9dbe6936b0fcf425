//! Sign-in of an appliance at the central database. Nothing is written before schema, environment and state directory
//! are verified.

use chrono::{DateTime, Utc};
use gatehouse_config::Environment;
use gatehouse_journal::Position;
use gatehouse_model::Timestamp;
use gatehouse_store::store::EventView;
use tokio_postgres::types::ToSql;
use tokio_postgres::{GenericClient, Row};

use crate::error::{GuardFault, SyncError};
use crate::rows::connect::{CALL_TIMEOUT, Link, timed};
use crate::rows::{to_datetime, to_i64, to_u64};

/// The identity of an appliance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `device.id`.
    pub device: String,
    /// `device.site`.
    pub site: String,
    /// `device.environment`.
    pub environment: Environment,
    /// The id of the state directory.
    pub state_id: String,
}

/// How far a device has delivered, according to the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The central cursor.
    pub cursor: Position,
    /// The event at the cursor. None if there is none yet or its row was removed.
    pub last: Option<LastEvent>,
}

/// Items that an appliance has not delivered yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Events.
    pub events: u64,
    /// Media files.
    pub files: u64,
    /// Arrival of the oldest of these events.
    pub oldest: Option<Timestamp>,
}

/// What identifies an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastEvent {
    /// Its camera.
    pub camera: String,
    /// The id that the camera gave it.
    pub event_id: String,
    /// When the appliance received it, by its clock at that time.
    pub received_at: DateTime<Utc>,
    /// Uncertainty of this time in milliseconds. None if it was unknown.
    pub uncertainty_ms: Option<i64>,
}

impl LastEvent {
    /// Whether it is this event: the same ids, and the same time within the uncertainty then and now.
    pub fn is(&self, view: &EventView) -> bool {
        let EventView { event, time: known, .. } = view;
        let off = self.uncertainty_ms.unwrap_or(0).saturating_add(known.uncertainty_ms.map_or(0, to_i64));
        let apart = (to_datetime(known.at) - self.received_at).num_milliseconds();
        // A time delivered before a reference time was known is not corrected later.
        let same_time = apart.saturating_abs() <= off || to_datetime(event.received_at) == self.received_at;
        same_time && event.key.camera.as_str() == self.camera && event.key.id.as_str() == self.event_id
    }
}

/// Schema version that this program writes to. A newer schema is accepted: migrations only add, so the central
/// services may be upgraded before the appliances.
pub const SCHEMA_NEEDED: i32 = 1;

/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Cursor, owner and environment of one device. Locks the cursor.
pub const LOCK_CURSOR: &str = "select c.lsn, c.seq, d.state_id, (select name from gatehouse.environment) \
     from gatehouse.device_cursors c join gatehouse.devices d using (device_id) \
     where c.device_id = $1 for update of c";

const LAST_EVENT: &str = "select camera, event_id, received_at, clock_uncertainty_ms from gatehouse.events \
     where device_id = $1 and seq = $2 and identification <> '{}' limit 1";

/// Registers the device if it is new, and returns how far it has delivered. Existing rows are not changed.
///
/// It waits for the lock on the cursor: an abandoned session of this appliance may still be in its commit, and the
/// cursor must be read after that.
pub async fn sign_in(link: &mut Link, identity: &Identity) -> Result<Standing, SyncError> {
    const DOING: &str = "sign in at Postgres";
    let transaction = timed(DOING, CALL_TIMEOUT, link.client.transaction()).await?;
    schema(&transaction).await?;
    match environment(&transaction).await? {
        Some(theirs) if theirs == identity.environment.as_str() => {}
        Some(theirs) => return Err(foreign(theirs, identity)),
        None => return Err(unmarked()),
    }
    let insert = "with d as (insert into gatehouse.devices (device_id, site, state_id, version) \
         values ($1, $2, $3, $4) on conflict (device_id) do nothing returning device_id) \
         insert into gatehouse.device_cursors (device_id) select device_id from d on conflict do nothing";
    let (site, version) = (site(identity), VERSION);
    timed(
        DOING,
        CALL_TIMEOUT,
        transaction.execute(insert, &[&identity.device, &site, &identity.state_id, &version]),
    )
    .await?;
    // An appliance enrolled centrally has a row before its state directory is known.
    let bind = "update gatehouse.devices set state_id = $2 where device_id = $1 and state_id = ''";
    timed(DOING, CALL_TIMEOUT, transaction.execute(bind, &[&identity.device, &identity.state_id])).await?;
    let row = timed(DOING, CALL_TIMEOUT, transaction.query_one(LOCK_CURSOR, &[&identity.device])).await?;
    let cursor = verify(&row, identity)?;
    let last = timed(
        DOING,
        CALL_TIMEOUT,
        transaction.query_opt(LAST_EVENT, &[&identity.device, &to_i64(cursor.seq)]),
    )
    .await?;
    timed(DOING, CALL_TIMEOUT, transaction.commit()).await?;
    let last = last.map(|row| LastEvent {
        camera: row.get(0),
        event_id: row.get(1),
        received_at: row.get(2),
        uncertainty_ms: row.get(3),
    });
    Ok(Standing { cursor, last })
}

/// Records that the device is connected, with its site, its version and its pending items.
///
/// # Errors
/// [`SyncError`] where the call fails.
pub async fn announce(link: &Link, identity: &Identity, waiting: Waiting) -> Result<(), SyncError> {
    const DOING: &str = "report this appliance to Postgres";
    let (site, version) = (site(identity), VERSION);
    let update = "update gatehouse.devices set last_seen = now(), site = $2, version = $3, pending_events = $4, \
         pending_files = $5, oldest_pending = $6, reported_at = now() where device_id = $1";
    let (events, files, oldest) =
        (to_i64(waiting.events), to_i64(waiting.files), waiting.oldest.map(to_datetime));
    let values: [&(dyn ToSql + Sync); 6] = [&identity.device, &site, &version, &events, &files, &oldest];
    timed(DOING, CALL_TIMEOUT, link.client.execute(update, &values)).await.map(drop)
}

fn site(identity: &Identity) -> String {
    identity.site.replace('\0', "\u{fffd}")
}

/// The cursor of a row of [`LOCK_CURSOR`], if this appliance may move it.
pub fn verify(row: &Row, identity: &Identity) -> Result<Position, SyncError> {
    let (lsn, seq): (i64, i64) = (row.get(0), row.get(1));
    let (state_id, environment): (String, Option<String>) = (row.get(2), row.get(3));
    match environment {
        Some(theirs) if theirs == identity.environment.as_str() => {}
        Some(theirs) => return Err(foreign(theirs, identity)),
        None => return Err(unmarked()),
    }
    if state_id != identity.state_id {
        return Err(GuardFault::ForeignState { device: identity.device.clone() }.into());
    }
    Ok(Position { lsn: to_u64(lsn), seq: to_u64(seq) })
}

/// Fails if the schema is missing or older than this program needs.
async fn schema(client: &impl GenericClient) -> Result<(), SyncError> {
    let query = "select coalesce(max(version), 0) from gatehouse.schema_migrations";
    let row = timed("read the schema version", CALL_TIMEOUT, client.query_one(query, &[])).await?;
    let version: i32 = row.get(0);
    if version < SCHEMA_NEEDED {
        let message = format!("schema version {version}, {SCHEMA_NEEDED} is needed");
        return Err(GuardFault::NotPrepared { place: "the database", message }.into());
    }
    Ok(())
}

/// The environment of the database. None if it is not marked.
pub async fn environment(client: &impl GenericClient) -> Result<Option<String>, SyncError> {
    let query = "select name from gatehouse.environment";
    let row = timed("read the environment", CALL_TIMEOUT, client.query_opt(query, &[])).await?;
    Ok(row.map(|row| row.get(0)))
}

fn foreign(theirs: String, identity: &Identity) -> SyncError {
    GuardFault::Environment { place: "the database", theirs, ours: identity.environment.as_str() }.into()
}

fn unmarked() -> SyncError {
    GuardFault::NotPrepared { place: "the database", message: "it has no environment mark".to_owned() }.into()
}
