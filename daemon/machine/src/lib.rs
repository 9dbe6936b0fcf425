//! What `gatehoused` and `gatehouse` both need of the machine they run on: sealed secrets, system programs with a
//! deadline, and checks of the machine and its settings.

pub mod checks;
pub mod credstore;
pub mod gallery;
pub mod notes;
pub mod program;
