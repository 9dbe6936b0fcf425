//! The checks that the daemon makes. Each check is one function that returns one [`Finding`] and changes nothing.

mod round_trip;

use std::path::Path;

use chrono::Utc;
use gatehouse_config::Config;
use gatehouse_control::answers::{BrokerStatus, ClockLine, Finding, LedgerAnswer, SinkLine};
use gatehouse_gallery::Derived;
use gatehouse_machine::checks::{clock, free_bytes, free_space};
use gatehouse_machine::gallery::differs;
use gatehouse_model::{Metric, Model};
use gatehouse_store::record::Sink;
use gatehouse_store::store::{Models, OpenReport};

use super::Services;
use super::handlers::{CENTRAL_TIMEOUT, state};
use crate::app::root_key::is_exposed;
use crate::pipeline::PipelineStats;

/// All checks, in the order in which an operator would make them.
pub(super) async fn findings(services: &Services) -> Vec<Finding> {
    let config = services.settings.started();
    // A server to which nothing was sent for hours may be unreachable since.
    services.sync.now(CENTRAL_TIMEOUT).await;
    let mut findings = vec![
        settings(services).await,
        state_directory(&config.state.directory),
        free_space(free_bytes(&config.state.directory), config.media.reserve_free_bytes),
        root_key(&services.root_key_file),
        time(services).await,
        opened(&services.opened),
        journal(services).await,
        gallery(config, services.store.galleries.current().models()),
        threshold(&services.store.galleries.current().threshold(None)),
        ledger(&state::ledger(&services.store.events)),
        broker(&state::broker(services)),
        answers(&services.pipeline.stats()),
    ];
    if state::broker(services).connected {
        findings.push(round_trip::finding(config).await);
    }
    match state::sinks(services).await {
        Ok(sinks) => findings.extend(sinks.iter().map(sink)),
        Err(fault) => findings.push(Finding::wrong("delivery", fault.message, "restart the daemon")),
    }
    findings.push(Finding::ok("version", format!("gatehoused {}", gatehouse_control::VERSION)));
    findings
}

async fn settings(services: &Services) -> Finding {
    let path = services.settings.path().to_owned();
    let load = {
        let path = path.clone();
        move || Config::load(&path, &Config::process_environment())
    };
    // A runtime that ends runs no more tasks: then there is no finding to report either.
    if let Ok(Err(faults)) = tokio::task::spawn_blocking(load).await {
        let advice = "correct the settings before the next restart: the daemon would not start";
        return Finding::wrong("settings", faults.to_string(), advice);
    }
    let waiting: Vec<_> = services.settings.lines().into_iter().filter(|line| line.restart_needed).collect();
    match waiting.is_empty() {
        true => Finding::ok("settings", format!("{} has no faults", path.display())),
        false => {
            let keys: Vec<_> = waiting.into_iter().map(|line| line.key).collect();
            Finding::note(
                "settings",
                format!("changed since the start: {}", keys.join(", ")),
                "restart the daemon",
            )
        }
    }
}

/// The state directory decides which gallery is in use. The settings describe only the first one.
fn gallery(config: &Config, models: &Models) -> Finding {
    let Model { name, dimensions, metric, normalised } = &models.in_use;
    let second = models
        .candidate
        .as_ref()
        .map_or_else(String::new, |model| format!(", second gallery {}", model.name));
    if !differs(config, &models.in_use) {
        return Finding::ok("gallery", format!("{name} is in use{second}"));
    }
    let set = &config.gallery.model;
    let words = format!("{name} is in use{second}; the settings describe {set}");
    let metric = match metric {
        Metric::Euclidean => "euclidean",
        Metric::Cosine => "cosine",
    };
    let advice = format!(
        "set gallery.model = \"{name}\", dimensions = {dimensions}, metric = \"{metric}\", normalised = {normalised}; while \
         model, dimensions or metric differ, the threshold is derived from gallery.target_fpir and fixed thresholds do not \
         apply"
    );
    Finding::note("gallery", words, advice)
}

/// Whether any face can be recognized.
fn threshold(derived: &Derived) -> Finding {
    match &derived.no_threshold {
        Some(cause) => Finding::wrong(
            "threshold",
            format!("there is none, so every face is a stranger: {cause}"),
            "run gatehouse gallery report",
        ),
        None => Finding::ok("threshold", format!("{:.4}", derived.threshold)),
    }
}

fn state_directory(directory: &Path) -> Finding {
    let words = directory.display().to_string();
    match rustix::fs::access(directory, rustix::fs::Access::WRITE_OK) {
        Ok(()) => Finding::ok("state directory", format!("{words} is writable")),
        Err(error) => Finding::wrong(
            "state directory",
            format!("{words} is not writable: {error}"),
            "check whether the disk is mounted read-only and who owns the folder",
        ),
    }
}

fn root_key(path: &Path) -> Finding {
    let words = path.display();
    match is_exposed(path) {
        Some(false) => Finding::ok("root key", format!("{words}, closed to other users")),
        Some(true) => Finding::wrong(
            "root key",
            format!("{words} is readable by other users"),
            format!("chmod 600 {words}"),
        ),
        None => Finding::note("root key", format!("{words} cannot be inspected"), "the next start needs it"),
    }
}

/// Compares the clock of the machine with the corrected time.
async fn time(services: &Services) -> Finding {
    match state::clock(services).await {
        Ok(line) => compared(&line, clock(Utc::now())),
        Err(fault) => Finding::wrong("clock", fault.message, "restart the daemon"),
    }
}

/// Adds the error of the machine's clock, if it is known.
fn compared(line: &ClockLine, machine: Finding) -> Finding {
    let Some(off) = line.uncertainty_ms else {
        let words = format!("{}; no reference time since the start of the machine", machine.words);
        return Finding { words, ..machine };
    };
    match line.wrong_by_ms {
        0 => Finding { words: format!("{}, correct within {off} ms", machine.words), ..machine },
        wrong => Finding::note(
            "clock",
            format!("{}, wrong by {} s; the times of events are corrected", machine.words, wrong / 1000),
            "enable a time server: timedatectl set-ntp true",
        ),
    }
}

fn opened(report: &OpenReport) -> Finding {
    if !report.damaged.is_empty() || report.media_lost > 0 {
        let words = format!(
            "the last start found {} damaged places in the journal and {} missing media files",
            report.damaged.len(),
            report.media_lost
        );
        return Finding::wrong(
            "store",
            words,
            "the log of the start lists them; the disk may be failing: check dmesg",
        );
    }
    match &report.views_rebuilt {
        Some(why) => {
            Finding::note("store", format!("views were rebuilt at the last start: {why}"), "nothing is lost")
        }
        None => Finding::ok("store", "opened without damage"),
    }
}

async fn journal(services: &Services) -> Finding {
    if services.store.upkeep.pressure().borrow().waiting > 0 {
        let what = "waits for free disk space; messages of cameras wait at the broker";
        return Finding::wrong(
            "journal",
            what,
            "free disk space; the daemon then continues without a restart",
        );
    }
    match services.store.events.ping().await {
        Ok(()) => Finding::ok("journal", format!("{} events stored", services.store.upkeep.head().seq)),
        Err(error) => Finding::wrong(
            "journal",
            error.to_string(),
            "restart the daemon; if the error remains, check dmesg",
        ),
    }
}

fn ledger(ledger: &LedgerAnswer) -> Finding {
    match ledger.holds {
        true => Finding::ok("ledger", format!("adds up: {} events received", ledger.events.received)),
        false => {
            Finding::wrong("ledger", "does not add up", "keep the state directory and report this fault")
        }
    }
}

fn broker(broker: &BrokerStatus) -> Finding {
    let address = &broker.address;
    match (broker.connected, &broker.error) {
        (true, _) => Finding::ok("broker", format!("connected to {address}")),
        (false, Some(error)) => {
            Finding::wrong("broker", format!("{address}: {error}"), "check [mqtt] and the broker")
        }
        (false, None) => {
            Finding::note("broker", format!("connecting to {address}"), "run doctor again in a few seconds")
        }
    }
}

fn answers(stats: &PipelineStats) -> Finding {
    let (sent, refused, late) = (stats.answers_sent, stats.answers_refused, stats.answers_given_up);
    match (refused, late) {
        (0, 0) => Finding::ok("answers", format!("{sent} published since the start")),
        (0, _) => Finding::note(
            "answers",
            format!("{late} could not be published in time since the start, {sent} were"),
            "check whether the broker was down; it delivers those events again",
        ),
        _ => Finding::wrong(
            "answers",
            format!("the broker refused {refused} of {sent} since the start: cameras do not receive them"),
            "allow mqtt.username to publish identification, rejected and status in the access list of the broker",
        ),
    }
}

fn sink(sink: &SinkLine) -> Finding {
    let (what, section) = match sink.sink {
        Sink::Rows => ("central database", "rows"),
        Sink::Objects => ("central objects", "objects"),
    };
    let pending = sink.pending;
    match &sink.error {
        _ if !sink.configured => {
            Finding::ok(what, format!("not configured ([central.{section}]): data stays on the appliance"))
        }
        Some(error) => {
            let since = &sink.since;
            Finding::wrong(
                what,
                format!("{error} (since {since}, {pending} pending)"),
                "run gatehouse central check",
            )
        }
        None if sink.set_aside > 0 => {
            let last = sink.last_set_aside.as_deref().unwrap_or_default();
            let words = format!("{} rejected by the server, last: {last}", sink.set_aside);
            Finding::note(what, words, "the log lists each of them")
        }
        None => Finding::ok(what, format!("{pending} pending")),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use gatehouse_control::answers::Grade;

    use super::*;

    #[test]
    fn a_wrong_clock_is_a_note() {
        let line = |uncertainty_ms, wrong_by_ms| {
            let machine = clock(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
            compared(&ClockLine { uncertainty_ms, wrong_by_ms, ..ClockLine::default() }, machine)
        };
        assert_eq!(line(Some(12), 90_000).grade, Grade::Note);
        assert!(line(Some(12), 90_000).words.contains("wrong by 90 s"));
        assert_eq!(line(Some(12), 0).grade, Grade::Ok);
        assert!(line(None, 0).words.contains("no reference time"));
    }

    #[test]
    fn answers_that_the_broker_refuses_are_wrong_and_late_ones_a_note() {
        let grade = |refused, late| {
            let stats = PipelineStats {
                answers_sent: 9,
                answers_refused: refused,
                answers_given_up: late,
                ..PipelineStats::default()
            };
            answers(&stats).grade
        };
        assert_eq!((grade(0, 0), grade(0, 1), grade(2, 1)), (Grade::Ok, Grade::Note, Grade::Wrong));
    }
}
