//! Ledger and status of the appliance, as the operator's tool prints them.

use anyhow::Result;
use gatehouse_testkit::daemon::Daemon;
use serde_json::Value;
use tokio::task::block_in_place;

/// Ledger and status at one moment.
pub(crate) struct Report {
    ledger: Value,
    status: Value,
}

impl Report {
    /// Queries the daemon.
    pub(crate) fn read(daemon: &Daemon) -> Result<Self> {
        block_in_place(|| Ok(Self { ledger: daemon.json(&["ledger"])?, status: daemon.json(&["status"])? }))
    }

    /// A number of a column (`events`, `files`, `bytes`) of the ledger.
    pub(crate) fn number(&self, column: &str, key: &str) -> u64 {
        self.ledger[column][key].as_u64().unwrap_or(0)
    }

    /// The sum over the reasons of `rejected` or `dropped`.
    pub(crate) fn sum(&self, column: &str, key: &str) -> u64 {
        let reasons = self.ledger[column][key].as_object();
        reasons.into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
    }

    /// Events and files that are not delivered yet.
    pub(crate) fn pending(&self) -> u64 {
        self.number("events", "pending") + self.number("files", "pending")
    }

    /// Whether section 7 of the contract holds. Calculated here, independently of the daemon.
    pub(crate) fn add_up(&self) -> bool {
        ["events", "files", "bytes"].iter().all(|column| {
            let number = |key| self.number(column, key);
            let received = number("stored") + number("duplicate") + self.sum(column, "rejected");
            let stored = number("delivered") + number("pending") + self.sum(column, "dropped");
            number("received") == received && number("stored") == stored
        })
    }

    /// The equation of received messages, in a column of the ledger.
    pub(crate) fn received(&self, column: &str) -> String {
        let number = |key| self.number(column, key);
        let (received, stored, duplicate) = (number("received"), number("stored"), number("duplicate"));
        let rejected = self.sum(column, "rejected");
        format!("received {received} = stored {stored} + duplicate {duplicate} + rejected {rejected}")
    }

    /// The equation of stored messages, in a column of the ledger.
    pub(crate) fn stored(&self, column: &str) -> String {
        let number = |key| self.number(column, key);
        let (stored, delivered, pending) = (number("stored"), number("delivered"), number("pending"));
        let dropped = self.sum(column, "dropped");
        format!("stored {stored} = delivered {delivered} + pending {pending} + dropped {dropped}")
    }

    /// Each configured sink with its state, e.g. `rows idle, objects waiting`.
    pub(crate) fn sinks(&self) -> String {
        let sinks = self.status["sinks"].as_array().into_iter().flatten();
        let states = sinks.filter(|sink| sink["configured"] == true).map(|sink| {
            let text = |key: &str| sink[key].as_str().unwrap_or("?");
            let away = if sink["error"].is_string() { " (unreachable)" } else { "" };
            format!("{} {}{away}", text("sink"), text("state"))
        });
        states.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(delivered: u64) -> Report {
        let column = json!({
            "received": 10, "stored": 7, "duplicate": 1, "rejected": {"not_json": 1, "zero": 1},
            "delivered": delivered, "pending": 2, "dropped": {"quota": 1},
        });
        let ledger = json!({ "events": column, "files": column, "bytes": column });
        let sink = |name: &str, configured: bool, error: Value| json!({ "sink": name, "configured": configured, "state": "waiting", "error": error });
        let sinks = [sink("rows", true, json!("refused")), sink("objects", false, Value::Null)];
        Report { ledger, status: json!({ "sinks": sinks }) }
    }

    #[test]
    fn ledger_is_recalculated() {
        assert!(report(4).add_up());
        assert!(!report(5).add_up());
        assert_eq!(report(4).pending(), 4);
    }

    #[test]
    fn ledger_and_sinks_are_printed_as_equations_and_states() {
        assert_eq!(report(4).received("events"), "received 10 = stored 7 + duplicate 1 + rejected 2");
        assert_eq!(report(4).stored("files"), "stored 7 = delivered 4 + pending 2 + dropped 1");
        assert_eq!(report(4).sinks(), "rows waiting (unreachable)");
    }
}
