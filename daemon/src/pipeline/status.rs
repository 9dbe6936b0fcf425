//! Keeps the retained status true, at a bounded rate, and costs nothing while nothing happens.

use std::time::Duration;

use gatehouse_store::store::{Feed, StoreStatus, Upkeep};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use gatehouse_mqtt::{Link, Phase, StatusMessage, reached};

/// Shortest time between two looks at the numbers, which are published where they changed.
const LOOK: Duration = Duration::from_secs(5);

/// The status is published although nothing changed: the age in it grows.
const REFRESH: Duration = Duration::from_secs(60);

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

    /// Runs until the pipeline stops taking messages; the last status is offline.
    pub(crate) async fn run(mut self) {
        let mut commits = self.feed.watch();
        let mut told_at = Instant::now();
        loop {
            let looked_at = Instant::now();
            let refresh = told_at.elapsed() >= REFRESH;
            commits.borrow_and_update();
            let online = self.input.borrow_and_update().since.is_some();
            let upkeep = self.upkeep.clone();
            // The numbers may come from disk.
            let numbers = tokio::task::spawn_blocking(move || upkeep.status()).await;
            if numbers.is_ok_and(|numbers| self.tell(online, &numbers, refresh)) || refresh {
                told_at = looked_at;
            }
            let news = async {
                sleep_until(looked_at + LOOK).await;
                // Where the store has ended so does the daemon.
                let _ = commits.changed().await;
            };
            tokio::select! {
                () = news => {}
                () = sleep_until(told_at + REFRESH) => {}
                Ok(()) = self.input.changed() => {}
                () = reached(&mut self.phase, Phase::Finish) => break,
            }
        }
        self.status.send_modify(|status| status.online = false);
        // The publisher needs the last value, and gets it as long as it runs.
        self.status.closed().await;
    }

    /// Whether it was told.
    fn tell(&self, online: bool, numbers: &StoreStatus, refresh: bool) -> bool {
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
