//! Real services, faults and synthetic data for the tests, the benchmarks and the demo of Gatehouse.
//!
//! It uses only the external interfaces of the product: binaries, topics, tables. It imports no product crate.
//!
//! - [`broker`], [`postgres`], [`s3`], [`minio`]: the services, on free ports, in temporary folders;
//! - [`proxy`], [`tls`]: a TCP proxy that injects faults, and TLS whose certificate can expire;
//! - [`synthetic`], [`jpeg`], [`malformed`]: people, encodings, pictures and messages, all from a seed;
//! - [`camera`]: a camera that publishes and a listener that collects the answers;
//! - [`daemon`]: runs the built `gatehoused` and `gatehouse`.

pub mod broker;
pub mod camera;
pub mod certs;
pub mod daemon;
pub mod embedded;
pub mod folder;
pub mod http;
pub mod jpeg;
pub mod malformed;
pub mod minio;
pub mod moto;
pub mod note;
pub mod objects;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod readers;
pub mod require;
pub mod s3;
pub mod synthetic;
pub mod tls;
pub mod wait;
