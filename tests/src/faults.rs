//! The fault suite. Each fault is repeated from a seed: power cuts, full disks, kills, flipped bits, clock jumps, and
//! faults of the central services and of the connection to them. Every kind gives at least one line of a table. A failure
//! is any loss of acknowledged data, duplicate, panic or refused start, and any fault that the status does not name.

pub mod clock;
pub mod cuts;
pub mod delivery;
pub mod devices;
pub mod flips;
pub mod kills;
pub mod slow;
pub mod states;
mod street;
#[path = "../../store/tests/store/twin.rs"]
mod twin;

use serde_json::{Value, json};

use crate::bench::table::Table;

/// How much of each.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Crash states of the recorded disk.
    pub states: u64,
    /// Power cuts of a real file system.
    pub cuts: u64,
    /// Kills of the daemon.
    pub kills: u64,
    /// Flipped bits and cut files.
    pub flips: u64,
    /// Jumps of the clock.
    pub jumps: u64,
    /// How often all faults of delivery, and whether the slow ones too.
    pub deliveries: (u64, bool),
    /// Appliances that share people.
    pub devices: u64,
    /// Floods over slow flash.
    pub floods: u64,
}

/// Some minutes, for every change.
pub const QUICK: Scale = Scale {
    states: 60,
    cuts: 5,
    kills: 8,
    flips: 60,
    jumps: 4,
    deliveries: (1, false),
    devices: 3,
    floods: 1,
};
/// What a release must bear.
pub const SOAK: Scale = Scale {
    states: 1_000,
    cuts: 200,
    kills: 200,
    flips: 1_000,
    jumps: 20,
    deliveries: (3, true),
    devices: 10,
    floods: 5,
};

/// What came of one kind of fault.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// How often it was done.
    pub rounds: u64,
    /// Events or records that were acknowledged.
    pub acknowledged: u64,
    /// Acknowledged and gone, without a word.
    pub lost: u64,
    /// Gone and said to be: only where the medium itself was damaged.
    pub lost_said: u64,
    /// There more than once.
    pub doubles: u64,
    /// Panics.
    pub panics: u64,
    /// Starts that were refused.
    pub refused: u64,
    /// Faults that the status did not name, or named when they were over.
    pub unsaid: u64,
    /// What a reader must know.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Whether nothing happened that must never happen.
    pub fn is_good(&self) -> bool {
        self.lost + self.doubles + self.panics + self.refused + self.unsaid == 0
    }

    /// Something is gone, in words.
    fn lost(&mut self, count: u64, words: &str) {
        self.lost += count;
        if count > 0 {
            self.notes.push(words.to_owned());
        }
    }

    /// The status did not say what it should have, in words.
    fn unsaid(&mut self, words: &str) {
        self.unsaid += 1;
        self.notes.push(words.to_owned());
    }

    /// Its line in the table.
    pub fn line(&self, fault: &str, seconds: f64) -> Vec<Value> {
        vec![
            json!(fault),
            json!(self.rounds),
            json!(self.acknowledged),
            json!(self.lost),
            json!(self.lost_said),
            json!(self.doubles),
            json!(self.panics),
            json!(self.refused),
            json!(self.unsaid),
            json!(seconds),
        ]
    }
}

/// The table without lines.
pub fn table(seed: u64) -> Table {
    let columns = [
        "fault",
        "rounds",
        "acknowledged",
        "lost",
        "lost, said",
        "doubles",
        "panics",
        "refused",
        "unsaid",
        "s",
    ];
    Table::new(&format!("Faults, seed {seed}"), &columns)
}
