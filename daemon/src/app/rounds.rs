//! What is looked at again and again: all of it in one round, with each pulse of the watchdog, so that none of it wakes a
//! board at which nothing happens once more.

use std::sync::Arc;

use gatehouse_store::store::Galleries;
use tokio::sync::watch;
use tracing::warn;

use super::{clock, status_line};
use crate::control::Services;
use crate::supervise::{stopped, systemd};

/// Goes its rounds until it is told to stop.
pub(super) async fn run(
    services: Arc<Services>,
    mut beats: watch::Receiver<()>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            Ok(()) = beats.changed() => round(&services).await,
            // The watchdog has ended, and with it the daemon.
            else => return,
        }
    }
}

async fn round(services: &Services) {
    // Faces in memory that have had their time; what ends at midnight ends with the next pulse.
    services.store.galleries.forget_old();
    clock::look(&services.store.events).await;
    thresholds(&services.store.galleries).await;
    systemd::status(&status_line(services).await);
}

/// Derives thresholds anew where the gallery changed or strangers came.
async fn thresholds(galleries: &Galleries) {
    if !galleries.wants_thresholds() {
        return;
    }
    let galleries = galleries.clone();
    match tokio::task::spawn_blocking(move || galleries.renew_thresholds()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, "thresholds could not be derived; those of before hold"),
        Err(_) => warn!("thresholds could not be derived; those of before hold"),
    }
}
