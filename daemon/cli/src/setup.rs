//! `gatehouse setup`: seals the appliance's secrets for this machine. It does not need the daemon.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use gatehouse_config::{Config, Secret, read_secret};
use serde::Serialize;
use zeroize::Zeroizing;

use super::session::Session;
use gatehouse_config::DEFAULT_CONFIG;
use gatehouse_control::exit;
use gatehouse_control::types::Fault;
use gatehouse_machine::credstore::{
    self, Credstore, CredstoreError, DEV_ROOT_KEY_FILE, FOLDER, ROOT_KEY, WithoutTpm, new_root_key, put,
};

/// Largest root key file in bytes: 64 digits, and line ends or a byte order mark from an editor.
const KEY_FILE_BYTES_MAX: u64 = 128;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Use this root key (32 bytes, or 64 hexadecimal digits) instead of a new one.
    #[arg(long, value_name = "FILE")]
    root_key_file: Option<PathBuf>,
    /// Password for the broker.
    #[arg(long, value_name = "FILE")]
    mqtt_password_file: Option<PathBuf>,
    /// Password for the central Postgres.
    #[arg(long, value_name = "FILE")]
    rows_password_file: Option<PathBuf>,
    /// Access key for the central S3.
    #[arg(long, value_name = "FILE")]
    objects_access_key_file: Option<PathBuf>,
    /// Secret key for the central S3.
    #[arg(long, value_name = "FILE")]
    objects_secret_key_file: Option<PathBuf>,
    /// Deployment key, with which the appliances of a deployment share people.
    #[arg(long, value_name = "FILE")]
    deployment_key_file: Option<PathBuf>,
    /// Write a copy of the root key to this new file; keep it away from this machine.
    #[arg(long, value_name = "FILE")]
    copy_root_key_to: Option<PathBuf>,
    /// Replace an existing root key: all data sealed with it is lost permanently.
    #[arg(long)]
    force_new_root_key: bool,
    /// Seal secrets again that are sealed without the TPM, if there is a TPM now.
    #[arg(long)]
    reseal: bool,
    #[command(flatten)]
    paths: Paths,
}

/// Paths of settings and sealed secrets.
#[derive(Debug, clap::Args)]
pub(super) struct Paths {
    /// Settings file.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub(super) config: PathBuf,
    /// Folder of the sealed secrets.
    #[arg(long, value_name = "FOLDER", default_value = FOLDER)]
    pub(super) credstore: PathBuf,
}

/// Result of the command.
#[derive(Debug, Default, Serialize)]
struct SetupResult {
    /// Secrets sealed by this command.
    sealed: Vec<&'static str>,
    /// All sealed secrets.
    present: Vec<&'static str>,
    /// Secrets sealed by this command without the TPM, although there is one.
    without_tpm: Vec<WithoutTpm>,
    /// Whether a root key was created.
    root_key_made: bool,
    /// Where the copy of the root key was written.
    #[serde(skip)]
    root_key_copy: Option<PathBuf>,
}

pub(super) fn run(args: &Args, session: &mut Session) -> Result<(), Fault> {
    let given = args.secrets()?;
    if let Some(file) = args.copy_root_key_to.as_ref().filter(|file| file.exists()) {
        return Err(Fault::refused(format!("{} exists already", file.display())).advise("name a new file"));
    }
    let store = Credstore::at(args.paths.credstore.clone());
    let root_key = root_key(args, &store)?;
    let mut done = SetupResult::default();
    if args.reseal {
        for name in store.of_host_alone() {
            done.seal(&store, name, &store.open(name).map_err(credstore_fault)?)?;
        }
    }
    if let Some(key) = root_key {
        done.seal(&store, ROOT_KEY, &key)?;
        done.root_key_made = args.root_key_file.is_none();
    }
    if let Some(file) = &args.copy_root_key_to {
        let key = store.open_root_key().map_err(credstore_fault)?;
        put(file, key.bytes(), 0o600)
            .map_err(|error| Fault::refused(format!("{}: {error}", file.display())))?;
        done.root_key_copy = Some(file.clone());
    }
    for (name, secret) in given {
        done.seal(&store, name, &secret)?;
    }
    done.present = store.names();
    session.show(&done, text)
}

impl SetupResult {
    fn seal(&mut self, store: &Credstore, name: &'static str, secret: &Secret) -> Result<(), Fault> {
        let without_tpm = store.seal(name, secret).map_err(credstore_fault)?;
        self.without_tpm.retain(|earlier| earlier.secret != name);
        self.without_tpm.extend(without_tpm);
        self.sealed.retain(|earlier| *earlier != name);
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
            return Err(Fault::with_code(exit::USAGE, "only one secret can be read from standard input"));
        }
        let given = files.into_iter().filter_map(|(name, file)| Some((name, file.as_deref()?)));
        given.map(|(name, file)| Ok((name, read(file)?))).collect()
    }
}

fn read(file: &Path) -> Result<Secret, Fault> {
    let file = if file == Path::new("-") { Path::new("/dev/stdin") } else { file };
    read_secret(file).map_err(Fault::refused)
}

/// The root key to be sealed, if any.
fn root_key(args: &Args, store: &Credstore) -> Result<Option<Secret>, Fault> {
    let given = args.root_key_file.as_deref().map(read_root_key).transpose()?;
    if store.holds(ROOT_KEY) && !args.force_new_root_key {
        return match given {
            Some(given) if store.open_root_key().map_err(credstore_fault)? != given => {
                Err(refuse_other_key(store))
            }
            _ => Ok(None),
        };
    }
    if given.is_some() {
        return Ok(given);
    }
    if !args.force_new_root_key {
        // The settings name the state directory. No key may be created if that directory was sealed with another one.
        let settings = Config::load(&args.paths.config, &[]).map_err(|faults| {
            Fault::with_code(exit::CONFIG, faults).advise("correct the settings first; nothing was changed")
        })?;
        if has_its_own(&settings) {
            return Ok(None);
        }
        if settings.state.directory.join("keys").exists() {
            return Err(refuse_second_root_key(&settings.state.directory));
        }
    }
    new_root_key().map(Some).map_err(credstore_fault)
}

/// Whether the daemon has a root key outside of the credential store.
pub(super) fn has_its_own(settings: &Config) -> bool {
    settings.keys.root_key_file.is_some() || settings.state.directory.join(DEV_ROOT_KEY_FILE).exists()
}

fn read_root_key(file: &Path) -> Result<Secret, Fault> {
    let path = if file == Path::new("-") { Path::new("/dev/stdin") } else { file };
    let read = || -> io::Result<Zeroizing<Vec<u8>>> {
        // The buffer must not grow: that would leave copies that are not wiped.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * KEY_FILE_BYTES_MAX as usize));
        File::open(path)?.take(KEY_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| Fault::refused(format!("{}: {error}", file.display())))?;
    credstore::root_key(&bytes).ok_or_else(|| {
        Fault::refused(format!("{} does not contain a root key", file.display()))
            .advise("a root key has 32 bytes or 64 hexadecimal digits; create one with: openssl rand -hex 32")
    })
}

fn refuse_other_key(store: &Credstore) -> Fault {
    Fault::refused(format!("{} holds another root key", store.path(ROOT_KEY).display())).advise(
        "all data on this appliance is sealed with that key; --force-new-root-key replaces the key, and all of that data is lost",
    )
}

/// A new key could not open the existing state.
pub(super) fn refuse_second_root_key(state: &Path) -> Fault {
    Fault::refused(format!("{} is sealed with a root key that is not in the credential store", state.display()))
        .advise(
            "give your copy of the key: gatehouse setup --root-key-file FILE; without a copy, move the folder away, or \
             lose its data with --force-new-root-key",
        )
}

#[allow(clippy::needless_pass_by_value, reason = "map_err passes the error by value")]
pub(super) fn credstore_fault(error: CredstoreError) -> Fault {
    let fault = Fault::refused(&error);
    match error {
        CredstoreError::NoTool => fault,
        CredstoreError::Late { .. } => {
            fault.advise("try again; if the TPM hangs, switch the machine off and on; no data was lost")
        }
        _ => fault.advise("run the command as root on the appliance; no data was lost"),
    }
}

/// Warning about secrets that are sealed without the TPM; empty if there are none.
pub(super) fn without_tpm(secrets: &[WithoutTpm]) -> String {
    let line = |one: &WithoutTpm| {
        format!("{} is sealed without the TPM, with the host key only: {}\n", one.secret, one.reason)
    };
    let mut text: String = secrets.iter().map(line).collect();
    if !text.is_empty() {
        text.push_str(
            "A copy of the disk is enough to open it. When the TPM works, run: gatehouse setup --reseal\n",
        );
    }
    text
}

fn text(done: &SetupResult) -> String {
    let present = if done.present.is_empty() { "none".to_owned() } else { done.present.join(", ") };
    let mut text = match done.sealed.as_slice() {
        [] => "nothing was changed\n".to_owned(),
        sealed => format!("sealed now: {}\n", sealed.join(", ")),
    };
    text.push_str(&format!("sealed secrets: {present}\n"));
    if let Some(file) = &done.root_key_copy {
        text.push_str(&format!("copy of the root key: {}, readable by its owner only\n", file.display()));
    } else if done.root_key_made {
        text.push_str(
            "A root key was created. Without it no data on this appliance can be read: keep a copy elsewhere\n\
             (gatehouse setup --copy-root-key-to FILE).\n",
        );
    }
    text.push_str(&without_tpm(&done.without_tpm));
    if !done.sealed.is_empty() {
        text.push_str("The daemon uses them after a restart: systemctl restart gatehoused\n");
    }
    text
}
