//! A second gallery: add, switch, remove. The log contains the user id of the caller and the number of people.

use gatehouse_gallery::calibration::Calibration;
use gatehouse_model::Model;
use gatehouse_store::store::{GalleryChanged, GalleryLine};
use tracing::{info, warn};

use super::store_fault;
use crate::control::Services;
use gatehouse_control::types::Fault;

pub(super) async fn add(services: &Services, model: Model, uid: u32) -> Result<Vec<GalleryLine>, Fault> {
    let gallery = model.name.clone();
    let galleries = services.store.galleries.add(model).await.map_err(store_fault)?;
    info!(uid, gallery, "gallery added");
    Ok(galleries)
}

pub(super) async fn calibrate(
    services: &Services,
    gallery: Option<&str>,
    calibration: Option<Calibration>,
    uid: u32,
) -> Result<Vec<GalleryLine>, Fault> {
    let source = calibration.as_ref().map(|calibration| calibration.source.clone());
    let galleries = services.store.galleries.calibrate(gallery, calibration).await.map_err(store_fault)?;
    info!(uid, gallery, source, "gallery calibrated");
    Ok(galleries)
}

pub(super) async fn switch(
    services: &Services,
    gallery: &str,
    force: bool,
    uid: u32,
) -> Result<GalleryChanged, Fault> {
    let done = services.store.galleries.switch(gallery, force).await.map_err(store_fault)?;
    info!(uid, gallery, "gallery switched");
    if done.missing > 0 {
        warn!(
            people = done.missing,
            "people of the other gallery are missing in this one and are not recognized"
        );
    }
    Ok(done)
}

pub(super) async fn remove(services: &Services, gallery: &str, uid: u32) -> Result<GalleryChanged, Fault> {
    let done = services.store.galleries.remove(gallery).await.map_err(store_fault)?;
    info!(uid, gallery, "gallery removed");
    Ok(done)
}
