//! Ledger and status, as the operator's tool prints them.

use anyhow::Result;
use gatehouse_testkit::daemon::Daemon;
use serde_json::Value;
use tokio::task::block_in_place;

/// What the daemon says of itself at one moment.
pub(crate) struct Books {
    ledger: Value,
    status: Value,
}

impl Books {
    /// Asks the daemon.
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

    /// Whether section 7 of the contract holds, calculated here and not taken from the daemon.
    pub(crate) fn add_up(&self) -> bool {
        ["events", "files", "bytes"].iter().all(|column| {
            let number = |key| self.number(column, key);
            let received = number("stored") + number("duplicate") + self.sum(column, "rejected");
            let stored = number("delivered") + number("pending") + self.sum(column, "dropped");
            number("received") == received && number("stored") == stored
        })
    }

    /// What came in, in a column of the ledger.
    pub(crate) fn received(&self, column: &str) -> String {
        let number = |key| self.number(column, key);
        let (received, stored, duplicate) = (number("received"), number("stored"), number("duplicate"));
        let rejected = self.sum(column, "rejected");
        format!("received {received} = stored {stored} + duplicate {duplicate} + rejected {rejected}")
    }

    /// What became of what was stored, in a column of the ledger.
    pub(crate) fn stored(&self, column: &str) -> String {
        let number = |key| self.number(column, key);
        let (stored, delivered, pending) = (number("stored"), number("delivered"), number("pending"));
        let dropped = self.sum(column, "dropped");
        format!("stored {stored} = delivered {delivered} + pending {pending} + dropped {dropped}")
    }

    /// Each configured sink with what it does, e.g. `rows idle, objects waiting`.
    pub(crate) fn sinks(&self) -> String {
        let sinks = self.status["sinks"].as_array().into_iter().flatten();
        let told = sinks.filter(|sink| sink["configured"] == true).map(|sink| {
            let text = |key: &str| sink[key].as_str().unwrap_or("?");
            let away = if sink["error"].is_string() { " (away)" } else { "" };
            format!("{} {}{away}", text("sink"), text("state"))
        });
        told.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn books(delivered: u64) -> Books {
        let column = json!({
            "received": 10, "stored": 7, "duplicate": 1, "rejected": {"not_json": 1, "zero": 1},
            "delivered": delivered, "pending": 2, "dropped": {"quota": 1},
        });
        let ledger = json!({ "events": column, "files": column, "bytes": column });
        let sink = |name: &str, configured: bool, error: Value| json!({ "sink": name, "configured": configured, "state": "waiting", "error": error });
        let sinks = [sink("rows", true, json!("refused")), sink("objects", false, Value::Null)];
        Books { ledger, status: json!({ "sinks": sinks }) }
    }

    #[test]
    fn ledger_is_calculated_and_not_believed() {
        assert!(books(4).add_up());
        assert!(!books(5).add_up());
        assert_eq!(books(4).pending(), 4);
    }

    #[test]
    fn ledger_and_sinks_are_told_as_sentences() {
        assert_eq!(books(4).received("events"), "received 10 = stored 7 + duplicate 1 + rejected 2");
        assert_eq!(books(4).stored("files"), "stored 7 = delivered 4 + pending 2 + dropped 1");
        assert_eq!(books(4).sinks(), "rows waiting (away)");
    }
}
