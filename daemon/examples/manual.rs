//! Writes the man pages to a folder. `packaging/build` runs it; the program is not shipped.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::Context as _;
use clap::CommandFactory as _;
use gatehouse_daemon::arguments::Arguments;
use gatehouse_daemon::cli::manual;

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(env::args_os().nth(1).context("usage: manual FOLDER")?);
    fs::create_dir_all(&folder)?;
    for page in manual::pages(Arguments::command()) {
        fs::write(folder.join(page.file_name), page.text)?;
    }
    Ok(())
}
