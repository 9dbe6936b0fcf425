//! Tests of the built programs from outside, with real services.

mod central;
mod central_owner;
mod deployment;
mod edges;
mod erasure_kills;
mod export;
mod freshness;
mod full_disk;
mod log;
mod mosquitto;
mod privacy;
mod provisioning;
mod threshold;
