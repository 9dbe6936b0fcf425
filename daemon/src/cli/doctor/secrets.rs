//! Without the daemon: whether the secrets that the settings need are there.

use std::path::Path;

use gatehouse_config::{Config, Environment};

use crate::cli::setup::has_its_own;
use crate::control::answers::Finding;
use crate::credstore::{Credstore, FOLDER, ROOT_KEY, has_tpm};

/// One finding for all secrets. Who may not look into the folders is told so.
pub(super) fn finding(config: &Config) -> Finding {
    judge(config, &Credstore::at(FOLDER.into()))
}

fn judge(config: &Config, store: &Credstore) -> Finding {
    let what = "secrets";
    if let Some((key, file)) = files(config).into_iter().find(|(_, file)| !file.exists()) {
        let words = format!("{key}: {} is not there, or you may not see it", file.display());
        return Finding::wrong(what, words, "put it there, or remove the key and run `gatehouse setup`");
    }
    let sealed = store.names();
    let words = format!("sealed in {}: {}", store.folder().display(), sealed.join(", "));
    // In environment dev the daemon makes one.
    let is_made = config.device.environment == Environment::Dev;
    match sealed.contains(&ROOT_KEY) || is_made || has_its_own(config) {
        true if sealed.is_empty() => Finding::ok(what, "none are sealed, all that are named are there"),
        true => Finding::ok(what, words),
        false => {
            Finding::wrong(what, "there is no root key, or you may not see it", "gatehouse setup, as root")
        }
    }
}

/// What opens with the key of the host alone although there is a TPM; also while the daemon runs, which does not see it.
pub(super) fn without_tpm() -> Option<Finding> {
    has_tpm().then(|| without(&Credstore::at(FOLDER.into()))).flatten()
}

fn without(store: &Credstore) -> Option<Finding> {
    let names = store.of_host_alone();
    (!names.is_empty()).then(|| {
        Finding::note(
            "tpm",
            format!("sealed without the TPM, although there is one: {}", names.join(", ")),
            "gatehouse setup --reseal, as root; where the TPM refuses, it says why (often libtss2-esys, -rc, -mu are not there)",
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
    use crate::control::answers::Grade;

    #[test]
    fn a_missing_root_key_and_a_named_file_that_is_not_there_are_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let store = Credstore::at(folder.path().to_owned());
        let grade = |environment: &str, more: &str| {
            let text = format!("[device]\nid = \"t\"\nenvironment = \"{environment}\"\n{more}");
            judge(&Config::from_text(&text).unwrap(), &store).grade
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
    fn what_the_tpm_could_have_sealed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let store = Credstore::at(folder.path().to_owned());
        // Beginnings of what systemd-creds makes with the key of the host, and with that and a TPM.
        std::fs::write(store.path("mqtt-password"), "Whxqht+dQJax1aZeCGLxmiAAAAABAAAADAAAABAA").unwrap();
        std::fs::write(store.path(ROOT_KEY), "k6iUCUh0RJCQyvL8k8q1UyAAAAABAAAADAAAABAA").unwrap();
        let found = without(&store).unwrap();
        assert_eq!(found.grade, Grade::Note);
        assert!(found.words.ends_with("although there is one: mqtt-password"), "{}", found.words);
        std::fs::remove_file(store.path("mqtt-password")).unwrap();
        assert_eq!(without(&store), None);
    }
}
