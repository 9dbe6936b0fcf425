//! Whether the secrets that the settings need exist, checked without the daemon.

use std::path::Path;

use gatehouse_config::{Config, Environment};

use crate::setup::has_its_own;
use gatehouse_control::answers::Finding;
use gatehouse_machine::credstore::{Credstore, FOLDER, ROOT_KEY, has_tpm};

/// One finding for all secrets. It also covers missing access rights to the folders.
pub(super) fn finding(config: &Config) -> Finding {
    check(config, &Credstore::at(FOLDER.into()))
}

fn check(config: &Config, store: &Credstore) -> Finding {
    let what = "secrets";
    if let Some((key, file)) = files(config).into_iter().find(|(_, file)| !file.exists()) {
        let message = format!("{key}: {} does not exist, or this user has no access", file.display());
        return Finding::wrong(
            what,
            message,
            "create the file, or remove the setting and run `gatehouse setup`",
        );
    }
    let sealed = store.names();
    let message = format!("sealed in {}: {}", store.folder().display(), sealed.join(", "));
    // In environment dev the daemon creates a root key.
    let is_created = config.device.environment == Environment::Dev;
    match sealed.contains(&ROOT_KEY) || is_created || has_its_own(config) {
        true if sealed.is_empty() => {
            Finding::ok(what, "no sealed secrets; all files named in the settings exist")
        }
        true => Finding::ok(what, message),
        false => Finding::wrong(
            what,
            "there is no root key, or this user has no access",
            "run gatehouse setup as root",
        ),
    }
}

/// Secrets sealed without the TPM, although there is one. The daemon cannot see this.
pub(super) fn without_tpm() -> Option<Finding> {
    has_tpm().then(|| without(&Credstore::at(FOLDER.into()))).flatten()
}

fn without(store: &Credstore) -> Option<Finding> {
    let names = store.of_host_alone();
    (!names.is_empty()).then(|| {
        Finding::note(
            "tpm",
            format!("sealed without the TPM, although there is one: {}", names.join(", ")),
            "run gatehouse setup --reseal as root; it shows the reason if the TPM fails (often libtss2-esys, -rc or -mu are missing)",
        )
    })
}

fn files(config: &Config) -> Vec<(&'static str, &Path)> {
    let objects = config.central.objects.as_ref();
    let rows = config.central.rows.as_ref();
    let named = [
        ("keys.root_key_file", config.keys.root_key_file.as_deref()),
        ("mqtt.password_file", config.mqtt.password_file.as_deref()),
        ("mqtt.key_file", config.mqtt.key_file.as_deref()),
        ("central.rows.password_file", rows.and_then(|rows| rows.password_file.as_deref())),
        ("central.objects.access_key_file", objects.and_then(|objects| objects.access_key_file.as_deref())),
        ("central.objects.secret_key_file", objects.and_then(|objects| objects.secret_key_file.as_deref())),
    ];
    named.into_iter().filter_map(|(key, file)| Some((key, file?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatehouse_control::answers::Grade;

    #[test]
    fn a_missing_root_key_or_secret_file_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let store = Credstore::at(folder.path().to_owned());
        let grade = |environment: &str, more: &str| {
            let text = format!("[device]\nid = \"t\"\nenvironment = \"{environment}\"\n{more}");
            check(&Config::from_text(&text).unwrap(), &store).grade
        };
        assert_eq!((grade("prod", ""), grade("dev", "")), (Grade::Wrong, Grade::Ok));
        std::fs::write(store.path(ROOT_KEY), "sealed").unwrap();
        assert_eq!(grade("prod", ""), Grade::Ok);
        let password = folder.path().join("password");
        let named = format!("[mqtt]\nusername = \"t\"\npassword_file = \"{}\"\n", password.display());
        assert_eq!(grade("prod", &named), Grade::Wrong);
        std::fs::write(&password, "hunter2").unwrap();
        assert_eq!(grade("prod", &named), Grade::Ok);
    }

    #[test]
    fn secrets_sealed_without_the_tpm_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let store = Credstore::at(folder.path().to_owned());
        // First bytes of files by systemd-creds: with the host key, and with host key and TPM.
        std::fs::write(store.path("mqtt-password"), "Whxqht+dQJax1aZeCGLxmiAAAAABAAAADAAAABAA").unwrap();
        std::fs::write(store.path(ROOT_KEY), "k6iUCUh0RJCQyvL8k8q1UyAAAAABAAAADAAAABAA").unwrap();
        let found = without(&store).unwrap();
        assert_eq!(found.grade, Grade::Note);
        assert!(found.words.ends_with("although there is one: mqtt-password"), "{}", found.words);
        std::fs::remove_file(store.path("mqtt-password")).unwrap();
        assert_eq!(without(&store), None);
    }
}
