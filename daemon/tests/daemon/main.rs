//! Tests of the daemon: its pipeline at a real broker, and the built programs from outside.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod control;
mod mqtt;
