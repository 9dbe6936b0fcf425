//! `gatehouse provision`: sets up an appliance from a file on its card, without an operator.
//!
//! Order: the whole file is checked, its secrets are sealed, its settings are written, and the file is renamed,
//! overwritten and removed. Each step is durable before the next one starts, and can be repeated. After a power cut the
//! next boot therefore completes the procedure. A faulty file is not changed.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gatehouse_config::{DEFAULT_CONFIG, Provisioning, Secret};
use serde::Serialize;

use super::session::Session;
use super::setup::{Paths, credstore_fault, has_its_own, refuse_second_root_key, without_tpm};
use gatehouse_control::exit;
use gatehouse_control::types::Fault;
use gatehouse_machine::credstore::{
    self, Credstore, ROOT_KEY, WithoutTpm, new_root_key, put, sync_folder_of,
};

/// Paths of the file: boot partition of a Raspberry Pi, of other boards, and the root file system.
const SEARCH_PATHS: [&str; 3] = [
    "/boot/firmware/gatehouse-provision.toml",
    "/boot/gatehouse-provision.toml",
    "/etc/gatehouse-provision.toml",
];
/// Suffix of a file that was applied and is to be removed.
const APPLIED_SUFFIX: &str = ".taken";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Provisioning file [default: gatehouse-provision.toml in /boot/firmware, /boot or /etc].
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only check the file; change nothing.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    paths: Paths,
}

/// Result of the command.
#[derive(Debug, Default, Serialize)]
struct ProvisionResult {
    /// The file, or none if no file was found.
    file: Option<PathBuf>,
    /// Device id from the file.
    device: String,
    /// All sealed secrets.
    secrets: Vec<&'static str>,
    /// Secrets sealed by this command without the TPM, although there is one.
    without_tpm: Vec<WithoutTpm>,
    /// Whether the file was only checked.
    only_checked: bool,
}

pub(super) fn run(args: &Args, session: &mut Session) -> Result<(), Fault> {
    let files: Vec<PathBuf> = match &args.file {
        Some(file) => vec![file.clone()],
        None => SEARCH_PATHS.iter().map(PathBuf::from).collect(),
    };
    if !args.check {
        for file in files.iter().filter(|file| applied_path(file).exists()) {
            // It was applied before a power cut.
            let applied = applied_path(file);
            shred(&applied).map_err(|error| not_removed(&applied, &error))?;
        }
    }
    let Some(file) = files.iter().find(|file| args.file.is_some() || file.exists()) else {
        let none = ProvisionResult { only_checked: args.check, ..ProvisionResult::default() };
        return session.show(&none, |_| "there is no provisioning file\n".to_owned());
    };
    let store = Credstore::at(args.paths.credstore.clone());
    let is_desk = args.check && args.paths.config == Path::new(DEFAULT_CONFIG) && !args.paths.config.exists();
    // Files are also checked on machines that are no appliances and have no settings.
    let config = if is_desk { Path::new("/dev/null") } else { &args.paths.config };
    let read = Provisioning::read(file, config).map_err(|faults| {
        Fault::with_code(exit::CONFIG, faults)
            .advise("nothing was changed; correct the file, it was not removed")
    })?;
    let mut done =
        ProvisionResult { file: Some(file.clone()), only_checked: args.check, ..ProvisionResult::default() };
    if !args.check {
        done.without_tpm = apply(&read, &store)?;
        let applied = applied_path(file);
        let removed =
            fs::rename(file, &applied).and_then(|()| sync_folder_of(&applied)).and_then(|()| shred(&applied));
        removed.map_err(|error| not_removed(file, &error))?;
    }
    done.device = read.config.device.id;
    done.secrets = store.names();
    session.show(&done, text)
}

/// Seals the secrets and writes the settings of the file. Returns the secrets sealed without the TPM.
fn apply(read: &Provisioning, store: &Credstore) -> Result<Vec<WithoutTpm>, Fault> {
    let mut without_tpm = Vec::new();
    if let Some(key) = root_key(read, store)? {
        without_tpm.extend(store.seal(ROOT_KEY, &key).map_err(credstore_fault)?);
    }
    for (name, secret) in read.secrets.iter().filter(|(name, _)| **name != ROOT_KEY) {
        without_tpm.extend(store.seal(name, secret).map_err(credstore_fault)?);
    }
    let fault = |error: io::Error| Fault::refused(format!("{}: {error}", read.target.display()));
    // Other users cannot enter the folder, and the file contains no secret.
    put(&read.target, read.settings.as_bytes(), 0o644).map_err(fault)?;
    Ok(without_tpm)
}

/// The root key to be sealed, if any. An existing key is never replaced, because the file may be an old one.
fn root_key(read: &Provisioning, store: &Credstore) -> Result<Option<Secret>, Fault> {
    let given = read.secrets.get(ROOT_KEY).and_then(|given| credstore::root_key(given.bytes()));
    if store.holds(ROOT_KEY) {
        let Some(given) = given else { return Ok(None) };
        return match store.open_root_key().map_err(credstore_fault)? == given {
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
            Err(refuse_second_root_key(&read.config.state.directory))
        }
        None => new_root_key().map(Some).map_err(credstore_fault),
    }
}

fn applied_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(APPLIED_SUFFIX);
    name.into()
}

/// Overwrites a file in place and removes it. A memory card may write to other blocks, so that a copy can remain in a
/// block that programs cannot read.
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

fn not_removed(file: &Path, error: &io::Error) -> Fault {
    Fault::refused(format!("{} was applied, but could not be removed: {error}", file.display()))
        .advise("remove it by hand: it contains secrets")
}

fn text(done: &ProvisionResult) -> String {
    let file = done.file.as_deref().unwrap_or(Path::new("")).display();
    if done.only_checked {
        return format!("{file}: no faults, for device {}\n", done.device);
    }
    let secrets = if done.secrets.is_empty() { "none".to_owned() } else { done.secrets.join(", ") };
    format!(
        "{file} was applied: this device is {}; sealed secrets: {secrets}; the file was overwritten and removed\n{}",
        done.device,
        without_tpm(&done.without_tpm)
    )
}
