//! `gatehouse-bench [ingest|journal|identify|sync|backlog|thresholds] [--full] [--json FILE] [--markdown FILE]`: tables of our numbers, each with the limit of
//! its parts in the same run.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use gatehouse_tests::bench::table::Table;
use gatehouse_tests::bench::{
    backlog, erasure, identify, ingest, journal, markdown, month, objects, sync, thresholds,
};

/// A folder on a disk: `/tmp` is memory on many systems, and there fdatasync costs nothing.
const ON_DISK: &str = "/var/tmp";

/// Has the allocator give large blocks back at once, so that memory that is measured is not that of the line before.
const MALLOC_KEY: &str = "MALLOC_MMAP_THRESHOLD_";
const MALLOC_VALUE: &str = "65536";

/// Measures Gatehouse and the limits of its parts.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure; everything, where nothing is named.
    what: Vec<What>,
    /// Also writes the tables to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also writes the tables, the command and the machine to this file as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Has peers build graphs of a million templates, too, and measures a million of 512 dimensions: most of an hour. And
    /// backlogs of up to five million events.
    #[arg(long)]
    full: bool,
    /// Encodings with names for `thresholds`, as MODEL,METRIC,FILE.csv; can be repeated.
    #[arg(long, value_name = "SET")]
    encodings: Vec<thresholds::EncodingSet>,
    /// Measures one size of the searches and prints JSON: how the benchmark calls itself.
    #[arg(long, hide = true)]
    size: Option<usize>,
    /// One step of the backlog: how the benchmark calls itself.
    #[arg(long, hide = true, requires = "folder")]
    step: Option<backlog::Step>,
    /// Where that step works.
    #[arg(long, hide = true)]
    folder: Option<PathBuf>,
    /// Events of that step.
    #[arg(long, hide = true, default_value_t = 0)]
    events: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// From PUBLISH to identification, and durable events per second.
    Ingest,
    /// Durable records per second of the journal alone.
    Journal,
    /// Time of an identification.
    Identify,
    /// Events per second delivered to Postgres.
    Sync,
    /// What pending events cost, and the start over them.
    Backlog,
    /// Time of an erasure.
    Erasure,
    /// Whether derived thresholds keep their target on the encodings that are named.
    Thresholds,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let folder = std::env::var_os("TMPDIR");
    if folder.is_none() || std::env::var_os(MALLOC_KEY).is_none() {
        let again = Command::new(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .env("TMPDIR", folder.unwrap_or_else(|| ON_DISK.into()))
            .env(MALLOC_KEY, MALLOC_VALUE)
            .status()?;
        return Ok(if again.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    if let Some(size) = arguments.size {
        writeln!(std::io::stdout(), "{}", identify::one_size(size)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let (Some(step), Some(folder)) = (arguments.step, &arguments.folder) {
        writeln!(
            std::io::stdout(),
            "{}",
            runtime.block_on(backlog::one_step(step, folder, arguments.events))?
        )?;
        if step == backlog::Step::Fill {
            std::thread::sleep(Duration::MAX);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut tables = Vec::new();
    for what in [
        What::Identify,
        What::Journal,
        What::Ingest,
        What::Sync,
        What::Backlog,
        What::Erasure,
        What::Thresholds,
    ] {
        let is_meant = arguments.what.is_empty() && what != What::Thresholds;
        if !is_meant && !arguments.what.contains(&what) {
            continue;
        }
        let new = match what {
            What::Identify => {
                let living = identify::living::run(&runtime)?;
                vec![identify::run(arguments.full)?, living]
            }
            What::Journal => vec![journal::run()?],
            What::Ingest => runtime.block_on(ingest::run())?,
            What::Sync => vec![
                runtime.block_on(sync::run())?,
                runtime.block_on(month::run(arguments.full))?,
                runtime.block_on(objects::run())?,
            ],
            What::Backlog => vec![backlog::run(arguments.full)?],
            What::Erasure => vec![runtime.block_on(erasure::run(arguments.full))?],
            What::Thresholds => thresholds::run(&arguments.encodings)?,
        };
        for table in &new {
            writeln!(std::io::stdout(), "{table}")?;
        }
        tables.extend(new);
    }
    if let Some(file) = &arguments.json {
        let json: Vec<_> = tables.iter().map(Table::to_json).collect();
        std::fs::write(file, serde_json::to_vec_pretty(&json)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(file) = &arguments.markdown {
        let is_accuracy = arguments.what == [What::Thresholds];
        let title = if is_accuracy { "Accuracy of derived thresholds" } else { "Benchmarks" };
        std::fs::write(file, markdown::page(title, &tables))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
