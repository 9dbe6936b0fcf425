//! The benchmarks: each gives a table of our number and the limit of its parts, measured in the same run.

pub mod backlog;
pub mod erasure;
pub mod identify;
pub mod ingest;
pub mod journal;
pub mod markdown;
pub mod measure;
pub mod month;
mod nodelay;
pub mod objects;
pub mod steady;
pub mod sync;
pub mod table;
pub mod thresholds;
