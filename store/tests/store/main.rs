//! Tests of the store through its public interface.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod corrections;
mod galleries;
mod journal_survives;
mod ledger;
mod opening;
mod records;
mod retention;
mod statistics;
mod thresholds;
mod twin;
