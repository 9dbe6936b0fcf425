//! The settings in force, and which of them can change while the daemon runs.
//!
//! Crate `gatehouse-config` marks the keys that a reload applies: thresholds and minimum quality of the gallery, labels of
//! strangers, retention. All other keys are part of running connections, files and keys, and need a restart. A reload names
//! them. A file with a fault changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gatehouse_config::{Config, Entry, Faults};
use gatehouse_store::store::Galleries;
use gatehouse_store::store::RetentionPolicy;
use tracing::{info, warn};

use super::wiring::follow_target;
use gatehouse_control::answers::{Reloaded, SettingLine};
use gatehouse_machine::gallery::gallery_settings;

/// systemd-timesyncd touches this file whenever a time server has set the clock.
pub(super) const CLOCK_IS_SET: &str = "/run/systemd/timesync/synchronized";
const DAY: Duration = Duration::from_secs(86_400);

/// The settings the daemon was started with, and those of the last reload.
#[derive(Debug)]
pub struct Settings {
    path: PathBuf,
    started: Config,
    latest: Mutex<Arc<Config>>,
}

impl Settings {
    /// Reads the settings at `path`.
    ///
    /// # Errors
    /// All faults at once.
    pub fn load(path: &Path) -> Result<Self, Faults> {
        let started = Config::load(path, &Config::process_environment())?;
        let latest = Mutex::new(Arc::new(started.clone()));
        Ok(Self { path: path.to_owned(), started, latest })
    }

    /// The main file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The settings the running parts were made with.
    pub fn started(&self) -> &Config {
        &self.started
    }

    /// The retention periods in force.
    pub(crate) fn retention(&self) -> RetentionPolicy {
        let retention = self.latest().retention.clone();
        let days = |days: u32| DAY.saturating_mul(days);
        RetentionPolicy {
            delivered: days(retention.delivered_days),
            media: days(retention.media_days),
            undelivered: retention.undelivered_days.map(days),
            people: retention.people_days.map(days),
            clock_is_set: Path::new(CLOCK_IS_SET).exists(),
        }
    }

    /// Whether events may be deleted when the disk is full.
    pub(crate) fn may_drop_events(&self) -> bool {
        self.latest().retention.drop_events_when_full
    }

    /// Reads the settings again and applies what can change while running. Logs what it did.
    ///
    /// # Errors
    /// All faults at once; then nothing has changed.
    pub fn reload(&self, galleries: &Galleries) -> Result<Reloaded, Faults> {
        let fresh = Config::load(&self.path, &Config::process_environment()).inspect_err(|faults| {
            warn!(%faults, "the settings have faults; nothing was applied");
        })?;
        let mut latest = self.latest();
        let done = Reloaded {
            applied: changes(&latest, &fresh, Applies::OnReload),
            at_restart: changes(&self.started, &fresh, Applies::OnRestart),
        };
        let gallery = gallery_settings(&fresh);
        galleries.apply_settings(gallery.camera_thresholds, gallery.threshold, gallery.minimum_quality);
        follow_target(galleries, &fresh);
        galleries.label_strangers(fresh.gallery.label_strangers);
        *latest = Arc::new(fresh);
        info!(applied = ?done.applied, at_restart = ?done.at_restart, "settings read again");
        Ok(done)
    }

    /// Every setting in force, and those that a restart will change.
    pub fn lines(&self) -> Vec<SettingLine> {
        let latest = Arc::clone(&self.latest());
        let (started, latest) = (by_key(&self.started), by_key(&latest));
        let keys: BTreeSet<&str> = started.keys().chain(latest.keys()).copied().collect();
        let line = |key: &str| {
            let (before, after) = (started.get(key).copied(), latest.get(key).copied());
            let applies = Applies::of(before.or(after)?);
            let in_force = if applies == Applies::OnReload { after } else { before.or(after) };
            in_force.map(|entry| SettingLine {
                key: key.to_owned(),
                value: entry.value.clone(),
                source: entry.source.to_string(),
                restart_needed: applies == Applies::OnRestart && value(before) != value(after),
            })
        };
        keys.into_iter().filter_map(line).collect()
    }

    fn latest(&self) -> MutexGuard<'_, Arc<Config>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a new value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Applies {
    OnReload,
    OnRestart,
}

impl Applies {
    fn of(entry: &Entry) -> Self {
        if entry.is_live { Self::OnReload } else { Self::OnRestart }
    }
}

/// The keys whose values differ and take effect as `applies` says.
fn changes(before: &Config, after: &Config, applies: Applies) -> Vec<String> {
    let (before, after) = (by_key(before), by_key(after));
    let keys: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let is_meant = |key: &&str| {
        let (before, after) = (before.get(key).copied(), after.get(key).copied());
        value(before) != value(after) && before.or(after).is_some_and(|entry| Applies::of(entry) == applies)
    };
    keys.into_iter().filter(is_meant).map(str::to_owned).collect()
}

fn by_key(config: &Config) -> BTreeMap<&str, &Entry> {
    config.entries().map(|entry| (entry.key.as_str(), entry)).collect()
}

fn value(entry: Option<&Entry>) -> Option<&gatehouse_config::Value> {
    entry.and_then(|entry| entry.value.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_change_while_running_and_connections_do_not() {
        let before = Config::from_text("[device]\nid = \"a\"\nenvironment = \"dev\"\n").unwrap();
        let after = Config::from_text(
            "[device]\nid = \"a\"\nenvironment = \"dev\"\n[gallery]\nthreshold = 0.3\nlabel_strangers = true\n[gallery.cameras.door]\nthreshold = 0.2\n\
             [mqtt]\nurl = \"mqtt://elsewhere\"\n",
        )
        .unwrap();
        let on_reload = changes(&before, &after, Applies::OnReload);
        let at_restart = changes(&before, &after, Applies::OnRestart);
        assert_eq!(
            on_reload,
            ["gallery.cameras.door.threshold", "gallery.label_strangers", "gallery.threshold"]
        );
        assert_eq!(at_restart, ["mqtt.url"]);
    }
}
