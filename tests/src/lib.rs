//! Shared code of the scenarios, benchmarks and fault suite of Gatehouse. The tests are in `tests/`, the programs in
//! `src/bin/`.

pub mod bench;
pub mod drive;
pub mod faults;
pub mod measure;
pub mod oracle;
pub mod plan;
pub mod scan;
pub mod setup;
pub mod shipped;
