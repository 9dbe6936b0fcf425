//! `gatehouse central person|identify|make-key`: people at the central side, without an appliance.

use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _, stdin};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use gatehouse_config::Config;
use gatehouse_store::deployment::DeploymentKey;
use gatehouse_store::gallery::{Encoding, GallerySettings};
use gatehouse_store::record::Person;
use gatehouse_sync::SyncError;
use gatehouse_sync::central::people::{Absence, CentralPerson, People};
use serde::Serialize;
use tokio::runtime::Runtime;

use super::super::shell::Shell;
use super::super::table::{Table, printable};
use super::super::{identify, input, person, words};
use super::{Args, settings};
use crate::app::wiring::gallery_settings;
use crate::control::answers::FaceLine;
use crate::control::types::Fault;

#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Command {
    /// Enrol a person for all appliances, or add encodings to one who is enrolled.
    Enroll {
        /// Identifier of the person, your own.
        #[arg(long)]
        id: String,
        /// Display name.
        #[arg(long)]
        name: String,
        /// JSON file with an array of encodings of the model of the settings; `-` is standard input.
        #[arg(long, value_name = "FILE")]
        encodings: PathBuf,
        /// Enrol encodings also where they look more like somebody else.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        args: Args,
    },
    /// Everybody enrolled centrally.
    List {
        #[command(flatten)]
        args: Args,
    },
    /// Who has neither been at any door nor been changed for so long; with --erase they are forgotten for good.
    ///
    /// The days are counted back from where every appliance has delivered its events, since what one of them still holds may
    /// be a visit.
    Absent {
        /// Days without a visit.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
        /// Erase them, here and on every appliance as soon as it hears of it.
        #[arg(long)]
        erase: bool,
        /// Needed with --erase on a terminal, since this cannot be undone.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        args: Args,
    },
    /// Change a person's display name.
    Rename {
        /// Identifier of the person.
        id: String,
        /// The new name.
        #[arg(long)]
        name: String,
        #[command(flatten)]
        args: Args,
    },
    /// Forget a person for good, here and on every appliance as soon as it hears of it.
    Erase {
        /// Identifier of the person.
        id: String,
        /// Needed on a terminal, since this cannot be undone.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        args: Args,
    },
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Identify {
    /// JSON file with one encoding or an array of them; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Largest distance at which somebody is recognised; without it gallery.threshold of the settings.
    #[arg(long)]
    threshold: Option<f32>,
    #[command(flatten)]
    args: Args,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct MakeKey {
    /// A new file, readable by its owner alone.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// What was done to whom.
#[derive(Debug, Serialize)]
struct Done<'a> {
    id: &'a str,
    /// Encodings that were added.
    added: usize,
}

pub(super) fn run(command: Command, runtime: &Runtime, shell: &mut Shell) -> Result<(), Fault> {
    match command {
        Command::Enroll { id, name, encodings, force, args } => {
            let (config, gallery) = of_model(&args, None)?;
            let encodings = read(&encodings, &gallery)?;
            let person = Person { id: id.clone(), name };
            let added = runtime
                .block_on(async {
                    People::open(&config).await?.enrol(person, encodings, gallery, force).await
                })
                .map_err(told)?;
            shell.show(&Done { id: &id, added }, |done| {
                let encodings = words::count(done.added as u64, "encoding", "encodings");
                format!("{} is enrolled: {encodings} added", printable(done.id))
            })
        }
        Command::List { args } => {
            let config = settings(&args.config)?;
            let people =
                runtime.block_on(async { People::open(&config).await?.list().await }).map_err(told)?;
            shell.show(&people, |people| table(people))
        }
        Command::Absent { days, erase, yes, args } => {
            if erase {
                person::confirmed(yes, stdin().is_terminal(), "an erasure")?;
            }
            let config = settings(&args.config)?;
            let absence = runtime.block_on(absent(&config, days, erase)).map_err(told)?;
            shell.show(&absence, absence_told)
        }
        Command::Rename { id, name, args } => {
            let config = settings(&args.config)?;
            let renamed = async { People::open(&config).await?.rename(&id, &name).await };
            runtime.block_on(renamed).map_err(told)?;
            shell.show(&Done { id: &id, added: 0 }, |_| {
                format!("{} is now {}", printable(&id), printable(&name))
            })
        }
        Command::Erase { id, yes, args } => {
            person::confirmed(yes, stdin().is_terminal(), "an erasure")?;
            let config = settings(&args.config)?;
            runtime.block_on(async { People::open(&config).await?.erase(&id).await }).map_err(told)?;
            shell.show(&Done { id: &id, added: 0 }, |done| {
                format!("{} is erased here; each appliance follows when it hears of it", printable(done.id))
            })
        }
    }
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

fn absence_told(absence: &Absence) -> String {
    let mut table = Table::new(["ID", "NAME", "LAST THERE"]);
    for person in &absence.people {
        table.row([person.id.clone(), person.name.clone(), words::time(&person.last_there)]);
    }
    let mut text = table.text("nobody has been away for so long\n");
    if let Some(device) = &absence.waits_for {
        let until = words::time(&absence.heard_until);
        text.push_str(&format!(
            "\ncounted back from {until}: what came to {} since then is not here yet\n",
            printable(device)
        ));
    }
    if absence.erased {
        text.push_str("\nerased here; each appliance follows when it hears of it\n");
    }
    text
}

pub(super) fn find(command: &Identify, runtime: &Runtime, shell: &mut Shell) -> Result<(), Fault> {
    let (config, gallery) = of_model(&command.args, command.threshold)?;
    if gallery.threshold <= 0.0 {
        return Err(Fault::refused("the settings have no gallery.threshold").advise(
            "name one with --threshold; `gatehouse gallery report` on an appliance tells the one in force",
        ));
    }
    let encodings = read(&command.file, &gallery)?;
    let faces = runtime
        .block_on(async { People::open(&config).await?.identify(&encodings, gallery).await })
        .map_err(told)?;
    let faces: Vec<FaceLine> = faces.into_iter().map(FaceLine::from).collect();
    shell.show(&faces, |faces| identify::faces(faces))
}

pub(super) fn make_key(command: &MakeKey, shell: &mut Shell) -> Result<(), Fault> {
    let file = &command.file;
    let told = |error: std::io::Error| {
        Fault::refused(format!("{}: {error}", file.display()))
            .advise("name a new file in a folder of your own")
    };
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(told)?;
    let secret = DeploymentKey::generate();
    new.write_all(secret.as_bytes()).and_then(|()| new.write_all(b"\n")).map_err(told)?;
    new.sync_all().map_err(told)?;
    shell.show(&file, |file| {
        format!(
            "{}: give it to every appliance of the deployment (central.people.key_file, or `gatehouse setup \
             --deployment-key-file`), keep a copy where no appliance is, and show it to nobody else",
            file.display()
        )
    })
}

fn of_model(args: &Args, threshold: Option<f32>) -> Result<(Config, GallerySettings), Fault> {
    let config = settings(&args.config)?;
    let mut gallery = gallery_settings(&config);
    gallery.threshold = threshold.unwrap_or(gallery.threshold);
    // Thresholds of single cameras are of appliances.
    gallery.camera_thresholds.clear();
    Ok((config, gallery))
}

fn read(file: &Path, gallery: &GallerySettings) -> Result<Vec<Encoding>, Fault> {
    let checked = |(at, raw): (usize, crate::control::encodings::RawEncoding)| {
        Encoding::new(raw.to_vec(), gallery.dimensions)
            .map_err(|fault| Fault::refused(format!("encoding {}: {fault}", at + 1)))
    };
    input::encodings(file)?.into_iter().enumerate().map(checked).collect()
}

fn told(error: SyncError) -> Fault {
    Fault::refused(error)
}

fn table(people: &[CentralPerson]) -> String {
    let mut table = Table::new(["ID", "NAME", "NAMED BY", "ENCODINGS", "CHANGED"]);
    for person in people {
        table.row([
            person.id.clone(),
            person.name.clone(),
            person.named_by.clone(),
            person.samples.to_string(),
            words::time(&person.updated_at),
        ]);
    }
    table.text("nobody is enrolled centrally\n")
}
