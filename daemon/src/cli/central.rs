//! `gatehouse central`: reads the settings itself and needs no daemon.

mod archive;
mod device;
mod files;
mod people;
mod report;

use std::path::{Path, PathBuf};

use gatehouse_config::Config;
use gatehouse_sync::central::{self, Finding, Step};

use super::DEFAULT_CONFIG;
use super::shell::Shell;
use super::table::printable;
use crate::control::types::Fault;
use crate::exit;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make schema, bucket and lifecycle rules, as far as they are missing; can be repeated at will.
    Init(Args),
    /// Say in words what is wrong with the central side; changes nothing.
    Check(Args),
    /// Bring the schema of the database to a version, or to the newest.
    Migrate(Migrate),
    /// Make the role with which one appliance signs in; again: give it a new password.
    ///
    /// With its role it adds its own rows and sees no others. Where the settings name a bucket, the policy to attach
    /// to its S3 keys is shown as well.
    EnrollDevice(device::Enroll),
    /// Take the role of an appliance away; its rows stay.
    RetireDevice(device::Retire),
    /// A URL that gives one file to everybody who has it, for a while; each is noted in the audit log.
    Url(files::Url),
    /// Look for objects without a row in gatehouse.files, and for rows without an object; changes nothing without --fix.
    Orphans(files::Orphans),
    /// Read objects back and compare size and SHA-256 with gatehouse.files.
    Verify(files::Verify),
    /// Mark a file for deletion; its object stays for 30 days.
    DeleteFile(files::OfFile),
    /// Take the mark of a file away.
    Undelete(files::OfFile),
    /// Remove the objects of files that were marked 30 days ago.
    PurgeDeleted(Args),
    /// Write events of whole days as Parquet into the bucket, for tools that read many of them; or prove that all is there.
    Archive(archive::Archive),
    /// Drop months of events from the database that are in the archive as a whole; changes nothing without --drop.
    Retention(archive::Retention),
    /// People of all appliances of the deployment.
    #[command(subcommand)]
    Person(people::Command),
    /// Say whose faces these are, by the search of the central database.
    Identify(people::Identify),
    /// Make the key under which the appliances of a deployment share people.
    MakeKey(people::MakeKey),
    /// How the fleet is, visits per day, unknown visitors; or all that is known of one person.
    Report(report::Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Migrate {
    /// Version to go to; 0 is an empty database.
    #[arg(long, value_name = "N")]
    to: Option<i32>,
    /// Go down although what only later versions keep is lost by it.
    #[arg(long)]
    discard: bool,
    #[command(flatten)]
    args: Args,
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The settings with the [central] sections.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

pub(super) fn run(command: Command, shell: &mut Shell) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Fault::refused)?;
    match command {
        Command::Person(command) => people::run(command, &runtime, shell),
        Command::Identify(command) => people::find(&command, &runtime, shell),
        Command::MakeKey(command) => people::make_key(&command, shell),
        Command::Init(args) => {
            let config = settings(&args.config)?;
            let steps = runtime.block_on(central::init(&config)).map_err(|error| {
                Fault::refused(error)
                    .advise("gatehouse central check looks at everything and changes nothing")
            })?;
            shell.show(&steps, |steps| steps_told(steps))
        }
        Command::Check(args) => {
            let config = settings(&args.config)?;
            let findings = runtime.block_on(central::check(&config));
            shell.show(&findings, |findings| findings_told(findings))?;
            match findings.iter().all(|finding| finding.ok) {
                true => Ok(()),
                // All has been said on standard output.
                false => Err(Fault::with_code(exit::REFUSED, "")),
            }
        }
        Command::Migrate(Migrate { to, discard, args }) => {
            let config = settings(&args.config)?;
            let steps = runtime.block_on(central::migrate(&config, to, discard)).map_err(Fault::refused)?;
            shell.show(&steps, |steps| steps_told(steps))
        }
        Command::EnrollDevice(args) => runtime.block_on(device::enroll(args, shell)),
        Command::Url(args) => runtime.block_on(files::url(&args, shell)),
        Command::Orphans(args) => runtime.block_on(files::orphans(&args, shell)),
        Command::Verify(args) => runtime.block_on(files::verify(&args, shell)),
        Command::DeleteFile(args) => runtime.block_on(files::mark(&args, shell)),
        Command::Undelete(args) => runtime.block_on(files::unmark(&args, shell)),
        Command::PurgeDeleted(args) => runtime.block_on(files::purge(&args, shell)),
        Command::Archive(args) => runtime.block_on(archive::archive(&args, shell)),
        Command::Retention(args) => runtime.block_on(archive::retention(&args, shell)),
        Command::RetireDevice(args) => runtime.block_on(device::retire(&args, shell)),
        Command::Report(args) => runtime.block_on(report::run(&args, shell)),
    }
}

fn settings(path: &Path) -> Result<Config, Fault> {
    Config::load(path, &Config::process_environment()).map_err(|faults| {
        Fault::refused(faults).advise("correct the settings, or name others with --config FILE")
    })
}

fn steps_told(steps: &[Step]) -> String {
    let line = |step: &Step| {
        let mark = if step.changed { "made   " } else { "present" };
        format!("{mark}  {}\n", printable(&step.what))
    };
    steps.iter().map(line).collect()
}

fn findings_told(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let mark = if finding.ok { "ok   " } else { "WRONG" };
        let advice = finding.advice.as_ref().map(|advice| format!("\n       -> {}", printable(advice)));
        let (what, words) = (printable(&finding.what), printable(&finding.words));
        format!("{mark}  {what}: {words}{}\n", advice.unwrap_or_default())
    };
    findings.iter().map(line).collect()
}
