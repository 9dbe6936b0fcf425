//! What the store is told of the settings.

use std::time::Duration;

use gatehouse_config::{Config, Metric};
use gatehouse_store::gallery::{self, GallerySettings};
use gatehouse_store::store::StoreSettings;

/// The gallery's part.
pub(super) fn gallery_settings(config: &Config) -> GallerySettings {
    let gallery = &config.gallery;
    let cameras = gallery.cameras.iter().map(|(name, camera)| (name.clone(), camera.threshold));
    GallerySettings {
        model: gallery.model.clone(),
        dimensions: gallery.dimensions,
        metric: match gallery.metric {
            Metric::Euclidean => gallery::Metric::Euclidean,
            Metric::Cosine => gallery::Metric::Cosine,
        },
        // Nobody is recognised by this one: without it a target is followed.
        threshold: gallery.threshold.unwrap_or(0.0),
        camera_thresholds: cameras.collect(),
        minimum_quality: gallery.minimum_quality,
        exact_limit: gallery.exact_limit.unwrap_or(gallery::EXACT_LIMIT_MEASURED),
    }
}

/// The share of strangers that thresholds are derived for; none where the settings have one.
pub(super) fn target(config: &Config) -> Option<f64> {
    config.gallery.threshold.is_none().then(|| f64::from(config.gallery.target_fpir))
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
