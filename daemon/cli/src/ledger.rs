//! `gatehouse ledger`

use std::collections::{BTreeMap, BTreeSet};

use super::session::Session;
use super::table::Table;
use gatehouse_control::answers::{LedgerAnswer, Sums};
use gatehouse_control::types::{Fault, Request};

pub(super) fn run(session: &mut Session) -> Result<(), Fault> {
    session.ask_and_show(&Request::Ledger, text)
}

fn text(ledger: &LedgerAnswer) -> String {
    let columns = [&ledger.events, &ledger.files, &ledger.bytes];
    let mut table = Table::new(["", "EVENTS", "FILES", "BYTES"]);
    let mut row = |what: &str, number: &dyn Fn(&Sums) -> u64| {
        let [events, files, bytes] = columns.map(|sums| number(sums).to_string());
        table.row([what.to_owned(), events, files, bytes]);
    };
    let sum = |reasons: &BTreeMap<String, u64>| reasons.values().sum::<u64>();
    row("received", &|sums| sums.received);
    row("  stored", &|sums| sums.column.stored);
    row("  duplicate", &|sums| sums.column.duplicate);
    row("  rejected", &|sums| sum(&sums.column.rejected));
    for reason in reasons(columns.map(|sums| &sums.column.rejected)) {
        row(&format!("    {reason}"), &|sums| sums.column.rejected.get(reason).copied().unwrap_or(0));
    }
    row("stored", &|sums| sums.column.stored);
    row("  delivered", &|sums| sums.column.delivered);
    row("  pending", &|sums| sums.pending);
    row("  dropped", &|sums| sum(&sums.column.dropped));
    for reason in reasons(columns.map(|sums| &sums.column.dropped)) {
        row(&format!("    {reason}"), &|sums| sums.column.dropped.get(reason).copied().unwrap_or(0));
    }
    let result = match ledger.holds {
        true => "the ledger adds up: every message is accounted for",
        false => "THE LEDGER DOES NOT ADD UP: keep the state directory and report this fault",
    };
    format!("{}\n{result}\n", table.text(""))
}

fn reasons(columns: [&BTreeMap<String, u64>; 3]) -> BTreeSet<&str> {
    columns.into_iter().flat_map(|reasons| reasons.keys().map(String::as_str)).collect()
}
