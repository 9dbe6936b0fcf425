//! What the store is told of the settings.

use std::sync::Arc;
use std::time::Duration;

use gatehouse_config::Config;
use gatehouse_store::Store;
use gatehouse_store::gallery::calibration::{known_calibration, model_advice, title};
use gatehouse_store::gallery::{self, GallerySettings, NoThreshold};
use gatehouse_store::record::Model;
use gatehouse_store::store::StoreSettings;

/// The gallery's part.
pub(crate) fn gallery_settings(config: &Config) -> GallerySettings {
    let gallery = &config.gallery;
    let cameras = gallery.cameras.iter().map(|(name, camera)| (name.clone(), camera.threshold));
    GallerySettings {
        model: gallery.model.clone(),
        dimensions: gallery.dimensions,
        metric: gallery.metric,
        normalised: gallery.normalised,
        // Nobody is recognised by this one: without it a target is followed.
        threshold: gallery.threshold.unwrap_or(0.0),
        camera_thresholds: cameras.collect(),
        minimum_quality: gallery.minimum_quality,
        exact_limit: gallery.exact_limit.unwrap_or(gallery::EXACT_LIMIT_MEASURED),
    }
}

/// What to do where the error rates of the model in the settings are not known and no threshold is set: a sentence.
pub(crate) fn model_note(config: &Config) -> Option<String> {
    let GallerySettings { model, dimensions, metric, .. } = gallery_settings(config);
    if config.gallery.threshold.is_some() || known_calibration(&model, dimensions, metric).is_some() {
        return None;
    }
    let cause = NoThreshold::UnknownModel {
        advice: model_advice(&model, dimensions, metric),
        model: title(&model, dimensions, metric),
        people: 0,
    };
    Some(format!("gallery.model: {cause}"))
}

/// Whether a gallery is not of the model that the settings describe: they may have been left behind by a switch.
pub(crate) fn differs(config: &Config, model: &Model) -> bool {
    *model != Model::from(&gallery_settings(config))
}

/// Lets thresholds be derived: for the share of strangers that the settings name, as far as they have no threshold.
pub(super) fn follow_target(store: &Store, config: &Config) {
    let share = f64::from(config.gallery.target_fpir);
    store.follow_target(config.gallery.threshold.is_none().then_some(share), share);
}

/// Shares people where the settings say so. A key that cannot be read is no reason to leave a door without answers.
pub(super) fn share_people(store: &Store, config: &Config) {
    if config.central.rows.is_none() {
        return;
    }
    match gatehouse_sync::central::people::deployment_key(config) {
        Ok(Some(key)) => store.share_people(Arc::new(key)),
        Ok(None) => {}
        Err(error) => tracing::error!("people are not shared: {error}"),
    }
}

/// All of it.
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
