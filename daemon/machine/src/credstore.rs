//! Secrets of this machine, sealed by `systemd-creds` with the TPM if there is one, otherwise with the key of the host. Each is
//! a file named after its credential in one folder. systemd opens them only for the daemon (`LoadCredentialEncrypted=`).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gatehouse_config::{SECRETS, Secret};
use serde::Serialize;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::program::run_within;

/// Where systemd looks for sealed credentials.
pub const FOLDER: &str = "/etc/credstore.encrypted";
/// The tool that seals and opens them.
const TOOL: &str = "systemd-creds";
/// The TPM device. By itself systemd-creds uses a TPM only if UEFI reports it, which small boards do not have.
const TPM: &str = "/dev/tpmrm0";
/// Prefix of a credential that is sealed only with the key of the host: the id that systemd calls CRED_AES256_GCM_BY_HOST, in
/// base64 up to its last whole digit.
const HOST_ALONE: &[u8] = b"Whxqht+dQJax1aZeCGLxm";
/// Bounds one call: a slow TPM needs a second or two. Each secret is sealed and opened again, and all calls together stay
/// below the 120 s of gatehouse-provision.service.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Name of the secret that seals all others.
pub const ROOT_KEY: &str = "root-key";
/// Name of the file with the root key in the state directory, environment `dev` only.
pub const DEV_ROOT_KEY_FILE: &str = "root.key";
/// Bytes of a root key.
const ROOT_KEY_BYTES: usize = 32;

/// Why a secret was not sealed.
#[derive(Debug, Error)]
pub enum CredstoreError {
    /// There is no systemd-creds.
    #[error(
        "this machine has no {TOOL} (systemd 250 and later has it): put the secrets into files that only the daemon \
         may read, and name them in the settings (keys.root_key_file, mqtt.password_file and so on)"
    )]
    NoTool,
    /// It failed.
    #[error("{TOOL} could not {what} {name}: {message}")]
    Refused {
        /// `seal` or `open`.
        what: &'static str,
        /// The credential.
        name: String,
        /// Its error message.
        message: String,
    },
    /// It did not end in time.
    #[error("{TOOL} did not {what} {name} within {} s and was ended", CALL_TIMEOUT.as_secs())]
    Late {
        /// `seal` or `open`.
        what: &'static str,
        /// The credential.
        name: String,
    },
    /// The sealed secret cannot be opened.
    #[error("{0} was sealed, but opens to another value: it was not stored; check the TPM")]
    Differs(String),
    /// The disk or the system.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}

/// A secret that is sealed only with the key of the host although there is a TPM.
#[derive(Debug, Serialize)]
pub struct WithoutTpm {
    /// The credential.
    pub secret: String,
    /// Why the TPM did not seal it.
    pub reason: String,
}

/// Whether the kernel has a TPM device.
pub fn has_tpm() -> bool {
    Path::new(TPM).exists()
}

/// The folder of sealed secrets.
#[derive(Debug)]
pub struct Credstore {
    folder: PathBuf,
}

impl Credstore {
    /// The secrets sealed in `folder`.
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of the secret of this name.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(credential(name))
    }

    /// Whether the secret exists.
    pub fn holds(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// The names of all existing secrets.
    pub fn names(&self) -> Vec<&'static str> {
        SECRETS.into_iter().filter(|name| self.holds(name)).collect()
    }

    /// The names of the secrets that are sealed only with the key of the host. Empty without permission to read them.
    pub fn of_host_alone(&self) -> Vec<&'static str> {
        let is_one = |name: &&str| {
            let mut begin = [0; HOST_ALONE.len()];
            let read = File::open(self.path(name)).and_then(|mut file| file.read_exact(&mut begin));
            read.is_ok() && begin == HOST_ALONE
        };
        SECRETS.into_iter().filter(is_one).collect()
    }

    /// Seals a secret and replaces an older one. It is opened first, so that the stored secret can be opened. Durable on return.
    /// Returns a report if there is a TPM that did not seal it.
    pub fn seal(&self, name: &str, secret: &Secret) -> Result<Option<WithoutTpm>, CredstoreError> {
        let path = self.path(name);
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| CredstoreError::Io { path, source }
        };
        self.make_folder().map_err(at(&self.folder))?;
        let (sealed, reason) = match has_tpm().then(|| seal_with("host+tpm2", name, secret)) {
            // A TPM that hangs would do so for each secret.
            Some(Err(error @ CredstoreError::Late { .. })) => return Err(error),
            // Libraries may be missing, or the TPM is locked: seal without it.
            Some(Err(error)) => (seal_with("auto", name, secret)?, Some(error.to_string())),
            Some(Ok(sealed)) => (sealed, None),
            None => (seal_with("auto", name, secret)?, None),
        };
        put(&path, &sealed, 0o600).map_err(at(&path))?;
        Ok(reason.map(|reason| WithoutTpm { secret: name.to_owned(), reason }))
    }

    fn make_folder(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        fs::set_permissions(&self.folder, Permissions::from_mode(0o700))?;
        sync_folder_of(&self.folder)
    }

    /// The sealed root key, in the form of [`root_key`].
    pub fn open_root_key(&self) -> Result<Secret, CredstoreError> {
        let sealed = self.open(ROOT_KEY)?;
        Ok(root_key(sealed.bytes()).unwrap_or(sealed))
    }

    /// Opens a sealed secret.
    pub fn open(&self, name: &str) -> Result<Secret, CredstoreError> {
        let path = self.path(name);
        let sealed = fs::read(&path).map_err(|source| CredstoreError::Io { path, source })?;
        let option = format!("--name={}", credential(name));
        Ok(Secret::new(run("open", name, &["decrypt", &option, "-", "-"], &sealed)?.to_vec()))
    }
}

/// Seals a secret with this key, and opens it again as a check.
fn seal_with(key: &str, name: &str, secret: &Secret) -> Result<Zeroizing<Vec<u8>>, CredstoreError> {
    let (key, option) = (format!("--with-key={key}"), format!("--name={}", credential(name)));
    let sealed = run("seal", name, &["encrypt", &key, &option, "-", "-"], secret.bytes())?;
    match run("open", name, &["decrypt", &option, "-", "-"], &sealed)?.as_slice() == secret.bytes() {
        true => Ok(sealed),
        false => Err(CredstoreError::Differs(credential(name))),
    }
}

/// Converts a root key of 32 bytes or 64 hexadecimal digits to the sealed form, so that two keys can be compared.
pub fn root_key(bytes: &[u8]) -> Option<Secret> {
    if bytes.len() == ROOT_KEY_BYTES {
        return Some(Secret::new(hex::encode(bytes).into_bytes()));
    }
    let digits = bytes.trim_ascii();
    let is_key = digits.len() == 2 * ROOT_KEY_BYTES && digits.iter().all(u8::is_ascii_hexdigit);
    is_key.then(|| Secret::new(digits.to_ascii_lowercase()))
}

/// Creates a root key from the random numbers of the system.
pub fn new_root_key() -> Result<Secret, CredstoreError> {
    // It waits for enough entropy, which urandom does not do on a first boot.
    let source = Path::new("/dev/random");
    let mut key = Zeroizing::new([0; ROOT_KEY_BYTES]);
    File::open(source)
        .and_then(|mut file| file.read_exact(key.as_mut_slice()))
        .map_err(|error| CredstoreError::Io { path: source.to_owned(), source: error })?;
    Ok(Secret::new(hex::encode(*key).into_bytes()))
}

/// Writes a file atomically; durable on return.
pub fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    // A file of an interrupted write may be open to others.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    // The umask of the provisioning unit would close the file to the user of the daemon.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_folder_of(path)
}

/// Syncs the folder of `path`.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn credential(name: &str) -> String {
    format!("gatehouse.{name}")
}

/// Runs the tool. Secrets use standard input and output, never arguments.
fn run(
    what: &'static str,
    name: &str,
    arguments: &[&str],
    input: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CredstoreError> {
    let failed = |message: String| CredstoreError::Refused { what, name: credential(name), message };
    let run = run_within(CALL_TIMEOUT, Command::new(TOOL).args(arguments), input);
    let output = run.map_err(|error| match error.kind() {
        ErrorKind::NotFound => CredstoreError::NoTool,
        ErrorKind::TimedOut => CredstoreError::Late { what, name: credential(name) },
        _ => failed(error.to_string()),
    })?;
    let said = Zeroizing::new(output.stdout);
    match output.status.success() {
        true => Ok(said),
        false => Err(failed(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "))),
    }
}
