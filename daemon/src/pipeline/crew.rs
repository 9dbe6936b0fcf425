//! The tasks of the pipeline: which of them ended, also by a panic.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use gatehouse_store::store::StoreError;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::error;

/// Runs tasks under names. Dropped, it cuts them off.
pub(crate) struct Crew {
    tasks: Mutex<JoinSet<()>>,
    ended: watch::Sender<Vec<&'static str>>,
}

impl Default for Crew {
    fn default() -> Self {
        Self { tasks: Mutex::new(JoinSet::new()), ended: watch::Sender::new(Vec::new()) }
    }
}

/// Tells that a task ended, however it did.
struct End(watch::Sender<Vec<&'static str>>, &'static str);

impl Drop for End {
    fn drop(&mut self) {
        self.0.send_modify(|ended| ended.push(self.1));
    }
}

impl Crew {
    /// Starts a task on a runtime.
    pub(crate) fn spawn(
        &self,
        on: &Handle,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let end = End(self.ended.clone(), name);
        let task = async move {
            // Moved in here, so that a task that is cut off before its first step ends as well.
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

    /// Waits for the first task that ends; its name.
    pub(crate) async fn first_ended(&self) -> &'static str {
        let mut ended = self.ended.subscribe();
        let first = ended.wait_for(|ended| !ended.is_empty()).await;
        first.ok().and_then(|ended| ended.first().copied()).unwrap_or("pipeline")
    }

    /// Waits until all of `names` have ended.
    pub(crate) async fn all_ended(&self, names: &[&'static str]) {
        let mut ended = self.ended.subscribe();
        // The sender lives in here: no error.
        let _ = ended.wait_for(|ended| names.iter().all(|name| ended.contains(name))).await;
    }

    /// Cuts off whatever still runs.
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
        let (crew, here) = (Crew::default(), Handle::current());
        crew.spawn(&here, "steady", std::future::pending());
        crew.spawn(&here, "frail", async { panic!("on purpose") });
        assert_eq!(crew.first_ended().await, "frail");
        crew.abort();
        crew.all_ended(&["frail", "steady"]).await;
    }

    #[tokio::test]
    async fn a_panic_on_the_thread_of_events_is_seen_and_so_is_the_end_of_the_thread() {
        let (crew, thread) = (Crew::default(), EventThread::start().unwrap());
        crew.spawn(thread.handle(), "steady", std::future::pending());
        crew.spawn(thread.handle(), "frail", async { panic!("on purpose") });
        assert_eq!(crew.first_ended().await, "frail");
        drop(thread);
        crew.all_ended(&["frail", "steady"]).await;
    }
}
