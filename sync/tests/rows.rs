//! Central rows against a real Postgres: exactly once, in order, on the right database, whatever breaks.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "rows/archive.rs"]
mod archive;
#[path = "rows/attack.rs"]
mod attack;
#[path = "rows/clock.rs"]
mod clock;
#[path = "rows/commit.rs"]
mod commit;
#[path = "rows/delivery.rs"]
mod delivery;
#[path = "rows/enroll.rs"]
mod enroll;
#[path = "rows/environments.rs"]
mod environments;
#[path = "rows/exactly_once.rs"]
mod exactly_once;
#[path = "rows/files.rs"]
mod files;
#[path = "rows/guards.rs"]
mod guards;
#[path = "rows/history.rs"]
mod history;
#[path = "rows/people.rs"]
mod people;
#[path = "rows/people_model.rs"]
mod people_model;
#[path = "rows/poison.rs"]
mod poison;
#[path = "rows/previews.rs"]
mod previews;
#[path = "rows/reports.rs"]
mod reports;
#[path = "rows/retention.rs"]
mod retention;
#[path = "rows/schema.rs"]
mod schema;
#[path = "rows/support.rs"]
mod support;
