//! The self-test checks the path of an event without an event. It searches for a face of random numbers, sends a probe
//! through the event task and the journal writer, and checks the ledger. It stores, publishes and counts nothing.

use std::time::{Duration, Instant};

use super::{people, state};
use crate::control::Services;
use gatehouse_control::answers::Finding;
use gatehouse_control::encodings::RawEncoding;

/// Bounds the probe through event task and journal: a slow card needs a second, a failed one never answers.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// One finding for each check.
pub(super) async fn run(services: &Services) -> Vec<Finding> {
    vec![identification(services).await, event_path(services).await, ledger(services)]
}

async fn identification(services: &Services) -> Finding {
    let what = "identification";
    let advice = "run `gatehouse doctor` and check the log";
    let model = match services.store.galleries.current().model(None) {
        Ok(model) => model.clone(),
        Err(error) => return Finding::wrong(what, error.to_string(), advice),
    };
    let face: Vec<f32> = (0..model.dimensions).map(|_| fastrand::f32() - 0.5).collect();
    match people::identify(services, None, None, vec![RawEncoding::from(face)]).await {
        Ok(answer) => Finding::ok(what, format!("searched for a face among {} people", answer.gallery_size)),
        Err(fault) => Finding::wrong(what, fault.message, advice),
    }
}

async fn event_path(services: &Services) -> Finding {
    let what = "event path";
    let begin = Instant::now();
    let advice = "check dmesg and the log: the disk may hang";
    match tokio::time::timeout(PROBE_TIMEOUT, services.pipeline.probe()).await {
        Ok(Ok(())) => Finding::ok(
            what,
            format!("event task and journal answered in {} ms", begin.elapsed().as_millis()),
        ),
        Ok(Err(error)) => Finding::wrong(what, error.to_string(), advice),
        Err(_) => Finding::wrong(what, format!("no answer within {} s", PROBE_TIMEOUT.as_secs()), advice),
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
