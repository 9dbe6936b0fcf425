//! What is done beside the events: files without an event, room on the disk, and what has been kept long enough.

use std::sync::Arc;
use std::time::Duration;

use chrono::{Local, Timelike};
use gatehouse_store::space::Pressure;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::control::Services;
use crate::supervise::stopped;

/// How often media files whose event never came are looked for; they wait for hours.
const EVERY: Duration = Duration::from_secs(600);
/// The same after the disk was full.
const SHORT_EVERY: Duration = Duration::from_secs(15);
/// Hours of this machine's day in which what was kept long enough goes: hardly anybody is at the door.
const OFF_PEAK: std::ops::Range<u32> = 1..5;

/// Runs until it is told to stop; at once where the disk gets short.
pub(super) async fn run(services: Arc<Services>, mut stop: watch::Receiver<bool>) {
    let store = &services.store;
    let mut ticks = tokio::time::interval(EVERY);
    let mut pressure = store.pressure();
    loop {
        let short = *pressure.borrow_and_update() != Pressure::default();
        tokio::select! {
            () = stopped(&mut stop) => return,
            _ = ticks.tick() => {
                match store.drop_orphan_media().await {
                    Ok(0) => {}
                    Ok(dropped) => warn!(dropped, "media files without an event were given up"),
                    Err(error) => warn!(%error, "media files without an event could not be looked for"),
                }
                if OFF_PEAK.contains(&Local::now().hour()) {
                    retain(&services).await;
                }
            }
            _ = pressure.changed() => {}
            () = tokio::time::sleep(SHORT_EVERY), if short => {}
        }
        match store.keep_room().await {
            Ok(0) => {}
            Ok(bytes) => warn!(bytes, "media files or delivered events were given up for room on the disk"),
            Err(error) => warn!(%error, "room on the disk could not be made"),
        }
    }
}

async fn retain(services: &Services) {
    match services.store.retain(&services.settings.retention()).await {
        Ok(retained) if retained == gatehouse_store::store::Retained::default() => {}
        Ok(retained) => info!(?retained, "what was kept long enough is gone"),
        Err(error) => warn!(%error, "what was kept long enough could not be let go"),
    }
}
