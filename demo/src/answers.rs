//! What the appliance says to the cameras, beside who really stood there.

use std::collections::HashSet;

use chrono::{DateTime, Local};
use gatehouse_testkit::camera::{Listener, Received};
use gatehouse_testkit::synthetic::SyntheticPerson;
use serde_json::Value;

use crate::screen::Screen;
use crate::traffic::{Traffic, Visit, Who};

/// Everything that was answered so far.
#[derive(Default)]
pub(crate) struct Answers {
    /// Ids of events with an identification.
    pub(crate) identified: HashSet<String>,
    /// Milliseconds from PUBLISH to identification, sorted when asked for.
    latencies: Vec<f64>,
    /// Residents who were matched as themselves.
    pub(crate) right: u64,
    /// Residents who were not recognised.
    pub(crate) missed: u64,
    /// Strangers who were told to be strangers.
    pub(crate) strangers: u64,
    /// People who were taken for somebody else.
    pub(crate) wrong: u64,
    /// Answers that say that they are not to be acted on again.
    pub(crate) replayed: u64,
    /// Refusals.
    pub(crate) refused: u64,
    seen: usize,
}

impl Answers {
    /// Takes what has come since the last time and gives a line for each message.
    pub(crate) fn take(
        &mut self,
        listener: &Listener,
        traffic: &Traffic,
        people: &[(SyntheticPerson, String)],
        screen: &Screen,
    ) -> Vec<String> {
        let fresh = listener.with(|messages| messages.get(self.seen..).unwrap_or_default().to_vec());
        self.seen += fresh.len();
        fresh.iter().filter_map(|message| self.line(message, traffic, people, screen)).collect()
    }

    /// Median and 99th percentile of the latency in milliseconds.
    pub(crate) fn latency(&mut self) -> (f64, f64) {
        self.latencies.sort_by(f64::total_cmp);
        let count = self.latencies.len();
        let at = |percent: usize| self.latencies.get((count * percent / 100).min(count.saturating_sub(1)));
        (at(50).copied().unwrap_or(0.0), at(99).copied().unwrap_or(0.0))
    }

    fn line(
        &mut self,
        message: &Received,
        traffic: &Traffic,
        people: &[(SyntheticPerson, String)],
        screen: &Screen,
    ) -> Option<String> {
        let answer = message.json();
        let camera = message.topic.split('/').nth(1).unwrap_or("?");
        let clock = screen.dim(&DateTime::<Local>::from(message.clock).format("%H:%M:%S%.3f").to_string());
        if message.topic.ends_with("/rejected") {
            self.refused += 1;
            let reason = screen.yellow(&format!("refused: {}", answer["reason"].as_str().unwrap_or("?")));
            return Some(format!("{clock}  {camera:<11}{reason}"));
        }
        let id = answer["event_id"].as_str()?;
        let visit = traffic.visits.get(id)?;
        if answer["replayed"] == true || !self.identified.insert(id.to_owned()) {
            self.replayed += 1;
            let words = screen.dim("the same event again: replayed, not actionable");
            return Some(format!("{clock}  {camera:<11}{words}"));
        }
        let latency = message.at.saturating_duration_since(visit.sent).as_secs_f64() * 1e3;
        self.latencies.push(latency);
        let told = self.judge(visit, &answer["faces"][0], people, screen);
        Some(format!("{clock}  {camera:<11}{told}{latency:>8.1} ms"))
    }

    /// Compares the answer with who it was; gives who, outcome and distance in columns.
    fn judge(
        &mut self,
        visit: &Visit,
        face: &Value,
        people: &[(SyntheticPerson, String)],
        screen: &Screen,
    ) -> String {
        let Some(outcome) = face["outcome"].as_str() else {
            return format!("{:<24}{:<11}{:<16}", "-", "no face", "");
        };
        let person = face["person"]["id"].as_str();
        let name = face["person"]["name"].as_str().unwrap_or("somebody unknown");
        let is_right = match visit.who {
            Who::Resident(number) => person == Some(people[number].0.id.as_str()),
            Who::Stranger | Who::Nobody => person.is_none(),
        };
        let counter = match (visit.who, is_right, person) {
            (Who::Resident(_), true, _) => &mut self.right,
            (Who::Resident(_), false, None) => &mut self.missed,
            (_, false, _) => &mut self.wrong,
            (_, true, _) => &mut self.strangers,
        };
        *counter += 1;
        let word = format!("{outcome:<11}");
        let word = match outcome {
            "match" if is_right => screen.green(&word),
            "match" => screen.red(&word),
            _ => screen.yellow(&word),
        };
        let number = |key: &str| face[key].as_f64().map_or_else(|| "-".to_owned(), |d| format!("{d:.3}"));
        let distance = format!("{} of {}", number("distance"), number("threshold"));
        format!("{name:<24}{word}{distance:<16}")
    }
}
