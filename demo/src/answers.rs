//! The answers of the appliance to the cameras, compared with who was in front of each camera.

use std::collections::HashSet;

use chrono::{DateTime, Local};
use gatehouse_testkit::camera::{Listener, Received};
use gatehouse_testkit::synthetic::SyntheticPerson;
use serde_json::Value;

use crate::screen::Screen;
use crate::traffic::{Subject, Traffic, Visit};

/// All answers so far.
#[derive(Default)]
pub(crate) struct Answers {
    /// Ids of events with an identification.
    pub(crate) identified: HashSet<String>,
    /// Milliseconds from PUBLISH to identification; sorted on demand.
    latencies: Vec<f64>,
    /// Residents that were matched with their own profile.
    pub(crate) right: u64,
    /// Residents that were not matched.
    pub(crate) missed: u64,
    /// Visits of strangers, or without a face, that were matched with no profile.
    pub(crate) strangers: u64,
    /// Visits that were matched with the profile of another person.
    pub(crate) wrong: u64,
    /// Answers that are marked as repeated and not actionable.
    pub(crate) replayed: u64,
    /// Refusals.
    pub(crate) refused: u64,
    seen: usize,
}

impl Answers {
    /// Takes the messages since the last call and returns one line for each.
    pub(crate) fn take(
        &mut self,
        listener: &Listener,
        traffic: &Traffic,
        residents: &[SyntheticPerson],
        screen: &Screen,
    ) -> Vec<String> {
        let fresh = listener.with(|messages| messages.get(self.seen..).unwrap_or_default().to_vec());
        self.seen += fresh.len();
        fresh.iter().filter_map(|message| self.line(message, traffic, residents, screen)).collect()
    }

    /// Median and 99th percentile of the latency in milliseconds.
    pub(crate) fn latency(&mut self) -> Latency {
        self.latencies.sort_by(f64::total_cmp);
        let count = self.latencies.len();
        let at = |percent: usize| {
            let index = (count * percent / 100).min(count.saturating_sub(1));
            self.latencies.get(index).copied().unwrap_or(0.0)
        };
        Latency { p50: at(50), p99: at(99) }
    }

    fn line(
        &mut self,
        message: &Received,
        traffic: &Traffic,
        residents: &[SyntheticPerson],
        screen: &Screen,
    ) -> Option<String> {
        let answer = message.json();
        let camera = message.topic.split('/').nth(1).unwrap_or("?");
        let clock = screen.dim(&DateTime::<Local>::from(message.clock).format("%H:%M:%S").to_string());
        if message.topic.ends_with("/rejected") {
            self.refused += 1;
            let reason = screen.yellow(&format!("refused: {}", answer["reason"].as_str().unwrap_or("?")));
            return Some(format!("{clock}  {camera:<11}{reason}"));
        }
        let id = answer["event_id"].as_str()?;
        let visit = traffic.visits.get(id)?;
        if answer["replayed"] == true || !self.identified.insert(id.to_owned()) {
            self.replayed += 1;
            let note = screen.dim("the same event again: marked as replayed, not actionable");
            return Some(format!("{clock}  {camera:<11}{note}"));
        }
        let latency = message.at.saturating_duration_since(visit.sent).as_secs_f64() * 1e3;
        self.latencies.push(latency);
        let identification = self.judge(visit, &answer["faces"][0], residents, screen);
        Some(format!("{clock}  {camera:<11}{identification}{latency:>7.1} ms"))
    }

    /// Compares the answer with the visit. Returns name, outcome and distance in columns.
    fn judge(
        &mut self,
        visit: &Visit,
        face: &Value,
        residents: &[SyntheticPerson],
        screen: &Screen,
    ) -> String {
        let Some(outcome) = face["outcome"].as_str() else {
            return format!("{:<25}{:<10}{:<13}", "-", "no face", "");
        };
        let person = face["person"]["id"].as_str();
        let name = face["person"]["name"].as_str().unwrap_or("unknown person");
        let is_right = match visit.subject {
            Subject::Resident(number) => person == Some(residents[number].id.as_str()),
            Subject::Stranger | Subject::Motion => person.is_none(),
        };
        let counter = match (visit.subject, is_right, person) {
            (Subject::Resident(_), true, _) => &mut self.right,
            (Subject::Resident(_), false, None) => &mut self.missed,
            (_, false, _) => &mut self.wrong,
            (_, true, _) => &mut self.strangers,
        };
        *counter += 1;
        let column = format!("{outcome:<10}");
        let column = match outcome {
            "match" if is_right => screen.green(&column),
            "match" => screen.red(&column),
            _ => screen.yellow(&column),
        };
        let number = |key: &str| face[key].as_f64();
        format!("{name:<25}{column}{:<13}", comparison(number("distance"), number("threshold")))
    }
}

/// Latencies in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    /// Median.
    pub(crate) p50: f64,
    /// 99th percentile.
    pub(crate) p99: f64,
}

/// A distance next to the threshold, like `0.305 < 0.470`.
fn comparison(distance: Option<f64>, threshold: Option<f64>) -> String {
    match (distance, threshold) {
        (Some(distance), Some(threshold)) => {
            let sign = if distance < threshold { '<' } else { '>' };
            format!("{distance:.3} {sign} {threshold:.3}")
        }
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparison_shows_which_side_of_the_threshold_a_distance_is_on() {
        assert_eq!(comparison(Some(0.3054), Some(0.47)), "0.305 < 0.470");
        assert_eq!(comparison(Some(0.61), Some(0.47)), "0.610 > 0.470");
        assert_eq!(comparison(None, Some(0.47)), "-");
    }
}
