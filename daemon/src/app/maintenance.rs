//! Periodic checks. They run together with each probe of the watchdog, so that they do not wake an idle board once more.

use std::sync::Arc;

use gatehouse_store::store::Galleries;
use tokio::sync::watch;
use tracing::warn;

use super::{clock, status_line};
use crate::control::Services;
use crate::supervise::{stopped, systemd};

/// Runs periodic maintenance until `stop` is true.
pub(super) async fn run(
    services: Arc<Services>,
    mut beats: watch::Receiver<()>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            Ok(()) = beats.changed() => check(&services).await,
            // The watchdog ended, and so does the daemon.
            else => return,
        }
    }
}

async fn check(services: &Services) {
    // Recent faces that expired. What expires at midnight is removed at the next check.
    services.store.galleries.forget_old();
    clock::check(&services.store.events).await;
    thresholds(&services.store.galleries).await;
    systemd::status(&status_line(services).await);
}

/// Derives thresholds again if the gallery or the strangers changed.
async fn thresholds(galleries: &Galleries) {
    if !galleries.wants_thresholds() {
        return;
    }
    let galleries = galleries.clone();
    match tokio::task::spawn_blocking(move || galleries.renew_thresholds()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, "thresholds could not be derived; the previous ones apply"),
        Err(_) => warn!("thresholds could not be derived; the previous ones apply"),
    }
}
