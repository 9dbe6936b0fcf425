//! The built daemon and the built tool, from outside, with nothing else on the machine: no broker, no Postgres, no S3;
//! only [`visits`], [`corrections`], [`export`] and [`galleries`] start a broker.

mod corrections;
mod export;
#[cfg(test)]
mod galleries;
#[cfg(test)]
mod harness;
mod lifecycle;
mod operator;
mod refusals;
mod visits;
