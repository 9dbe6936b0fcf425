//! Demonstrates Gatehouse on one machine: cameras, a broker, central services and the real `gatehoused`, all in a
//! temporary folder. Nothing of it is shipped.

mod answers;
mod environment;
mod phases;
mod picture;
mod report;
mod screen;
mod traffic;
mod verification;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use gatehouse_testkit::folder::remove_own_folders;
use tokio::sync::watch;

use screen::Screen;

/// The exit code of a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// Start a broker, an S3 server and, where it is installed, Postgres; run gatehoused with synthetic cameras;
/// interrupt the central services and restore them; and verify that nothing was lost.
#[derive(Debug, Parser)]
#[command(name = "gatehouse-demo", version, max_term_width = 100)]
struct Arguments {
    /// End after about this many seconds; below 20 each phase has its minimum length.
    #[arg(long, value_name = "N", default_value_t = 40)]
    seconds: u64,
    /// The daemon to run, with `gatehouse` in the same folder [default: the one next to this program].
    #[arg(long, value_name = "PATH")]
    gatehoused: Option<PathBuf>,
    /// Write a picture of what the terminal showed to this SVG file.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let screen = Screen::new(arguments.picture.is_some());
    let outcome = run(&screen, &arguments);
    screen.clear();
    remove_own_folders();
    match outcome {
        Ok(Outcome::Verified) => ExitCode::SUCCESS,
        Ok(Outcome::Wrong) => ExitCode::FAILURE,
        Ok(Outcome::Interrupted) => {
            screen.line("stopped; all processes and temporary files are removed");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            screen.line(&screen.red(&format!("the demo ended early: {error:#}")));
            ExitCode::FAILURE
        }
    }
}

enum Outcome {
    Verified,
    Wrong,
    Interrupted,
}

fn run(screen: &Screen, arguments: &Arguments) -> Result<Outcome> {
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (interrupt, mut interrupted) = watch::channel(false);
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupt.send_replace(true);
        }
    });
    let stop = interrupted.clone();
    let is_verified = runtime.block_on(async {
        tokio::select! {
            result = phases::run(screen, end, arguments.gatehoused.clone()) => result.map(Some),
            Ok(_) = interrupted.wait_for(|is_set| *is_set) => Ok(None),
        }
    });
    // Ctrl-C also reaches the child processes, so an error that it causes is no failure.
    if *stop.borrow() {
        return Ok(Outcome::Interrupted);
    }
    let is_verified = is_verified?.unwrap_or(false);
    if let Some(file) = &arguments.picture {
        write_picture(screen, file)?;
    }
    Ok(if is_verified { Outcome::Verified } else { Outcome::Wrong })
}

fn write_picture(screen: &Screen, file: &Path) -> Result<()> {
    let svg = picture::svg("./run demo", &screen.recorded());
    std::fs::write(file, svg).with_context(|| format!("cannot write {}", file.display()))
}
