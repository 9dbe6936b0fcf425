//! The Postgres client: connection, TLS, schema, environment guard and error classification.

mod classify;
mod connect;
mod guard;
mod migrate;
mod probe;
pub mod shared_people;
mod tls;
mod values;

pub use connect::{BATCH_TIMEOUT, CALL_TIMEOUT, Link, connect, timed};
pub use guard::{
    Identity, LOCK_CURSOR, LastEvent, SCHEMA_NEEDED, Standing, Waiting, announce, environment, sign_in,
    verify,
};
pub use migrate::{MIGRATIONS, Migrated, Migration, lock, migrate, migrate_with, version};
pub use values::{Value, clamped, to_datetime, to_i64, to_timestamp, to_u64};
