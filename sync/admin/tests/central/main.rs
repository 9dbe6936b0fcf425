//! `gatehouse central` against a real Postgres and S3 servers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod archive;
mod enroll;
mod erasure;
mod files;
mod reports;
mod requests;
mod retention;
#[path = "../../../tests/rows/support.rs"]
mod support;
