//! Publishes the retained status at a bounded rate. It is idle while nothing changes.

use std::time::Duration;

use gatehouse_store::store::{Feed, StoreStatus, Upkeep};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use gatehouse_mqtt::{Link, Phase, StatusMessage, reached};

/// Shortest interval between two checks of the numbers, which are published if they changed.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The status is also published without a change, because it contains an age.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);

/// The task.
pub(crate) struct StatusTask {
    feed: Feed,
    upkeep: Upkeep,
    input: watch::Receiver<Link>,
    status: watch::Sender<StatusMessage>,
    phase: watch::Receiver<Phase>,
}

impl StatusTask {
    pub(crate) fn new(
        feed: Feed,
        upkeep: Upkeep,
        input: watch::Receiver<Link>,
        status: watch::Sender<StatusMessage>,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        Self { feed, upkeep, input, status, phase }
    }

    /// Runs until the pipeline stops receiving. The last status is offline.
    pub(crate) async fn run(mut self) {
        let mut commits = self.feed.watch();
        let mut published_at = Instant::now();
        loop {
            let checked_at = Instant::now();
            let refresh = published_at.elapsed() >= REFRESH_INTERVAL;
            commits.borrow_and_update();
            let online = self.input.borrow_and_update().since.is_some();
            let upkeep = self.upkeep.clone();
            // The numbers may come from the disk.
            let numbers = tokio::task::spawn_blocking(move || upkeep.status()).await;
            if numbers.is_ok_and(|numbers| self.publish(online, &numbers, refresh)) || refresh {
                published_at = checked_at;
            }
            let changes = async {
                sleep_until(checked_at + CHECK_INTERVAL).await;
                // If the store ended, the daemon ends.
                let _ = commits.changed().await;
            };
            tokio::select! {
                () = changes => {}
                () = sleep_until(published_at + REFRESH_INTERVAL) => {}
                Ok(()) = self.input.changed() => {}
                () = reached(&mut self.phase, Phase::Finish) => break,
            }
        }
        self.status.send_modify(|status| status.online = false);
        // The publisher needs the last value until it ends.
        self.status.closed().await;
    }

    /// Returns whether it was published.
    fn publish(&self, online: bool, numbers: &StoreStatus, refresh: bool) -> bool {
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
        })
    }
}
