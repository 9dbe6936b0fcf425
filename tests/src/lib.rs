//! What the scenarios and benchmarks of Gatehouse share. The tests lie in `tests/`, the benchmark program in
//! `src/bin/`.

pub mod bench;
pub mod drive;
pub mod faults;
pub mod house;
pub mod measure;
pub mod plan;
pub mod scan;
pub mod shipped;
pub mod truth;
