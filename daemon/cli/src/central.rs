//! `gatehouse central`: manages the central services. It reads the settings itself and does not need the daemon.

mod archive;
mod device;
mod files;
mod people;
mod receipt;
mod report;
mod requests;

use std::path::{Path, PathBuf};

use gatehouse_admin as central;
use gatehouse_central::finding::{Finding, Step};
use gatehouse_config::Config;

use super::session::Session;
use super::table::printable;
use super::terminal::{Style, Terminal};
use gatehouse_config::DEFAULT_CONFIG;
use gatehouse_control::exit;
use gatehouse_control::types::Fault;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Create the schema, bucket and lifecycle rules that are missing; can be repeated.
    Init(Args),
    /// Check database and bucket; changes nothing.
    Check(Args),
    /// Migrate the database schema to the newest or a given version.
    Migrate(Migrate),
    /// Create the database role of an appliance, or give it a new password.
    ///
    /// With its role the appliance adds its own rows and sees no others. If the settings name a bucket, the policy for
    /// its S3 keys is printed as well.
    EnrollDevice(device::Enroll),
    /// Remove the database role of an appliance; its rows are kept.
    RetireDevice(device::Retire),
    /// Create a presigned download URL; recorded in the audit log.
    Url(files::Url),
    /// List objects without a row in gatehouse.files and rows without an object; changes nothing without --fix.
    Orphans(files::Orphans),
    /// Read objects back and compare size and SHA-256 with gatehouse.files.
    Verify(files::Verify),
    /// Mark a file for deletion; its object is kept for 30 days.
    DeleteFile(files::OfFile),
    /// Unmark a file for deletion.
    Undelete(files::OfFile),
    /// Remove the objects of erased people's files, and of files marked for deletion at least 30 days ago.
    PurgeDeleted(Args),
    /// Archive events of whole days as Parquet in the bucket, or check that the archive is complete.
    Archive(archive::Archive),
    /// Drop months of events that are completely archived from the database; changes nothing without --drop.
    Retention(archive::Retention),
    /// Manage the people shared by all appliances of the deployment.
    #[command(subcommand)]
    Person(people::Command),
    /// Issue receipts of erasures; `gatehouse receipt verify` verifies them.
    #[command(subcommand)]
    Receipt(receipt::Command),
    /// Keep the register of requests of data subjects, with the day on which each answer is due.
    #[command(subcommand)]
    Request(requests::Command),
    /// Run this after the database was restored to an earlier time: no erased person comes back.
    ///
    /// The people in the database are not delivered to appliances until every appliance has sent its erasures again.
    /// Repeated, it begins again.
    Restored(people::Restored),
    /// Identify face encodings with the central database.
    Identify(people::Identify),
    /// Create a deployment key, with which appliances share people.
    MakeKey(people::MakeKey),
    /// Report on appliances, visits per day and unknown visitors, or on one person.
    Report(report::Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Migrate {
    /// Target version; 0 is an empty database.
    #[arg(long, value_name = "N")]
    to: Option<i32>,
    /// Migrate down even if data of later versions is lost.
    #[arg(long)]
    discard: bool,
    #[command(flatten)]
    args: Args,
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Settings file with the [central] sections.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

pub(super) fn run(command: Command, session: &mut Session) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Fault::refused)?;
    match command {
        Command::Person(command) => people::run(command, &runtime, session),
        Command::Receipt(command) => receipt::run(command, &runtime, session),
        Command::Request(command) => requests::run(command, &runtime, session),
        Command::Restored(command) => people::restored(&command, &runtime, session),
        Command::Identify(command) => people::find(&command, &runtime, session),
        Command::MakeKey(command) => people::make_key(&command, session),
        Command::Init(args) => {
            let config = settings(&args.config)?;
            let steps = runtime.block_on(central::init(&config)).map_err(|error| {
                Fault::refused(error).advise("run gatehouse central check, which changes nothing")
            })?;
            session.show(&steps, |steps| steps_text(steps))
        }
        Command::Check(args) => {
            let config = settings(&args.config)?;
            let findings = runtime.block_on(central::check(&config));
            session.show(&findings, |findings| findings_text(findings))?;
            match findings.iter().all(|finding| finding.ok) {
                true => Ok(()),
                // The findings are already on standard output.
                false => Err(Fault::with_code(exit::REFUSED, "")),
            }
        }
        Command::Migrate(Migrate { to, discard, args }) => {
            let config = settings(&args.config)?;
            let steps = runtime.block_on(central::migrate(&config, to, discard)).map_err(Fault::refused)?;
            session.show(&steps, |steps| steps_text(steps))
        }
        Command::EnrollDevice(args) => runtime.block_on(device::enroll(args, session)),
        Command::Url(args) => runtime.block_on(files::url(&args, session)),
        Command::Orphans(args) => runtime.block_on(files::orphans(&args, session)),
        Command::Verify(args) => runtime.block_on(files::verify(&args, session)),
        Command::DeleteFile(args) => runtime.block_on(files::mark(&args, session)),
        Command::Undelete(args) => runtime.block_on(files::unmark(&args, session)),
        Command::PurgeDeleted(args) => runtime.block_on(files::purge(&args, session)),
        Command::Archive(args) => runtime.block_on(archive::archive(&args, session)),
        Command::Retention(args) => runtime.block_on(archive::retention(&args, session)),
        Command::RetireDevice(args) => runtime.block_on(device::retire(&args, session)),
        Command::Report(args) => runtime.block_on(report::run(&args, session)),
    }
}

fn settings(path: &Path) -> Result<Config, Fault> {
    Config::load(path, &Config::process_environment()).map_err(|faults| {
        Fault::refused(faults).advise("correct the settings, or name another file with --config FILE")
    })
}

fn steps_text(steps: &[Step]) -> String {
    let line = |step: &Step| {
        let mark = if step.changed { "created" } else { "present" };
        format!("{mark}  {}\n", printable(&step.what))
    };
    steps.iter().map(line).collect()
}

fn findings_text(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let mark =
            if finding.ok { "ok   ".to_owned() } else { Terminal::of_stdout().paint(Style::Red, "WRONG") };
        let advice = finding.advice.as_ref().map(|advice| format!("\n       -> {}", printable(advice)));
        let what = printable(&finding.what);
        let message = printable(&finding.message);
        format!("{mark}  {what}: {message}{}\n", advice.unwrap_or_default())
    };
    findings.iter().map(line).collect()
}
