//! Key rotation.

use gatehouse_store::store::{KeyStatus, TemplatesRotated};
use tracing::{info, warn};

use super::store_fault;
use crate::control::Services;
use gatehouse_control::types::Fault;

pub(super) fn status(services: &Services) -> KeyStatus {
    let device = &services.settings.started().device;
    services.store.upkeep.key_status(device.environment.as_str(), &device.id)
}

pub(super) async fn rotate_templates(services: &Services, uid: u32) -> Result<TemplatesRotated, Fault> {
    let done = services.store.people.rotate_templates().await.map_err(store_fault)?;
    info!(uid, generation = done.generation, templates = done.templates, "template key rotated");
    if done.unreadable > 0 {
        warn!(
            people = done.unreadable,
            "profiles of people are unreadable; the old template key is kept for them"
        );
    }
    Ok(done)
}
