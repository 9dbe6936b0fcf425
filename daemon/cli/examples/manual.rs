//! Writes the man pages to a folder. `packaging/build` runs it; the program is not shipped.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::Context as _;
use arguments::Arguments;
use clap::CommandFactory as _;
use gatehouse_cli::manual;

// The command line of the daemon, without the daemon: this crate does not depend on it.
#[allow(unreachable_pub, dead_code, reason = "only its help is used here")]
#[path = "../../src/arguments.rs"]
mod arguments;

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(env::args_os().nth(1).context("usage: manual FOLDER")?);
    fs::create_dir_all(&folder)?;
    for page in manual::pages(Arguments::command()) {
        fs::write(folder.join(page.file_name), page.text)?;
    }
    Ok(())
}
