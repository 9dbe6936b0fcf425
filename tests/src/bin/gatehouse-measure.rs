//! `gatehouse-measure [--all] [--markdown FILE] [PATH ...]`: figures of the source of this repository.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use gatehouse_tests::bench::markdown;
use gatehouse_tests::measure::report::{Measurements, Selection, tables};

/// Measure the source: sizes, interfaces, language, duplicates.
#[derive(Debug, Parser)]
struct Arguments {
    /// Beginnings of paths, like `sync/`: show only what is below them, with every place.
    paths: Vec<String>,
    /// Name every place, not only the first twenty.
    #[arg(long)]
    all: bool,
    /// Write the tables to this file as Markdown.
    #[arg(long)]
    markdown: Option<PathBuf>,
}

fn main() -> Result<()> {
    let Arguments { paths, all, markdown } = Arguments::parse();
    let measurements = Measurements::take()?;
    let tables = tables(&measurements, &Selection { paths, all });
    if let Some(file) = markdown {
        let page = markdown::document("Measurements of the source", "./run measure --markdown", &tables);
        fs::write(&file, page).with_context(|| file.display().to_string())?;
    }
    let mut out = std::io::stdout().lock();
    tables.iter().try_for_each(|table| writeln!(out, "{table}"))?;
    Ok(())
}
