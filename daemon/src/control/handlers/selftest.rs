//! The self-test: the way of an event is gone without an event. A face of random numbers is looked up, the task of the
//! events and the journal's writer are gone through, and the ledger is checked. Nothing is stored, published or counted.

use std::time::{Duration, Instant};

use super::{people, state};
use crate::control::Services;
use gatehouse_control::answers::Finding;
use gatehouse_control::encodings::RawEncoding;

/// Longest way through events' task and journal: a slow card needs a second, one that hangs never comes back.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// One finding for each part of the way.
pub(super) async fn run(services: &Services) -> Vec<Finding> {
    vec![identification(services), way(services).await, ledger(services)]
}

fn identification(services: &Services) -> Finding {
    let what = "identification";
    let advice = "look at `gatehouse doctor` and the log";
    let model = match services.store.galleries.current().model(None) {
        Ok(model) => model.clone(),
        Err(error) => return Finding::wrong(what, error.to_string(), advice),
    };
    let face: Vec<f32> = (0..model.dimensions).map(|_| fastrand::f32() - 0.5).collect();
    match people::identify(services, None, None, &[RawEncoding::from(face)]) {
        Ok(answer) => Finding::ok(what, format!("a face was looked up among {} people", answer.gallery_size)),
        Err(fault) => Finding::wrong(what, fault.message, advice),
    }
}

async fn way(services: &Services) -> Finding {
    let what = "way of an event";
    let begin = Instant::now();
    let advice = "look at dmesg and the log: the disk may hang";
    match tokio::time::timeout(PROBE_PATIENCE, services.pipeline.probe()).await {
        Ok(Ok(())) => Finding::ok(
            what,
            format!("events' task and journal answered in {} ms", begin.elapsed().as_millis()),
        ),
        Ok(Err(error)) => Finding::wrong(what, error.to_string(), advice),
        Err(_) => Finding::wrong(what, format!("no answer within {} s", PROBE_PATIENCE.as_secs()), advice),
    }
}

fn ledger(services: &Services) -> Finding {
    match state::ledger(&services.store.events).holds {
        true => Finding::ok("ledger", "adds up"),
        false => {
            Finding::wrong("ledger", "does not add up", "keep the state directory and report this fault")
        }
    }
}
