//! Shows the main job of Gatehouse on one machine: cameras, broker, central side and the real `gatehoused`, all in
//! a temporary folder, and what they do, live. Nothing of it is shipped.

mod answers;
mod books;
mod proof;
mod screen;
mod stage;
mod story;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use screen::Screen;

/// Brings up a broker, an S3 server and, where it can, Postgres; runs gatehoused against them with synthetic
/// cameras; takes the central side away and gives it back; and proves that nothing was lost.
#[derive(Debug, Parser)]
#[command(name = "gatehouse-demo", version, max_term_width = 100)]
struct Arguments {
    /// Ends by itself after about so many seconds; below 20 the acts have their shortest length.
    #[arg(long, value_name = "N", default_value_t = 40)]
    seconds: u64,
    /// The daemon to run; `gatehouse` must lie beside it. Without it: the one beside this program.
    #[arg(long, value_name = "PATH")]
    gatehoused: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let screen = Screen::new();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            screen.line(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let told = runtime.block_on(async {
        tokio::select! {
            told = story::tell(&screen, end, arguments.gatehoused) => told,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    });
    screen.clear();
    match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            screen.line(&screen.red(&format!("the demo ended early: {error:#}")));
            ExitCode::FAILURE
        }
    }
}
