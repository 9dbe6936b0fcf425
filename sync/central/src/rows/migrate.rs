//! Numbered, embedded migrations. Each direction of a migration is one transaction, recorded in
//! `gatehouse.schema_migrations`. A lock serializes concurrent runs.

use std::cmp::Ordering;

use gatehouse_config::Rows;

use crate::error::{GuardFault, SyncError};
use crate::rows::classify;
use crate::rows::connect::{self, BATCH_TIMEOUT, Link, timed};

/// One migration of the schema.
pub struct Migration {
    /// Its number, from 1.
    pub version: i32,
    /// Its name.
    pub name: &'static str,
    /// Statements that bring the schema to this version.
    pub up: &'static str,
    /// Statements that bring it back to the version before.
    pub down: &'static str,
}

/// All migrations, in order. People are one of their own, because they need pgvector and the rest does not.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "baseline",
        up: include_str!("../../sql/0001_baseline.up.sql"),
        down: include_str!("../../sql/0001_baseline.down.sql"),
    },
    Migration {
        version: 2,
        name: "people",
        up: include_str!("../../sql/0002_people.up.sql"),
        down: include_str!("../../sql/0002_people.down.sql"),
    },
];

/// Advisory lock for changes of the schema. Any number that nothing else uses.
const LOCK: i64 = 0x6761_7465_686f_7573;

const TABLE: &str = "create schema if not exists gatehouse; \
     create table if not exists gatehouse.schema_migrations (version int primary key, name text not null, \
         applied_at timestamptz not null default now()); \
     comment on schema gatehouse is 'Gatehouse: data delivered by its appliances.'; \
     comment on table gatehouse.schema_migrations is 'Migrations applied to this schema, one row each.'; \
     comment on column gatehouse.schema_migrations.version is 'Number of the migration.'; \
     comment on column gatehouse.schema_migrations.name is 'Name of the migration.'; \
     comment on column gatehouse.schema_migrations.applied_at is 'Time at which it was applied, by the clock of this server.'";

/// What one migration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// Its number.
    pub version: i32,
    /// Its name.
    pub name: &'static str,
    /// True for up, false for down.
    pub up: bool,
}

/// Brings the schema to `target` (0 = empty, none = the newest version of this program). Without a target, a
/// schema that is newer than this program is not changed.
///
/// # Errors
/// [`SyncError`]. The failed migration was rolled back. Earlier ones stay.
pub async fn migrate(rows: &Rows, target: Option<i32>) -> Result<Vec<Migrated>, SyncError> {
    migrate_with(rows, MIGRATIONS, target).await
}

/// [`migrate`] with other migrations than [`MIGRATIONS`], for tests of the mechanism.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_with(
    rows: &Rows,
    migrations: &[Migration],
    target: Option<i32>,
) -> Result<Vec<Migrated>, SyncError> {
    let mut link = connect::connect(rows).await?;
    timed(
        "create the schema",
        BATCH_TIMEOUT,
        link.client.batch_execute(&format!("begin; {}; {TABLE}; commit", lock())),
    )
    .await?;
    let mut done = Vec::new();
    // Each iteration applies one migration, so their number bounds the loop.
    for _ in 0..=migrations.len() {
        match step(&mut link, migrations, target).await? {
            Some(migrated) => done.push(migrated),
            None => break,
        }
    }
    Ok(done)
}

/// One step towards the target, in one transaction.
async fn step(
    link: &mut Link,
    migrations: &[Migration],
    target: Option<i32>,
) -> Result<Option<Migrated>, SyncError> {
    const DOING: &str = "migrate the schema";
    let transaction = timed(DOING, BATCH_TIMEOUT, link.client.transaction()).await?;
    timed(DOING, BATCH_TIMEOUT, transaction.batch_execute(&lock())).await?;
    let query = "select coalesce(max(version), 0) from gatehouse.schema_migrations";
    let version: i32 = timed(DOING, BATCH_TIMEOUT, transaction.query_one(query, &[])).await?.get(0);
    let newest = migrations.last().map_or(0, |migration| migration.version);
    let target = target.unwrap_or(newest.max(version));
    let (number, up) = match version.cmp(&target) {
        Ordering::Equal => return Ok(None),
        Ordering::Less => (version + 1, true),
        Ordering::Greater => (version, false),
    };
    let Some(migration) = migrations.iter().find(|migration| migration.version == number) else {
        let message =
            format!("there is no migration {number} in this version of Gatehouse; the schema has {version}");
        return Err(SyncError::Setup(message));
    };
    // A statement that fails here is a defect of this program or a missing permission, never bad data.
    let text = if up { migration.up } else { migration.down };
    timed(DOING, BATCH_TIMEOUT, transaction.batch_execute(text)).await.map_err(unprepared_to_setup)?;
    let note = if up {
        "insert into gatehouse.schema_migrations (version, name) values ($1, $2)"
    } else {
        "delete from gatehouse.schema_migrations where version = $1 and $2 <> ''"
    };
    timed(DOING, BATCH_TIMEOUT, transaction.execute(note, &[&number, &migration.name])).await?;
    timed(DOING, BATCH_TIMEOUT, transaction.commit()).await?;
    Ok(Some(Migrated { version: number, name: migration.name, up }))
}

/// Takes the lock until the end of the transaction. Changes of roles take it as well.
pub fn lock() -> String {
    format!("select pg_advisory_xact_lock({LOCK})")
}

/// The advice "run central init" must not be given by `init` itself.
fn unprepared_to_setup(error: SyncError) -> SyncError {
    match error {
        SyncError::Guard(GuardFault::NotPrepared { message, .. }) => {
            SyncError::Setup(format!("migrate the schema: {message}; the schema was changed manually"))
        }
        other => other,
    }
}

/// The version of the schema. 0 if there is none.
pub async fn version(link: &Link) -> Result<i32, SyncError> {
    let query = "select coalesce(max(version), 0) from gatehouse.schema_migrations";
    match timed("read the schema version", BATCH_TIMEOUT, link.client.query_one(query, &[])).await {
        Ok(row) => Ok(row.get(0)),
        Err(error) if classify::is_missing(&error) => Ok(0),
        Err(error) => Err(error),
    }
}
