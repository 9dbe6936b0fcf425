//! `gatehouse central person|identify|make-key`: people in the central database, without an appliance.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatehouse_admin::delete;
use gatehouse_admin::shared_people::{Absence, CentralPerson, HeldPeople, NewPerson, People};
use gatehouse_central::SyncError;
use gatehouse_config::Config;
use gatehouse_gallery::{Encoding, GallerySettings};
use gatehouse_model::{Person, Timestamp};
use gatehouse_store::deployment::DeploymentKey;
use gatehouse_store::terms::Consent;
use serde::Serialize;
use tokio::runtime::Runtime;

use super::super::person::{Enrollment, NewName, Suspension, or_dash, time_or_dash};
use super::super::session::Session;
use super::super::table::{Table, printable};
use super::super::terminal::{Confirmation, confirm};
use super::super::{export, format, identify, input};
use super::{Args, receipt, settings};
use gatehouse_control::answers::FaceLine;
use gatehouse_control::types::Fault;
use gatehouse_machine::gallery::gallery_settings;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Enroll a person on all appliances, or add encodings to an enrolled person.
    #[command(alias = "enrol")]
    Enroll {
        #[command(flatten)]
        enrollment: Enrollment,
        #[command(flatten)]
        args: Args,
    },
    /// List the people in the central database.
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        args: Args,
    },
    /// Export all data of a person in database and bucket into a new folder, with a page that the person can read.
    ///
    /// The folder contains README.html, the data as JSON, the pictures in which the person was recognized, and MANIFEST
    /// with the SHA-256 of each file ("sha256sum -c MANIFEST"). No other person is named. A folder without MANIFEST is
    /// incomplete. The export has a line in the audit log.
    Export {
        /// Identifier of the person.
        id: String,
        /// New or empty folder.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// File of the signing key of receipts: also signs the list of files.
        #[arg(long, value_name = "FILE")]
        signing_key: Option<PathBuf>,
        #[command(flatten)]
        args: Args,
    },
    /// List people without a visit and without a change for a number of days; --erase erases them.
    ///
    /// The days are counted back from the time up to which all appliances have delivered their events, because an event
    /// that is not delivered yet may be a visit.
    Absent {
        /// Number of days without a visit.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
        /// Erase them in the database; appliances follow when they receive the erasure.
        #[arg(long)]
        erase: bool,
        /// Erase without a question; an erasure cannot be undone.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        args: Args,
    },
    /// Change a person's display name.
    Rename {
        #[command(flatten)]
        rename: NewName,
        #[command(flatten)]
        args: Args,
    },
    /// Suspend a person: appliances answer them as a stranger as soon as they synchronize. Nothing is destroyed.
    Suspend {
        #[command(flatten)]
        suspension: Suspension,
        #[command(flatten)]
        args: Args,
    },
    /// End the suspension of a person on all appliances.
    Resume {
        /// Identifier of the person.
        id: String,
        #[command(flatten)]
        args: Args,
    },
    /// Cancel the erasure of a person in its grace period.
    Restore {
        /// Identifier of the person.
        id: String,
        #[command(flatten)]
        args: Args,
    },
    /// Erase a person in the database; appliances follow when they receive the erasure.
    #[command(alias = "rm")]
    Erase {
        /// Identifier of the person.
        id: String,
        /// Do not wait for the grace period (privacy.grace_days).
        #[arg(long)]
        now: bool,
        /// Erase without a question; an erasure cannot be undone.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        args: Args,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Identify {
    /// JSON file with one encoding or an array of encodings; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Largest distance of a match [default: gallery.threshold of the settings].
    #[arg(long, value_name = "T")]
    threshold: Option<f32>,
    #[command(flatten)]
    args: Args,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Restored {
    /// Deliver the people now, although an appliance may still have an erasure of one of them.
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    args: Args,
}

#[derive(Debug, clap::Args)]
pub(crate) struct MakeKey {
    /// New file for the key, readable by its owner only.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Result of an erasure.
#[derive(Debug, Serialize)]
struct PersonErased<'a> {
    id: &'a str,
    /// Id of the order, in all places that carry it out.
    order: String,
    /// Objects that were removed from the bucket. None without a bucket.
    files: Option<u64>,
}

/// Result of a change.
#[derive(Debug, Serialize)]
struct PersonChanged<'a> {
    id: &'a str,
    /// Number of encodings that were added.
    added: usize,
}

pub(super) fn run(command: Command, runtime: &Runtime, session: &mut Session) -> Result<(), Fault> {
    match command {
        Command::Enroll { enrollment, args } => enroll(enrollment, &args, runtime, session),
        Command::List { args } => {
            let config = settings(&args.config)?;
            let people = runtime
                .block_on(async { People::open(&config).await?.list().await })
                .map_err(Fault::refused)?;
            session.show(&people, |people| table(people))
        }
        Command::Export { id, to, signing_key: key, args } => {
            let config = settings(&args.config)?;
            let signer = key.map(|file| receipt::signing_key(&config, &file)).transpose()?;
            runtime.block_on(export::central(&config, &id, &to, signer.as_ref(), session))
        }
        Command::Absent { days, erase, yes, args } => {
            if erase {
                let step = format!("Erases all people without a visit for {days} days, on all appliances.");
                confirm(&Confirmation { yes, step: &step, answer: "erase" })?;
            }
            let config = settings(&args.config)?;
            let absence = runtime.block_on(absent(&config, days, erase)).map_err(Fault::refused)?;
            session.show(&absence, absence_text)
        }
        Command::Rename { rename, args } => {
            let id = rename.id.clone();
            let name = rename.name();
            let config = settings(&args.config)?;
            let renamed = async { People::open(&config).await?.rename(&id, &name).await };
            runtime.block_on(renamed).map_err(Fault::refused)?;
            session.show(&PersonChanged { id: &id, added: 0 }, |_| {
                format!("{} is now {}", printable(&id), printable(&name))
            })
        }
        Command::Suspend { suspension: Suspension { id, reason }, args } => {
            let config = settings(&args.config)?;
            let suspended = async { People::open(&config).await?.suspend(&id, reason.as_deref()).await };
            runtime.block_on(suspended).map_err(Fault::refused)?;
            changed(&id, "is suspended", session)
        }
        Command::Resume { id, args } => {
            let config = settings(&args.config)?;
            let resumed = async { People::open(&config).await?.resume(&id).await };
            runtime.block_on(resumed).map_err(Fault::refused)?;
            changed(&id, "is resumed", session)
        }
        Command::Restore { id, args } => {
            let config = settings(&args.config)?;
            let restored = async { People::open(&config).await?.restore(&id).await };
            runtime.block_on(restored).map_err(Fault::refused)?;
            changed(&id, "is not erased", session)
        }
        Command::Erase { id, now, yes, args } => {
            let step = format!("Erases {} on all appliances.", printable(&id));
            confirm(&Confirmation { yes, step: &step, answer: &id })?;
            let config = settings(&args.config)?;
            let grace = config.privacy.grace().filter(|_| !now);
            match grace {
                Some(grace) => {
                    let ordered = runtime.block_on(order_erasure(&config, &id, grace))?;
                    session.show(&ordered, ordered_text)
                }
                None => session.show(&runtime.block_on(erase(&config, &id))?, erased_text),
            }
        }
    }
}

/// A change that appliances receive at their next connection.
fn changed(id: &str, what: &str, session: &mut Session) -> Result<(), Fault> {
    session.show(&PersonChanged { id, added: 0 }, |done| {
        format!("{} {what}; appliances follow when they synchronize", printable(done.id))
    })
}

fn enroll(
    enrollment: Enrollment,
    args: &Args,
    runtime: &Runtime,
    session: &mut Session,
) -> Result<(), Fault> {
    let Enrollment { id, name, encodings, force, consent } = enrollment;
    let (config, gallery) = of_model(args, None)?;
    let encodings = read(&encodings, &gallery)?;
    let until = consent.until.as_deref().and_then(Timestamp::parse);
    let consent = Consent { reference: consent.consent, until };
    let new = NewPerson { person: Person { id: id.clone(), name }, encodings, force, consent };
    let added = runtime
        .block_on(async { People::open(&config).await?.enrol(new, gallery).await })
        .map_err(Fault::refused)?;
    session.show(&PersonChanged { id: &id, added }, |done| {
        let encodings = format::count(done.added as u64, "encoding", "encodings");
        format!("{} is enrolled: {encodings} added", printable(done.id))
    })
}

/// Result of an erasure with a grace period.
#[derive(Serialize)]
struct ErasureOrdered<'a> {
    id: &'a str,
    expires_at: String,
}

async fn order_erasure<'a>(
    config: &Config,
    id: &'a str,
    grace: Duration,
) -> Result<ErasureOrdered<'a>, Fault> {
    let end = async { People::open(config).await?.order_erasure(id, grace).await };
    Ok(ErasureOrdered { id, expires_at: end.await.map_err(Fault::refused)?.to_string() })
}

fn ordered_text(ordered: &ErasureOrdered<'_>) -> String {
    let (id, end) = (printable(ordered.id), format::time(&ordered.expires_at));
    format!("{id} is a stranger at all appliances once they synchronize, and is erased at {end}")
}

async fn erase<'a>(config: &Config, id: &'a str) -> Result<PersonErased<'a>, Fault> {
    let erased = async { People::open(config).await?.erase(id).await };
    let order = erased.await.map_err(Fault::refused)?.to_string();
    let files = match config.central.objects {
        Some(_) => Some(delete::purge(config).await.map_err(|error| {
            Fault::refused(format!("{id} is erased in the database (order {order}), but: {error}"))
                .advise("run gatehouse central purge-deleted, which removes the pictures")
        })?),
        None => None,
    };
    Ok(PersonErased { id, order, files: files.map(|purged| purged.files) })
}

fn erased_text(erased: &PersonErased<'_>) -> String {
    let id = printable(erased.id);
    let files = match erased.files {
        Some(files) => format!("{} removed from the bucket", format::count(files, "file", "files")),
        None => "no bucket in the settings, so no picture was removed from one".to_owned(),
    };
    format!(
        "{id} is erased in the database; {files}\nappliances follow when they receive the erasure\norder {}",
        erased.order
    )
}

pub(super) fn restored(command: &Restored, runtime: &Runtime, session: &mut Session) -> Result<(), Fault> {
    let config = settings(&command.args.config)?;
    let held = async {
        let people = People::open(&config).await?;
        if !command.release {
            return people.hold().await;
        }
        people.release().await?;
        people.held().await
    };
    let held = runtime.block_on(held).map_err(Fault::refused)?;
    session.show(&held, held_text)
}

fn held_text(held: &HeldPeople) -> String {
    if held.people == 0 {
        return "no person is held back".to_owned();
    }
    let people = format::count(u64::try_from(held.people).unwrap_or(0), "person is", "people are");
    let devices: Vec<String> = held.waits_for.iter().map(|device| printable(device)).collect();
    format!(
        "{people} not delivered to appliances until each of these has sent its erasures again: {}\n\
         if one of them is lost, retire it with gatehouse central retire-device; --release delivers the people now",
        devices.join(", ")
    )
}

async fn absent(config: &Config, days: u32, erase: bool) -> Result<Absence, SyncError> {
    let people = People::open(config).await?;
    let mut absence = people.absent(days).await?;
    if erase {
        for person in &absence.people {
            people.erase(&person.id).await?;
        }
        absence.erased = true;
    }
    Ok(absence)
}

fn absence_text(absence: &Absence) -> String {
    let mut table = Table::new(["ID", "NAME", "LAST VISIT"]);
    for person in &absence.people {
        table.row([person.id.clone(), person.name.clone(), format::time(&person.last_there)]);
    }
    let mut text = table.text("no people without a visit for that long\n");
    if let Some(device) = &absence.waits_for {
        let until = format::time(&absence.heard_until);
        text.push_str(&format!(
            "\ncounted back from {until}: later events of {} are not delivered yet\n",
            printable(device)
        ));
    }
    if absence.erased {
        text.push_str("\nerased in the database; appliances follow when they receive the erasure\n");
    }
    text
}

pub(super) fn find(command: &Identify, runtime: &Runtime, session: &mut Session) -> Result<(), Fault> {
    let (config, gallery) = of_model(&command.args, command.threshold)?;
    if gallery.threshold <= 0.0 {
        return Err(Fault::refused("the settings have no gallery.threshold").advise(
            "give one with --threshold; `gatehouse gallery report` on an appliance shows the threshold in force",
        ));
    }
    let encodings = read(&command.file, &gallery)?;
    let faces = runtime
        .block_on(async { People::open(&config).await?.identify(&encodings, gallery).await })
        .map_err(Fault::refused)?;
    let faces: Vec<FaceLine> = faces.into_iter().map(FaceLine::from).collect();
    session.show(&faces, |faces| identify::faces(faces))
}

pub(super) fn make_key(command: &MakeKey, session: &mut Session) -> Result<(), Fault> {
    let file = &command.file;
    write_new_secret(file, &DeploymentKey::generate())?;
    session.show(&file, |file| {
        format!(
            "{}: install this key on every appliance of the deployment (central.people.key_file, or `gatehouse setup \
             --deployment-key-file`), keep a copy at another place, and keep it secret",
            file.display()
        )
    })
}

/// Writes a secret to a new file that only its owner can read.
pub(super) fn write_new_secret(file: &Path, secret: &str) -> Result<(), Fault> {
    let fault = |error: std::io::Error| {
        Fault::refused(format!("{}: {error}", file.display()))
            .advise("name a new file in a folder that you can write to")
    };
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(fault)?;
    new.write_all(secret.as_bytes()).and_then(|()| new.write_all(b"\n")).map_err(fault)?;
    new.sync_all().map_err(fault)
}

fn of_model(args: &Args, threshold: Option<f32>) -> Result<(Config, GallerySettings), Fault> {
    let config = settings(&args.config)?;
    let mut gallery = gallery_settings(&config);
    gallery.threshold = threshold.unwrap_or(gallery.threshold);
    // Thresholds of cameras apply to appliances only.
    gallery.camera_thresholds.clear();
    Ok((config, gallery))
}

fn read(file: &Path, gallery: &GallerySettings) -> Result<Vec<Encoding>, Fault> {
    let mut encodings = Vec::new();
    for raw in input::encodings(file)? {
        let number = encodings.len() + 1;
        let encoding = Encoding::new(raw.to_vec(), gallery.dimensions);
        encodings.push(encoding.map_err(|fault| Fault::refused(format!("encoding {number}: {fault}")))?);
    }
    Ok(encodings)
}

fn table(people: &[CentralPerson]) -> String {
    let mut table =
        Table::new(["ID", "NAME", "NAMED BY", "ENCODINGS", "CHANGED", "CONSENT", "UNTIL", "SUSPENDED"]);
    for person in people {
        table.row([
            person.id.clone(),
            person.name.clone(),
            person.named_by.clone(),
            person.samples.to_string(),
            format::time(&person.updated_at),
            or_dash(person.consent.clone()),
            time_or_dash(person.expires_at.as_deref()),
            time_or_dash(person.suspended_at.as_deref()),
        ]);
    }
    table.text("no people are enrolled in the database\n")
}
