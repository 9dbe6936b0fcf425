//! The gallery that the settings describe.

use gatehouse_config::Config;
use gatehouse_gallery as gallery;
use gatehouse_gallery::{GallerySettings, NoThreshold};
use gatehouse_model::Model;

/// Settings of the gallery from the settings file.
pub fn gallery_settings(config: &Config) -> GallerySettings {
    let gallery = &config.gallery;
    let cameras = gallery.cameras.iter().map(|(name, camera)| (name.clone(), camera.threshold));
    GallerySettings {
        model: gallery.model.clone(),
        dimensions: gallery.dimensions,
        metric: gallery.metric,
        normalised: gallery.normalised,
        // 0.0 never matches: without a fixed threshold one is derived from target_fpir.
        threshold: gallery.threshold.unwrap_or(0.0),
        camera_thresholds: cameras.collect(),
        minimum_quality: gallery.minimum_quality,
        exact_limit: gallery.exact_limit.unwrap_or(gallery::EXACT_LIMIT_MEASURED),
    }
}

/// What to do where the settings allow no threshold: the model is unknown, or its error rates do not cover the target.
/// One sentence.
pub fn model_note(config: &Config) -> Option<String> {
    let GallerySettings { model, dimensions, metric, .. } = gallery_settings(config);
    if config.gallery.threshold.is_some() {
        return None;
    }
    let target = f64::from(config.gallery.target_fpir);
    let cause = NoThreshold::of_settings(&model, dimensions, metric, target)?;
    Some(format!("gallery.model: {cause}"))
}

/// Whether a gallery is of another model than the settings describe: after a switch of galleries they may be outdated.
pub fn differs(config: &Config, model: &Model) -> bool {
    *model != Model::from(&gallery_settings(config))
}
