//! The file by which an appliance is set up without an operator on site: settings as in `gatehouse.toml`, and with them
//! one section `[secrets]`. It is checked as a whole, together with the settings that are there already, before any
//! of it is used. What is taken over of it is its settings, never a secret.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::Config;
use crate::fault::{Fault, Faults};
use crate::layer::{Found, Layers};
use crate::secret::{SECRETS, Secret};
use crate::source::Value;

/// Where the settings of the file are put, below the folder of the main settings file.
const TAKEN_OVER: &str = "conf.d/50-provisioned.toml";
/// The section of the secrets, with the dot before its keys.
const SECTION: &str = "secrets.";
/// Longest file read, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Digits of a root key.
const ROOT_KEY_DIGITS: usize = 64;

/// A provisioning file that was checked and found without a fault.
#[derive(Debug)]
pub struct Provisioning {
    /// The settings as they will be in force.
    pub config: Config,
    /// Where [`Provisioning::settings`] belongs.
    pub target: PathBuf,
    /// The settings of the file as TOML, without secrets.
    pub settings: String,
    /// The secrets of the file, by a name of [`SECRETS`].
    pub secrets: BTreeMap<&'static str, Secret>,
}

impl Provisioning {
    /// Reads and checks `file` as one of the drop-ins of `main`. The environment does not count.
    ///
    /// # Errors
    /// Every fault at once, with file, line and key; none of them shows a secret.
    pub fn read(file: &Path, main: &Path) -> Result<Self, Faults> {
        let text = read(file)?;
        let target = main.parent().unwrap_or(Path::new("")).join(TAKEN_OVER);
        let name = file.display().to_string();
        let mut own = Layers::of_file(&name, &text);
        let mut faults = Vec::new();
        let secrets = secrets(&mut own, &mut faults);
        let mut settings = format!("# Taken over from {name}\n");
        for (key, found) in &own.found {
            let _ = writeln!(settings, "{key} = {}", found.value);
        }
        match Config::from_layers(Layers::read_with(main, &target, own)) {
            Ok(config) if faults.is_empty() => Ok(Self { config, target, settings, secrets }),
            Ok(_) => Err(Faults::new(faults)),
            Err(more) => Err(Faults::new(faults.into_iter().chain(more.iter().cloned()).collect())),
        }
    }
}

fn read(file: &Path) -> Result<Zeroizing<String>, Faults> {
    let broken = |words: &str| {
        let file = file.display().to_string();
        Faults::new(vec![Fault { file, line: None, key: String::new(), words: words.to_owned() }])
    };
    let open = fs::File::open(file).map_err(|error| broken(&format!("cannot be read: {error}")))?;
    // Space for all of it at once: a growing buffer would leave unwiped copies behind.
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize + 1));
    open.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| broken(&format!("cannot be read: {error}")))?;
    match text.len() as u64 > FILE_BYTES_MAX {
        true => Err(broken("is longer than 256 KiB: not a provisioning file")),
        false => Ok(text),
    }
}

/// Takes the secrets out of the layers, so that nothing after this can show one.
fn secrets(layers: &mut Layers, faults: &mut Vec<Fault>) -> BTreeMap<&'static str, Secret> {
    let keys: Vec<String> = layers.found.keys().filter(|key| key.starts_with(SECTION)).cloned().collect();
    layers.tables.retain(|key, _| !format!("{key}.").starts_with(SECTION));
    let mut secrets = BTreeMap::new();
    for key in keys {
        let Some(Found { value, source }) = layers.found.remove(&key) else { continue };
        match secret(&key[SECTION.len()..], value) {
            Ok((name, secret)) => drop(secrets.insert(name, secret)),
            Err(words) => faults.push(Fault::new(&source, &layers.main, &key, words)),
        }
    }
    secrets
}

fn secret(name: &str, value: Value) -> Result<(&'static str, Secret), String> {
    let Some(name) = SECRETS.into_iter().find(|known| *known == name) else {
        return Err(format!("is no secret of the appliance; these are: {}", SECRETS.join(", ")));
    };
    let Value::Text(text) = value else { return Err("must be a text".to_owned()) };
    let secret = Secret::new(text.into_bytes());
    let is_digits = |bytes: &[u8]| bytes.len() == ROOT_KEY_DIGITS && bytes.iter().all(u8::is_ascii_hexdigit);
    match name {
        _ if secret.bytes().is_empty() => Err("is empty: write the secret, or remove the line".to_owned()),
        "root-key" if !is_digits(secret.bytes()) => {
            Err("must be 64 hexadecimal digits, as `openssl rand -hex 32` makes them".to_owned())
        }
        name => Ok((name, secret)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provisioned(text: &str) -> (tempfile::TempDir, Result<Provisioning, Faults>) {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("gatehouse.toml");
        fs::create_dir(folder.path().join("conf.d")).unwrap();
        fs::write(&main, "[device]\n[mqtt]\n").unwrap();
        fs::write(folder.path().join("conf.d/60-site.toml"), "mqtt.topic_root = \"site\"\n").unwrap();
        let file = folder.path().join("gatehouse-provision.toml");
        fs::write(&file, text).unwrap();
        let read = Provisioning::read(&file, &main);
        (folder, read)
    }

    #[test]
    fn settings_and_secrets_of_the_file_are_separated() {
        let text = "[device]\nid = \"house-7\"\nenvironment = \"prod\"\n[mqtt]\ntopic_root = \"mine\"\n\
                    [gallery.cameras.front-door]\nthreshold = 0.4\n[secrets]\nmqtt-password = \"hunter2\"\n";
        let (folder, read) = provisioned(text);
        let read = read.unwrap();
        assert_eq!(read.secrets["mqtt-password"].text(), Some("hunter2"));
        assert!(!read.settings.contains("hunter2") && !format!("{read:?}").contains("hunter2"));
        // What is taken over says the same when it is read again, also the second time.
        fs::write(&read.target, &read.settings).unwrap();
        let config = Config::load(&folder.path().join("gatehouse.toml"), &[]).unwrap();
        assert_eq!(config.device.id, "house-7");
        assert_eq!(config.mqtt.topic_root, "site", "a later file of the installer counts");
        assert_eq!(config.gallery.cameras.len(), 1);
    }

    #[test]
    fn every_fault_has_its_line_and_shows_no_secret() {
        let text = "[device]\nid = \"house 7\"\n[secrets]\nroot-key = \"hunter2\"\npassword = \"hunter2\"\n\
                    rows-password = \"\"\n";
        let (_folder, read) = provisioned(text);
        let words = read.unwrap_err().to_string();
        for part in [
            "provision.toml:2: device.id",
            "device.environment",
            "provision.toml:4: secrets.root-key",
            "provision.toml:5: secrets.password",
            "provision.toml:6: secrets.rows-password: is empty",
        ] {
            assert!(words.contains(part), "{part} is not in:\n{words}");
        }
        assert!(!words.contains("hunter2"), "{words}");
    }
}
