//! Helpers that open a store for unit tests.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use gatehouse_gallery::GallerySettings;
use gatehouse_model::{Event, EventKey, Metric, Timestamp};
use gatehouse_vault::keys::RootKey;

use super::{OpenReport, Store, StoreSettings};

/// Opens a state directory whose gallery has this model until a person is enrolled.
pub(in crate::store) fn open(directory: &Path, model: &str, dimensions: usize) -> (Store, OpenReport) {
    open_as(settings(directory, model, dimensions))
}

/// Opens a state directory with these settings.
pub(in crate::store) fn open_as(settings: StoreSettings) -> (Store, OpenReport) {
    Store::open(settings, &RootKey::from_bytes([7; 32])).unwrap()
}

/// A visit without a face.
pub(in crate::store) fn visit(id: &str) -> Event {
    Event {
        key: EventKey { camera: "front".try_into().unwrap(), id: id.try_into().unwrap() },
        kind: "button".into(),
        occurred_at: None,
        received_at: Timestamp::now(),
        media: Vec::new(),
        attributes: "{}".into(),
    }
}

/// Settings with a small media quota, an orphan timeout of one hour, and no central services.
pub(in crate::store) fn settings(directory: &Path, model: &str, dimensions: usize) -> StoreSettings {
    let gallery = GallerySettings {
        model: model.into(),
        dimensions,
        metric: Metric::Euclidean,
        normalised: false,
        threshold: 0.4,
        camera_thresholds: HashMap::new(),
        minimum_quality: 0.2,
        exact_limit: 10_000,
    };
    StoreSettings {
        directory: directory.to_owned(),
        gallery,
        media_quota_bytes: 10_000,
        reserve_free_bytes: 0,
        orphan_media: Duration::from_secs(3600),
        central_rows: false,
    }
}
