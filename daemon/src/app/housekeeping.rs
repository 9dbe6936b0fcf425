//! What is done beside the events: files without an event, room on the disk, who was at the door, and what has been kept long
//! enough.

use std::sync::Arc;
use std::time::Duration;

use chrono::{Local, Timelike};
use gatehouse_vault::space::Pressure;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::control::Services;
use crate::supervise::stopped;

/// How often media files whose event never came are looked for; they wait for hours.
const EVERY: Duration = Duration::from_secs(600);
/// The same after the disk was full.
const SHORT_EVERY: Duration = Duration::from_secs(15);
/// How often it is written down who was at the door; and at an orderly end.
const NOTE_EVERY: Duration = Duration::from_secs(6 * 3600);
/// Hours of this machine's day in which what was kept long enough goes: hardly anybody is at the door.
const OFF_PEAK: std::ops::Range<u32> = 1..5;

/// Runs until it is told to stop; at once where the disk gets short.
pub(super) async fn run(services: Arc<Services>, mut stop: watch::Receiver<bool>) {
    let store = &services.store;
    let mut ticks = tokio::time::interval(EVERY);
    let mut notes = tokio::time::interval(NOTE_EVERY);
    let mut pressure = store.upkeep.pressure();
    loop {
        let short = *pressure.borrow_and_update() != Pressure::default();
        tokio::select! {
            () = stopped(&mut stop) => return note_visits(&services).await,
            _ = notes.tick() => note_visits(&services).await,
            _ = ticks.tick() => {
                match store.media.drop_orphans().await {
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
        match store.upkeep.keep_free_space(services.settings.may_drop_events()).await {
            Ok(0) => {}
            Ok(bytes) => warn!(bytes, "media files or events were given up for room on the disk"),
            Err(error) => warn!(%error, "room on the disk could not be made"),
        }
    }
}

/// Only where people are kept by it.
async fn note_visits(services: &Services) {
    if services.settings.retention().people.is_some()
        && let Err(error) = services.store.people.note_visits().await
    {
        warn!(%error, "who was at the door could not be written down");
    }
}

async fn retain(services: &Services) {
    match services.store.upkeep.retain(&services.settings.retention()).await {
        Ok(retained) if retained == gatehouse_store::store::Retained::default() => {}
        Ok(retained) => info!(?retained, "what was kept long enough is gone"),
        Err(error) => warn!(%error, "what was kept long enough could not be let go"),
    }
}
