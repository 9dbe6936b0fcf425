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

    /// The ledger of a column as a sentence.
    pub(crate) fn sentence(&self, column: &str) -> String {
        let number = |key| self.number(column, key);
        format!(
            "{column}: received {} = stored {} + duplicate {} + rejected {}; stored = delivered {} + pending {} + dropped {}",
            number("received"),
            number("stored"),
            number("duplicate"),
            self.sum(column, "rejected"),
            number("delivered"),
            number("pending"),
            self.sum(column, "dropped"),
        )
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
