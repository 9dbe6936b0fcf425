//! Central rows against a real Postgres: exactly once, in order, on the right database, whatever breaks.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod attack;
mod clock;
mod commit;
mod delivery;
mod environments;
mod exactly_once;
mod guards;
mod history;
mod people;
mod people_model;
mod poison;
mod previews;
mod receipts;
mod restores;
mod schema;
mod support;
mod terms;
