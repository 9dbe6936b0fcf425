//! Starts, pauses and resumes delivery.

use std::time::Duration;

use gatehouse_control::answers::SinkLine;
use gatehouse_control::types::Fault;
use tracing::{info, warn};

use super::{CENTRAL_TIMEOUT, state};
use crate::control::Services;

pub(super) async fn now(services: &Services) -> Result<Vec<SinkLine>, Fault> {
    services.sync.now(CENTRAL_TIMEOUT).await;
    state::sinks(services).await
}

pub(super) async fn pause(services: &Services, seconds: u64, uid: u32) -> Result<Vec<SinkLine>, Fault> {
    services.sync.pause(Duration::from_secs(seconds));
    warn!(uid, seconds, "delivery paused");
    state::sinks(services).await
}

pub(super) async fn resume(services: &Services, uid: u32) -> Result<Vec<SinkLine>, Fault> {
    services.sync.resume();
    info!(uid, "delivery resumed");
    state::sinks(services).await
}
