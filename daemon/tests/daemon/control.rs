//! The built daemon and the built tool, from outside, with nothing else on the machine: no broker, no Postgres, no S3;
//! only [`visits`], [`corrections`] and [`galleries`] start a broker.

mod corrections;
#[cfg(test)]
mod galleries;
#[cfg(test)]
mod harness;
mod lifecycle;
mod operator;
mod refusals;
mod visits;
