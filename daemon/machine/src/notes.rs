//! Valid settings that are probably a mistake, for `gatehoused check-config` and `gatehouse doctor`.

use gatehouse_config::Config;

use crate::credstore::{Credstore, FOLDER};
use crate::gallery::model_note;

/// Name of the sealed password for the broker.
const PASSWORD: &str = "mqtt-password";

/// A setting that is probably a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// One sentence.
    pub text: String,
    /// What to do next.
    pub advice: &'static str,
}

/// All such settings.
pub fn notes(config: &Config) -> Vec<Note> {
    let password = password_without_user(config, &Credstore::at(FOLDER.into()));
    let password = password.map(|text| Note { text, advice: "set mqtt.username, or remove the password" });
    let model = model_note(config).map(|text| Note { text, advice: "run gatehouse gallery report" });
    password.into_iter().chain(model).collect()
}

fn password_without_user(config: &Config, store: &Credstore) -> Option<String> {
    // A password_file without a user name is a fault of the settings already.
    let is_ignored = config.mqtt.username.is_none() && store.names().contains(&PASSWORD);
    is_ignored.then(|| {
        let folder = store.folder().display();
        format!(
            "a password for the broker is sealed in {folder}, but mqtt.username is not set: it is not sent"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_is_not_sent_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let store = Credstore::at(folder.path().to_owned());
        let note = |mqtt: &str| {
            let text = format!("[device]\nid = \"t\"\nenvironment = \"dev\"\n[mqtt]\n{mqtt}");
            password_without_user(&Config::from_text(&text).unwrap(), &store)
        };
        assert_eq!(note(""), None);
        std::fs::write(store.path(PASSWORD), "sealed").unwrap();
        assert!(note("").unwrap().contains("mqtt.username is not set"));
        assert_eq!(note("username = \"house-1\""), None);
    }

    #[test]
    fn a_model_with_a_similar_name_is_reported() {
        let text = |gallery: &str| {
            let text = format!("[device]\nid = \"t\"\nenvironment = \"dev\"\n[gallery]\n{gallery}");
            notes(&Config::from_text(&text).unwrap()).into_iter().map(|note| note.text).collect::<String>()
        };
        assert_eq!(text(""), "");
        let note = text("model = \"dlib128\"");
        assert!(note.contains("did you mean dlib-128") && note.contains("gallery.threshold"), "{note}");
        assert_eq!(text("model = \"dlib128\"\nthreshold = 0.4"), "", "a threshold that is set holds");
    }
}
