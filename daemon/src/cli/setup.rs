//! `gatehouse setup`: seals the appliance's secrets for this machine; works without the daemon.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use gatehouse_config::{Config, Secret, read_secret};
use serde::Serialize;
use zeroize::Zeroizing;

use super::DEFAULT_CONFIG;
use super::shell::Shell;
use crate::app::root_key::DEV_FILE;
use crate::control::types::Fault;
use crate::credstore::{self, Credstore, CredstoreError, FOLDER, ROOT_KEY, WithoutTpm, new_root_key, put};
use crate::exit;

/// Longest file read as a root key, in bytes: 64 digits and what an editor leaves around them.
const KEY_FILE_BYTES_MAX: u64 = 128;

/// Seals what is given, and makes a root key where there is none. Every FILE may be `-`, one of them, for standard
/// input; a line end at its end is not part of the secret.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A root key of yours (32 bytes, or 64 hexadecimal digits), in the place of a new one.
    #[arg(long, value_name = "FILE")]
    root_key_file: Option<PathBuf>,
    /// The password for the broker.
    #[arg(long, value_name = "FILE")]
    mqtt_password_file: Option<PathBuf>,
    /// The password for central Postgres.
    #[arg(long, value_name = "FILE")]
    rows_password_file: Option<PathBuf>,
    /// The access key for central S3.
    #[arg(long, value_name = "FILE")]
    objects_access_key_file: Option<PathBuf>,
    /// The secret key for central S3.
    #[arg(long, value_name = "FILE")]
    objects_secret_key_file: Option<PathBuf>,
    /// The key under which appliances of the deployment share people.
    #[arg(long, value_name = "FILE")]
    deployment_key_file: Option<PathBuf>,
    /// Write the root key into this new file, to be kept away from this machine.
    #[arg(long, value_name = "FILE")]
    copy_root_key_to: Option<PathBuf>,
    /// Take another root key although there is one: all that is sealed with it is lost for good.
    #[arg(long)]
    force_new_root_key: bool,
    /// Seal again what opens with the key of the host alone: with the TPM too, where there is one now.
    #[arg(long)]
    reseal: bool,
    #[command(flatten)]
    places: Places,
}

/// Where settings and sealed secrets are.
#[derive(Debug, clap::Args)]
pub(super) struct Places {
    /// The settings.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub(super) config: PathBuf,
    /// The folder of sealed credentials.
    #[arg(long, value_name = "FOLDER", default_value = FOLDER)]
    pub(super) credstore: PathBuf,
}

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Done {
    /// Sealed now.
    sealed: Vec<&'static str>,
    /// All that are there.
    present: Vec<&'static str>,
    /// Of those sealed now, the ones that the TPM did not seal although there is one.
    without_tpm: Vec<WithoutTpm>,
    /// Whether a root key was made.
    root_key_made: bool,
}

pub(super) fn run(args: &Args, shell: &mut Shell) -> Result<(), Fault> {
    let given = args.secrets()?;
    if let Some(file) = args.copy_root_key_to.as_ref().filter(|file| file.exists()) {
        return Err(Fault::refused(format!("{} is there already", file.display())).advise("name a new file"));
    }
    let store = Credstore::at(args.places.credstore.clone());
    let root_key = root_key(args, &store)?;
    let mut done = Done::default();
    if args.reseal {
        for name in store.of_host_alone() {
            done.seal(&store, name, &store.open(name).map_err(told)?)?;
        }
    }
    if let Some(key) = root_key {
        done.seal(&store, ROOT_KEY, &key)?;
        done.root_key_made = args.root_key_file.is_none();
    }
    if let Some(file) = &args.copy_root_key_to {
        let key = store.open_root_key().map_err(told)?;
        put(file, key.bytes(), 0o600)
            .map_err(|error| Fault::refused(format!("{}: {error}", file.display())))?;
    }
    for (name, secret) in given {
        done.seal(&store, name, &secret)?;
    }
    done.present = store.names();
    shell.show(&done, human)
}

impl Done {
    fn seal(&mut self, store: &Credstore, name: &'static str, secret: &Secret) -> Result<(), Fault> {
        let without_tpm = store.seal(name, secret).map_err(told)?;
        self.without_tpm.retain(|before| before.secret != name);
        self.without_tpm.extend(without_tpm);
        self.sealed.retain(|before| *before != name);
        self.sealed.push(name);
        Ok(())
    }
}

impl Args {
    fn secrets(&self) -> Result<Vec<(&'static str, Secret)>, Fault> {
        let files = [
            ("mqtt-password", &self.mqtt_password_file),
            ("rows-password", &self.rows_password_file),
            ("objects-access-key", &self.objects_access_key_file),
            ("objects-secret-key", &self.objects_secret_key_file),
            ("deployment-key", &self.deployment_key_file),
        ];
        let all = files.iter().map(|(_, file)| *file).chain([&self.root_key_file]);
        if all.flatten().filter(|file| *file == Path::new("-")).count() > 1 {
            return Err(Fault::with_code(exit::USAGE, "standard input can be one secret only"));
        }
        let given = files.into_iter().filter_map(|(name, file)| Some((name, file.as_deref()?)));
        given.map(|(name, file)| Ok((name, read(file)?))).collect()
    }
}

fn read(file: &Path) -> Result<Secret, Fault> {
    let file = if file == Path::new("-") { Path::new("/dev/stdin") } else { file };
    read_secret(file).map_err(Fault::refused)
}

/// The root key that is to be sealed, if any.
fn root_key(args: &Args, store: &Credstore) -> Result<Option<Secret>, Fault> {
    let given = args.root_key_file.as_deref().map(read_root_key).transpose()?;
    if store.holds(ROOT_KEY) && !args.force_new_root_key {
        return match given {
            Some(given) if store.open_root_key().map_err(told)? != given => Err(refuse_other_key(store)),
            _ => Ok(None),
        };
    }
    if given.is_some() {
        return Ok(given);
    }
    if !args.force_new_root_key {
        // They say where the state is: beside a sealed one no key may be made.
        let settings = Config::load(&args.places.config, &[]).map_err(|faults| {
            Fault::with_code(exit::CONFIG, faults).advise("correct the settings first; nothing was changed")
        })?;
        if has_its_own(&settings) {
            return Ok(None);
        }
        if settings.state.directory.join("keys").exists() {
            return Err(refuse_key_beside(&settings.state.directory));
        }
    }
    new_root_key().map(Some).map_err(told)
}

/// Whether the daemon finds its root key elsewhere.
pub(super) fn has_its_own(settings: &Config) -> bool {
    settings.keys.root_key_file.is_some() || settings.state.directory.join(DEV_FILE).exists()
}

fn read_root_key(file: &Path) -> Result<Secret, Fault> {
    let path = if file == Path::new("-") { Path::new("/dev/stdin") } else { file };
    let read = || -> io::Result<Zeroizing<Vec<u8>>> {
        // Room for all of it at once: a growing buffer would leave unwiped copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * KEY_FILE_BYTES_MAX as usize));
        File::open(path)?.take(KEY_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| Fault::refused(format!("{}: {error}", file.display())))?;
    credstore::root_key(&bytes).ok_or_else(|| {
        Fault::refused(format!("{} holds no root key", file.display()))
            .advise("it is 32 bytes or 64 hexadecimal digits: openssl rand -hex 32")
    })
}

fn refuse_other_key(store: &Credstore) -> Fault {
    Fault::refused(format!("{} holds another root key", store.path(ROOT_KEY).display())).advise(
        "everything on this appliance is sealed with it; --force-new-root-key takes the new one and gives all of that up",
    )
}

/// A new key beside a sealed state would open nothing.
pub(super) fn refuse_key_beside(state: &Path) -> Fault {
    Fault::refused(format!("{} was sealed with a root key that is not in the credential store", state.display()))
        .advise(
            "hand over your copy of it: gatehouse setup --root-key-file FILE; without one, move the folder away or \
             give it up with --force-new-root-key",
        )
}

#[allow(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
pub(super) fn told(error: CredstoreError) -> Fault {
    let fault = Fault::refused(&error);
    match error {
        CredstoreError::NoTool => fault,
        CredstoreError::Late { .. } => {
            fault.advise("try it once more; if a TPM hangs, switch the machine off and on; nothing was lost")
        }
        _ => fault.advise("run it as root on the appliance itself; nothing was lost"),
    }
}

/// What an installer is told of secrets that the TPM did not seal; nothing where there are none.
pub(super) fn without_tpm(secrets: &[WithoutTpm]) -> String {
    let line = |one: &WithoutTpm| {
        format!("{} is sealed with the key of the host alone, not with the TPM: {}\n", one.secret, one.reason)
    };
    let mut text: String = secrets.iter().map(line).collect();
    if !text.is_empty() {
        text.push_str("A copy of the disk opens it. Once the TPM can be used: gatehouse setup --reseal\n");
    }
    text
}

fn human(done: &Done) -> String {
    let list = |names: &[&str]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    let mut text = format!("sealed now: {}\nsealed in all: {}\n", list(&done.sealed), list(&done.present));
    if done.root_key_made {
        text.push_str(
            "A root key was made. Without it nothing on this appliance can be read again: keep a copy elsewhere\n\
             (gatehouse setup --copy-root-key-to FILE).\n",
        );
    }
    text.push_str(&without_tpm(&done.without_tpm));
    text.push_str("They are in force after a restart: systemctl restart gatehoused\n");
    text
}
