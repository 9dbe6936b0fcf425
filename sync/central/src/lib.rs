//! Clients of the central services: PostgreSQL ([`rows`]) and S3 ([`objects`]), both bound to one environment.
//!
//! Delivery (`gatehouse-sync`) and administration (`gatehouse-admin`) use this crate. Its only task is the driver of a
//! Postgres connection.

#[cfg(test)]
extern crate self as gatehouse_central;

pub mod deployment;
pub mod error;
pub mod finding;
pub mod grant;
pub mod objects;
pub mod rows;
pub mod services;
pub mod throttle;

pub use error::{GuardFault, SyncError};
