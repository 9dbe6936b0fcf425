//! Applies the settings to the store.

use std::sync::Arc;
use std::time::Duration;

use gatehouse_config::Config;
use gatehouse_machine::gallery::gallery_settings;
use gatehouse_store::store::{Galleries, People, Privacy, StoreSettings};

/// Lets thresholds be derived: for the share of strangers that the settings name, as far as they have no threshold.
pub(super) fn follow_target(galleries: &Galleries, config: &Config) {
    let share = f64::from(config.gallery.target_fpir);
    galleries.set_target_fpir(config.gallery.threshold.is_none().then_some(share), share);
}

/// Refuses enrollments without the reference of a consent if the settings say so.
pub(super) fn require_consent(privacy: &Privacy, config: &Config) {
    if config.privacy.consent == gatehouse_config::Consent::Required {
        privacy.require_consent();
    }
}

/// Shares people if the settings say so. Without a readable key the daemon starts all the same, and people are not shared.
pub(super) fn share_people(people: &People, config: &Config) {
    if config.central.rows.is_none() {
        return;
    }
    match gatehouse_central::deployment::deployment_key(config) {
        Ok(Some(key)) => people.share(Arc::new(key)),
        Ok(None) => {}
        Err(error) => tracing::error!("people are not shared: {error}"),
    }
}

/// The settings of the store.
pub(super) fn store_settings(config: &Config) -> StoreSettings {
    StoreSettings {
        directory: config.state.directory.clone(),
        gallery: gallery_settings(config),
        media_quota_bytes: config.media.quota_bytes,
        reserve_free_bytes: config.media.reserve_free_bytes,
        orphan_media: Duration::from_secs(u64::from(config.media.orphan_hours) * 3600),
        central_rows: config.central.rows.is_some(),
    }
}
