//! Cameras that play a plan, and listeners that collect the answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gatehouse_testkit::camera::{Address, Camera, Listener, Receipt, Received, all_taken};
use gatehouse_testkit::wait;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::plan::{Plan, Step, Visit};

/// Root of all topics.
pub const ROOT: &str = "gatehouse";
/// A subscription takes milliseconds.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(20);

/// Collects the answers to each camera with one listener per camera.
#[derive(Debug)]
pub struct Collector {
    listeners: BTreeMap<String, Listener>,
}

/// The cameras of a plan while they play it.
#[derive(Debug)]
pub struct Playing {
    cameras: Vec<JoinHandle<Result<Vec<Receipt>>>>,
}

impl Collector {
    /// Subscribes for every camera of a plan.
    ///
    /// # Errors
    /// If the broker does not confirm in time.
    pub async fn of(plan: &Plan, address: &Address) -> Result<Self> {
        let mut listeners = BTreeMap::new();
        for camera in &plan.cameras {
            let topics = [format!("{ROOT}/{camera}/identification"), format!("{ROOT}/{camera}/rejected")];
            let topics = topics.each_ref().map(String::as_str);
            let listener = Listener::subscribe(camera, address, &topics, SUBSCRIBE_TIMEOUT).await?;
            listeners.insert(camera.clone(), listener);
        }
        Ok(Self { listeners })
    }

    /// All answers of one kind (`identification` or `rejected`) to one camera.
    pub fn messages(&self, camera: &str, kind: &str) -> Vec<Received> {
        let all = self.listeners.get(camera).map(Listener::messages).unwrap_or_default();
        all.into_iter().filter(|message| message.topic.ends_with(kind)).collect()
    }

    /// The identifications by camera and event id, each in the order of arrival.
    pub fn answers(&self) -> BTreeMap<(String, String), Vec<Value>> {
        let mut answers: BTreeMap<_, Vec<Value>> = BTreeMap::new();
        for camera in self.listeners.keys() {
            for message in self.messages(camera, "identification") {
                let json = message.json();
                let id = json["event_id"].as_str().unwrap_or_default().to_owned();
                answers.entry((camera.clone(), id)).or_default().push(json);
            }
        }
        answers
    }

    /// Waits until every visit of the plan is answered.
    ///
    /// # Errors
    /// Once `timeout` has passed; with the first events that have no answer.
    pub async fn until_answered(&self, plan: &Plan, timeout: Duration) -> Result<()> {
        let missing = || {
            let answers = self.answers();
            let has =
                |camera: &str, visit: &Visit| answers.contains_key(&(camera.to_owned(), visit.id.clone()));
            plan.visits()
                .filter(|(c, v)| !has(c, v))
                .map(|(c, v)| format!("{c}/{}", v.id))
                .collect::<Vec<_>>()
        };
        let end = Instant::now() + timeout;
        while !missing().is_empty() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let missing = missing();
        let first = missing.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
        anyhow::ensure!(missing.is_empty(), "{} events have no answer, e.g. {first}", missing.len());
        Ok(())
    }

    /// Waits until `count` refusals were sent to a camera.
    ///
    /// # Errors
    /// Once `timeout` has passed.
    pub async fn until_refused(&self, camera: &str, count: usize, timeout: Duration) -> Result<()> {
        let what = format!("{count} refusals for {camera}");
        wait::until_async(&what, timeout, || async { self.messages(camera, "rejected").len() >= count }).await
    }
}

impl Playing {
    /// Starts all cameras: the steps of the plan are spread evenly over `duration`.
    pub fn start(plan: &Arc<Plan>, address: &Address, duration: Duration) -> Self {
        let begin = tokio::time::Instant::now();
        let cameras = plan.cameras.iter().enumerate().map(|(number, name)| {
            let camera = Camera::connect(name, address);
            let (plan, name) = (plan.clone(), name.clone());
            tokio::spawn(async move {
                let mut receipts = Vec::new();
                let total = u32::try_from(plan.steps.len()).context("a plan of billions")?;
                for (at, (_, step)) in (0..total).zip(&plan.steps).filter(|(_, (owner, _))| *owner == number)
                {
                    tokio::time::sleep_until(begin + duration * at / total).await;
                    send(&camera, &name, step, &mut receipts);
                }
                // The camera lives until the broker has everything.
                let end = Instant::now() + duration + SUBSCRIBE_TIMEOUT;
                while camera.waiting() > 0 && Instant::now() < end {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Ok(receipts)
            })
        });
        Self { cameras: cameras.collect() }
    }

    /// Waits until the broker has taken everything.
    ///
    /// # Errors
    /// If it refuses a message, or `timeout` has passed.
    pub async fn finish(self, timeout: Duration) -> Result<()> {
        let mut receipts = Vec::new();
        for camera in self.cameras {
            receipts.extend(tokio::time::timeout(timeout, camera).await.context("a camera hangs")???);
        }
        all_taken(receipts, timeout).await
    }
}

fn send(camera: &Camera, name: &str, step: &Step, receipts: &mut Vec<Receipt>) {
    match step {
        Step::Malformed(bad) => {
            receipts.push(camera.send(&format!("{ROOT}/{}", bad.topic), bad.payload.clone(), bad.retain));
        }
        Step::Visit(visit) => {
            let event = format!("{ROOT}/{name}/event");
            let mut messages = vec![(event, visit.payload.clone())];
            if let Some(picture) = &visit.picture {
                let topic = format!("{ROOT}/{name}/media/{}/{}", visit.id, picture.name);
                messages.insert(usize::from(!picture.first), (topic, picture.bytes.clone()));
            }
            receipts.extend(messages.into_iter().map(|(topic, payload)| camera.send(&topic, payload, false)));
        }
    }
}
