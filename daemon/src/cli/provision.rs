//! `gatehouse provision`: an appliance is set up by a file on its card, without anybody there.
//!
//! Order: all of the file is checked; its secrets are sealed; its settings are written; the file gets another name
//! and is overwritten and removed. Each step is durable before the next, and each may be repeated, so that after a
//! power cut at any place the next boot brings it to its end. A file that is at fault is left as it is.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gatehouse_config::{Provisioning, Secret};
use serde::Serialize;

use super::setup::{Places, has_its_own, refuse_key_beside, told, without_tpm};
use super::shell::Shell;
use crate::control::types::Fault;
use crate::credstore::{self, Credstore, ROOT_KEY, WithoutTpm, new_root_key, put, sync_folder_of};
use crate::exit;

/// Where the file is looked for: the boot partition of a Raspberry Pi, that of others, and the root file system.
const PLACES: [&str; 3] = [
    "/boot/firmware/gatehouse-provision.toml",
    "/boot/gatehouse-provision.toml",
    "/etc/gatehouse-provision.toml",
];
/// Put after the name of a file that was taken in and is about to be removed.
const TAKEN: &str = ".taken";

/// Checks a provisioning file as a whole, seals its secrets, puts its settings into conf.d/50-provisioned.toml, and
/// then overwrites and removes it. A file at fault is left in place.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file; else gatehouse-provision.toml in /boot/firmware, /boot and /etc is looked for.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only check the file; nothing is changed.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    places: Places,
}

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Done {
    /// The file; none where there was nothing to take in.
    file: Option<PathBuf>,
    /// The device it is now.
    device: String,
    /// The secrets that are there now.
    secrets: Vec<&'static str>,
    /// Of those sealed now, the ones that the TPM did not seal although there is one.
    without_tpm: Vec<WithoutTpm>,
    /// Whether the file was only checked.
    only_checked: bool,
}

pub(super) fn run(args: &Args, shell: &mut Shell) -> Result<(), Fault> {
    let files: Vec<PathBuf> = match &args.file {
        Some(file) => vec![file.clone()],
        None => PLACES.iter().map(PathBuf::from).collect(),
    };
    if !args.check {
        for file in files.iter().filter(|file| taken(file).exists()) {
            // Its content was taken in before a power cut.
            shred(&taken(file)).map_err(|error| unshredded(&taken(file), &error))?;
        }
    }
    let Some(file) = files.iter().find(|file| args.file.is_some() || file.exists()) else {
        let none = Done { only_checked: args.check, ..Done::default() };
        return shell.show(&none, |_| "there is no provisioning file\n".to_owned());
    };
    let store = Credstore::at(args.places.credstore.clone());
    let read = Provisioning::read(file, &args.places.config).map_err(|faults| {
        Fault::with_code(exit::CONFIG, faults)
            .advise("nothing was changed; correct the file, it is still in its place")
    })?;
    let mut done = Done { file: Some(file.clone()), only_checked: args.check, ..Done::default() };
    if !args.check {
        done.without_tpm = take_in(&read, &store)?;
        let taken = taken(file);
        let removed =
            fs::rename(file, &taken).and_then(|()| sync_folder_of(&taken)).and_then(|()| shred(&taken));
        removed.map_err(|error| unshredded(file, &error))?;
    }
    done.device = read.config.device.id;
    done.secrets = store.names();
    shell.show(&done, human)
}

/// Seals and writes what the file says; hands back what the TPM did not seal.
fn take_in(read: &Provisioning, store: &Credstore) -> Result<Vec<WithoutTpm>, Fault> {
    let mut without_tpm = Vec::new();
    if let Some(key) = root_key(read, store)? {
        without_tpm.extend(store.seal(ROOT_KEY, &key).map_err(told)?);
    }
    for (name, secret) in read.secrets.iter().filter(|(name, _)| **name != ROOT_KEY) {
        without_tpm.extend(store.seal(name, secret).map_err(told)?);
    }
    let at = |error: io::Error| Fault::refused(format!("{}: {error}", read.target.display()));
    // The folder is closed to others, and no secret is in the file.
    put(&read.target, read.settings.as_bytes(), 0o644).map_err(at)?;
    Ok(without_tpm)
}

/// The root key that is to be sealed, if any. One that is there is never replaced: the file may be an old one.
fn root_key(read: &Provisioning, store: &Credstore) -> Result<Option<Secret>, Fault> {
    let given = read.secrets.get(ROOT_KEY).and_then(|given| credstore::root_key(given.bytes()));
    if store.holds(ROOT_KEY) {
        let Some(given) = given else { return Ok(None) };
        return match store.open_root_key().map_err(told)? == given {
            true => Ok(None),
            false => {
                Err(Fault::refused(format!("{} holds another root key", store.path(ROOT_KEY).display()))
                    .advise("remove secrets.root-key from the file to keep it; nothing was changed"))
            }
        };
    }
    match given {
        Some(given) => Ok(Some(given)),
        None if has_its_own(&read.config) => Ok(None),
        None if read.config.state.directory.join("keys").exists() => {
            Err(refuse_key_beside(&read.config.state.directory))
        }
        None => new_root_key().map(Some).map_err(told),
    }
}

fn taken(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(TAKEN);
    name.into()
}

/// Overwrites a file in place and removes it. A memory card writes elsewhere than it is told, so that a copy may be
/// left in a block of it that no program can read any more.
fn shred(file: &Path) -> io::Result<()> {
    let mut open = OpenOptions::new().write(true).open(file)?;
    let length = usize::try_from(open.metadata()?.len()).map_err(io::Error::other)?;
    open.write_all(&vec![0; length])?;
    open.sync_all()?;
    open.set_len(0)?;
    open.sync_all()?;
    drop(open);
    fs::remove_file(file)?;
    sync_folder_of(file)
}

fn unshredded(file: &Path, error: &io::Error) -> Fault {
    Fault::refused(format!("{} was taken in, but could not be removed: {error}", file.display()))
        .advise("remove it by hand: it holds secrets")
}

fn human(done: &Done) -> String {
    let file = done.file.as_deref().unwrap_or(Path::new("")).display();
    if done.only_checked {
        return format!("{file}: no fault, for device {}\n", done.device);
    }
    let secrets = if done.secrets.is_empty() { "none".to_owned() } else { done.secrets.join(", ") };
    format!(
        "{file} was taken in: this is {} now; sealed secrets: {secrets}; the file was overwritten and removed\n{}",
        done.device,
        without_tpm(&done.without_tpm)
    )
}
