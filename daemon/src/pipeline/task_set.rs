//! The tasks of the pipeline, and which of them ended, also by a panic.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use gatehouse_store::store::StoreError;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::error;

/// Runs named tasks. Dropping it aborts them.
pub(crate) struct TaskSet {
    tasks: Mutex<JoinSet<()>>,
    ended: watch::Sender<Vec<&'static str>>,
}

impl Default for TaskSet {
    fn default() -> Self {
        Self { tasks: Mutex::new(JoinSet::new()), ended: watch::Sender::new(Vec::new()) }
    }
}

/// Reports the end of a task when it is dropped.
struct End(watch::Sender<Vec<&'static str>>, &'static str);

impl Drop for End {
    fn drop(&mut self) {
        self.0.send_modify(|ended| ended.push(self.1));
    }
}

impl TaskSet {
    /// Starts a task on a runtime.
    pub(crate) fn spawn(
        &self,
        on: &Handle,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let end = End(self.ended.clone(), name);
        let task = async move {
            // Moved in here, so that the end of a task is reported that is aborted before it is polled.
            let _end = end;
            task.await;
        };
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn_on(task, on);
    }

    /// Starts a task whose error is logged and ends it.
    pub(crate) fn spawn_fallible(
        &self,
        on: &Handle,
        name: &'static str,
        task: impl Future<Output = Result<(), StoreError>> + Send + 'static,
    ) {
        self.spawn(on, name, async move {
            if let Err(error) = task.await {
                error!(task = name, %error, "the store failed");
            }
        });
    }

    /// Waits for the first task that ends and returns its name.
    pub(crate) async fn first_ended(&self) -> &'static str {
        let mut ended = self.ended.subscribe();
        let first = ended.wait_for(|ended| !ended.is_empty()).await;
        first.ok().and_then(|ended| ended.first().copied()).unwrap_or("pipeline")
    }

    /// Waits until all of `names` have ended.
    pub(crate) async fn all_ended(&self, names: &[&'static str]) {
        let mut ended = self.ended.subscribe();
        // No error: `self` owns the sender.
        let _ = ended.wait_for(|ended| names.iter().all(|name| ended.contains(name))).await;
    }

    /// Aborts all running tasks.
    pub(crate) fn abort(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::thread::EventThread;

    #[tokio::test]
    async fn the_end_of_a_task_is_seen_also_when_it_panics() {
        let (set, here) = (TaskSet::default(), Handle::current());
        set.spawn(&here, "steady", std::future::pending());
        set.spawn(&here, "frail", async { panic!("on purpose") });
        assert_eq!(set.first_ended().await, "frail");
        set.abort();
        set.all_ended(&["frail", "steady"]).await;
    }

    #[tokio::test]
    async fn a_panic_on_the_thread_of_events_is_seen_and_so_is_the_end_of_the_thread() {
        let (set, thread) = (TaskSet::default(), EventThread::start().unwrap());
        set.spawn(thread.handle(), "steady", std::future::pending());
        set.spawn(thread.handle(), "frail", async { panic!("on purpose") });
        assert_eq!(set.first_ended().await, "frail");
        drop(thread);
        set.all_ended(&["frail", "steady"]).await;
    }
}
