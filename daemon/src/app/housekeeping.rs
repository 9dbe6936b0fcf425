//! Periodic work on the store: media files without an event, free space, recorded visits, and retention.

use std::sync::Arc;
use std::time::Duration;

use chrono::{Local, Timelike};
use gatehouse_vault::space::Pressure;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::control::Services;
use crate::supervise::stopped;

/// How often media files without an event are searched; they wait for hours.
const ORPHAN_CHECK_INTERVAL: Duration = Duration::from_secs(600);
/// How often space is freed while the disk is short of it.
const LOW_SPACE_INTERVAL: Duration = Duration::from_secs(15);
/// How often the last visit of each person is recorded. It is also recorded at an orderly end.
const VISIT_NOTE_INTERVAL: Duration = Duration::from_secs(6 * 3600);
/// How often people whose consent has ended are searched, which is the longest delay of their erasure.
const EXPIRY_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Local hours in which retention runs: few events arrive then.
const OFF_PEAK: std::ops::Range<u32> = 1..5;

/// Runs until `stop` is true. Runs at once if the disk is short of space.
pub(super) async fn run(services: Arc<Services>, mut stop: watch::Receiver<bool>) {
    let store = &services.store;
    let mut ticks = tokio::time::interval(ORPHAN_CHECK_INTERVAL);
    let mut notes = tokio::time::interval(VISIT_NOTE_INTERVAL);
    let mut expiries = tokio::time::interval(EXPIRY_CHECK_INTERVAL);
    expiries.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut low_space = tokio::time::interval(LOW_SPACE_INTERVAL);
    low_space.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut pressure = store.upkeep.pressure();
    loop {
        let short = *pressure.borrow_and_update() != Pressure::default();
        tokio::select! {
            () = stopped(&mut stop) => return note_visits(&services).await,
            _ = notes.tick() => note_visits(&services).await,
            _ = expiries.tick() => {
                erase_expired(&services).await;
                continue;
            }
            _ = ticks.tick() => {
                match store.media.drop_orphans().await {
                    Ok(0) => {}
                    Ok(dropped) => warn!(dropped, "media files without an event were dropped"),
                    Err(error) => warn!(%error, "media files without an event could not be dropped"),
                }
                if OFF_PEAK.contains(&Local::now().hour()) {
                    retain(&services).await;
                }
            }
            _ = pressure.changed() => {}
            _ = low_space.tick(), if short => {}
        }
        match store.upkeep.keep_free_space(services.settings.may_drop_events()).await {
            Ok(0) => {}
            Ok(bytes) => warn!(bytes, "media files or events were evicted to free disk space"),
            Err(error) => warn!(%error, "disk space could not be freed"),
        }
    }
}

/// Only with a retention period for people, which depends on visits.
async fn note_visits(services: &Services) {
    if services.settings.retention().people.is_some()
        && let Err(error) = services.store.people.note_visits().await
    {
        warn!(%error, "visits could not be recorded");
    }
}

async fn erase_expired(services: &Services) {
    let clock_is_set = services.settings.retention().clock_is_set;
    match services.store.privacy.erase_expired(clock_is_set).await {
        Ok(0) => {}
        Ok(erased) => info!(erased, "people were erased at the end of their consent"),
        Err(error) => warn!(%error, "people whose consent has ended could not be erased"),
    }
}

async fn retain(services: &Services) {
    match services.store.upkeep.retain(&services.settings.retention()).await {
        Ok(retained) if retained == gatehouse_store::store::Retained::default() => {}
        Ok(retained) => info!(?retained, "retention removed data"),
        Err(error) => warn!(%error, "retention failed"),
    }
}
