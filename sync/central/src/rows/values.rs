//! Conversions between values of the journal and values of Postgres.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use gatehouse_model::Timestamp;
use tokio_postgres::types::ToSql;

/// Years 1 to 9999: the range that every client of the database can read.
const TIME_RANGE_MICROS: RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// A parameter of a statement.
pub type Value<'a> = dyn ToSql + Sync + 'a;

/// A number of the journal as Postgres stores it. No journal comes near 2^63 records.
pub fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number of Postgres as the journal has it. The schema forbids numbers below zero.
pub fn to_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A time as Postgres can store it.
pub fn to_datetime(at: Timestamp) -> DateTime<Utc> {
    clamped(at).to_chrono()
}

/// A time of Postgres as a timestamp.
pub fn to_timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp(at.timestamp_micros())
}

/// The nearest time that Postgres can store.
pub fn clamped(at: Timestamp) -> Timestamp {
    Timestamp(at.0.clamp(*TIME_RANGE_MICROS.start(), *TIME_RANGE_MICROS.end()))
}
