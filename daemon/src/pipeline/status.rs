//! Keeps the retained status true, at a bounded rate.

use std::time::Duration;

use gatehouse_store::Store;
use gatehouse_store::store::StoreStatus;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::mqtt::{Link, Phase, StatusMessage, reached};

/// How often the numbers are looked at and, where they changed, published.
const LOOK: Duration = Duration::from_secs(5);

/// Every so many looks the status is published although nothing changed: the age in it grows.
const REFRESH: u32 = 12;

/// The task.
pub(crate) struct StatusTask {
    store: Store,
    input: watch::Receiver<Link>,
    status: watch::Sender<StatusMessage>,
    phase: watch::Receiver<Phase>,
}

impl StatusTask {
    pub(crate) fn new(
        store: Store,
        input: watch::Receiver<Link>,
        status: watch::Sender<StatusMessage>,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        Self { store, input, status, phase }
    }

    /// Runs until the pipeline stops taking messages; the last status is offline.
    pub(crate) async fn run(mut self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for look in 1.. {
            let online = self.input.borrow_and_update().since.is_some();
            let store = self.store.clone();
            // The numbers may come from disk.
            if let Ok(numbers) = tokio::task::spawn_blocking(move || store.status()).await {
                self.tell(online, &numbers, look % REFRESH == 0);
            }
            tokio::select! {
                _ = looks.tick() => {}
                Ok(()) = self.input.changed() => {}
                () = reached(&mut self.phase, Phase::Finish) => break,
            }
        }
        self.status.send_modify(|status| status.online = false);
        // The publisher needs the last value, and gets it as long as it runs.
        self.status.closed().await;
    }

    fn tell(&self, online: bool, numbers: &StoreStatus, refresh: bool) {
        self.status.send_if_modified(|status| {
            let now = StatusMessage {
                online,
                device: status.device.clone(),
                gallery_size: numbers.people,
                pending_events: numbers.pending_events,
                pending_media: numbers.pending_media,
                oldest_pending: numbers.oldest_pending,
            };
            let changed = refresh || now != *status;
            *status = now;
            changed
        });
    }
}
