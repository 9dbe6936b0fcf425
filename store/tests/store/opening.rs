//! Opens a store with encodings of four components.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use gatehouse_gallery::GallerySettings;
use gatehouse_model::{EventKey, Metric};
use gatehouse_store::store::{OpenReport, Store, StoreSettings};
use gatehouse_vault::keys::RootKey;

/// Opens or creates the store, with or without central rows.
pub(crate) fn open(directory: &Path, central_rows: bool) -> (Store, OpenReport) {
    let gallery = GallerySettings {
        model: "test".into(),
        dimensions: 4,
        metric: Metric::Euclidean,
        normalised: false,
        threshold: 0.5,
        camera_thresholds: HashMap::new(),
        minimum_quality: 0.2,
        exact_limit: 10_000,
    };
    let settings = StoreSettings {
        directory: directory.to_owned(),
        gallery,
        media_quota_bytes: 1 << 20,
        reserve_free_bytes: 0,
        orphan_media: Duration::from_secs(86_400),
        central_rows,
    };
    Store::open(settings, &RootKey::from_bytes([7; 32])).unwrap()
}

/// An event of the camera `front`.
pub(crate) fn key(id: u64) -> EventKey {
    EventKey { camera: "front".try_into().unwrap(), id: id.to_string().as_str().try_into().unwrap() }
}
