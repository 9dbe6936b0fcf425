//! Owns every task of the daemon, and reports the state to systemd.
//!
//! A task that ends by itself or panics ends the daemon, and systemd restarts it: a part of a daemon is worse.

pub mod systemd;
pub mod watchdog;

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tracing::{error, warn};

/// The tasks that must run as long as the daemon does.
pub struct Tasks {
    set: JoinSet<()>,
    names: HashMap<Id, &'static str>,
    stop: watch::Sender<bool>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self { set: JoinSet::new(), names: HashMap::new(), stop: watch::Sender::new(false) }
    }
}

impl Tasks {
    /// Starts a task under a name for the log.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.set.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Turns true when the tasks should end.
    pub fn stop_signal(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Waits for the first task that ends unexpectedly and returns its name. Without tasks it waits forever.
    pub async fn ended(&mut self) -> &'static str {
        match self.set.join_next_with_id().await {
            Some(Ok((id, ()))) => self.name(id),
            Some(Err(failure)) => {
                let name = self.name(failure.id());
                error!(task = name, %failure, "task failed; this is a bug, please report it");
                name
            }
            None => std::future::pending().await,
        }
    }

    /// Stops all tasks and waits for them. Tasks that need longer than `timeout` are aborted.
    pub async fn stop(&mut self, timeout: Duration) {
        self.stop.send_replace(true);
        let all = async { while self.set.join_next_with_id().await.is_some() {} };
        if tokio::time::timeout(timeout, all).await.is_err() {
            warn!(left = self.set.len(), "tasks did not end in time and were aborted");
            self.set.shutdown().await;
        }
    }

    fn name(&self, id: Id) -> &'static str {
        self.names.get(&id).copied().unwrap_or("unknown")
    }
}

/// Waits until `stop` is true or its sender was dropped.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender was dropped.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_reported_by_its_name() {
        let mut tasks = Tasks::default();
        tasks.spawn("steady", std::future::pending());
        tasks.spawn("frail", async { panic!("on purpose") });
        assert_eq!(tasks.ended().await, "frail");
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_is_aborted_after_the_timeout() {
        let mut tasks = Tasks::default();
        let mut stop = tasks.stop_signal();
        tasks.spawn("stuck", std::future::pending());
        tasks.spawn("polite", async move { stopped(&mut stop).await });
        // The first task never ends, so that only the budget can end this.
        tasks.stop(Duration::from_millis(50)).await;
        assert!(tasks.set.is_empty());
    }
}
