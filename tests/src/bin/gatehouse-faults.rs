//! `gatehouse-faults [--quick|--soak] [--seed N] [KIND ...]`: faults, again and again, and a table of what came of them.

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use gatehouse_tests::faults::{
    Outcome, QUICK, SOAK, clock, cuts, delivery, devices, flips, kills, slow, states, table,
};

/// Does to Gatehouse what the world does, and counts what is lost.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which faults; all, where none is named.
    kinds: Vec<Kind>,
    /// Some minutes; what is done where nothing else is asked for.
    #[arg(long, conflicts_with = "soak")]
    quick: bool,
    /// An hour.
    #[arg(long)]
    soak: bool,
    /// Where the chances come from; the same seed does the same to the files.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Power cuts of a recorded disk.
    States,
    /// A disk that is full at every act.
    Full,
    /// Power cuts of a real file system.
    Cuts,
    /// kill -9.
    Kills,
    /// kill -9 of one that delivers.
    SyncKills,
    /// Flipped bits and cut files.
    Flips,
    /// A clock that jumps.
    Clock,
    /// Flash that is slower than the cameras.
    Slow,
    /// Whatever happens to the central side and on the way there.
    Delivery,
    /// Several appliances that share people while their lines come and go.
    Devices,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::States,
        Self::Full,
        Self::Cuts,
        Self::Kills,
        Self::SyncKills,
        Self::Flips,
        Self::Clock,
        Self::Slow,
        Self::Delivery,
        Self::Devices,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::States => "power cut, recorded disk",
            Self::Full => "full disk, at every act",
            Self::Cuts => "power cut, ext4",
            Self::Kills => "kill -9",
            Self::SyncKills => "kill -9, delivering",
            Self::Flips => "bit flipped, file cut",
            Self::Clock => "clock jumps 50 years",
            Self::Slow => "flash slower than cameras",
            Self::Delivery => "delivery",
            Self::Devices => "several devices",
        }
    }
}

fn main() -> Result<ExitCode> {
    let Arguments { kinds, soak, seed, .. } = Arguments::parse();
    let scale = if soak { SOAK } else { QUICK };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut table = table(seed);
    let mut is_good = true;
    for kind in Kind::ALL.into_iter().filter(|kind| kinds.is_empty() || kinds.contains(kind)) {
        let begin = Instant::now();
        let one = |outcome: Outcome| vec![(kind.name(), outcome, begin.elapsed().as_secs_f64())];
        let lines = match kind {
            Kind::States => one(states::cuts(scale.states, seed)?),
            Kind::Full => one(states::full()?),
            Kind::Cuts => one(runtime.block_on(cuts::run(scale.cuts, seed))?),
            Kind::Kills => one(runtime.block_on(kills::run(scale.kills, seed))?),
            Kind::SyncKills => one(runtime.block_on(kills::delivering(scale.kills, seed))?),
            Kind::Flips => one(runtime.block_on(flips::run(scale.flips, seed))?),
            Kind::Devices => one(runtime.block_on(devices::run(scale.devices, seed))?),
            Kind::Slow => one(runtime.block_on(slow::run(scale.floods))?),
            Kind::Clock => one(runtime.block_on(clock::run(scale.jumps, seed))?),
            Kind::Delivery => {
                let (rounds, slow) = scale.deliveries;
                runtime.block_on(delivery::run(rounds, slow, seed))?
            }
        };
        for (name, outcome, seconds) in lines {
            is_good &= outcome.is_good();
            table.rows.push(outcome.line(name, seconds));
            table.notes.extend(outcome.notes.iter().map(|note| format!("{name}: {note}")));
            let word = if outcome.is_good() { "good" } else { "NOT GOOD" };
            writeln!(std::io::stderr(), "{name}: {word}")?;
        }
    }
    writeln!(std::io::stdout(), "{table}")?;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
