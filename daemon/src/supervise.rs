//! Owns every task of the daemon, and tells systemd how it is.
//!
//! A task that ends by itself, or panics, ends the daemon: half a daemon is worse than one that systemd restarts.

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

    /// Waits for the first task that ends although nobody asked; its name. For ever where there is no task.
    pub async fn ended(&mut self) -> &'static str {
        match self.set.join_next_with_id().await {
            Some(Ok((id, ()))) => self.name(id),
            Some(Err(failure)) => {
                let name = self.name(failure.id());
                error!(task = name, %failure, "task failed; this is a fault of the program, please report it");
                name
            }
            None => std::future::pending().await,
        }
    }

    /// Asks all tasks to end and waits for them; whoever needs more than `budget` is cut off.
    pub async fn stop(&mut self, budget: Duration) {
        self.stop.send_replace(true);
        let all = async { while self.set.join_next_with_id().await.is_some() {} };
        if tokio::time::timeout(budget, all).await.is_err() {
            warn!(left = self.set.len(), "tasks did not end in time; cut off");
            self.set.shutdown().await;
        }
    }

    fn name(&self, id: Id) -> &'static str {
        self.names.get(&id).copied().unwrap_or("unknown")
    }
}

/// Waits until `stop` turns true, or nobody is left who could turn it.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: then it is time to stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_told_by_its_name() {
        let mut tasks = Tasks::default();
        tasks.spawn("steady", std::future::pending());
        tasks.spawn("frail", async { panic!("on purpose") });
        assert_eq!(tasks.ended().await, "frail");
    }

    #[tokio::test]
    async fn a_task_that_does_not_listen_is_cut_off_at_its_budget() {
        let mut tasks = Tasks::default();
        let mut stop = tasks.stop_signal();
        tasks.spawn("deaf", std::future::pending());
        tasks.spawn("polite", async move { stopped(&mut stop).await });
        // The first task never ends, so that only the budget can end this.
        tasks.stop(Duration::from_millis(50)).await;
        assert!(tasks.set.is_empty());
    }
}
