//! `gatehouse central report`

use std::path::PathBuf;

use gatehouse_admin::{self as central, Person, Report};

use super::settings;
use crate::format;
use crate::session::Session;
use crate::table::Table;
use gatehouse_config::DEFAULT_CONFIG;
use gatehouse_control::types::Fault;

/// Maximum number of unknown visitors in the text; `--json` lists all.
const UNKNOWN_SHOWN_MAX: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of days of visits (UTC), including today.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=400))]
    days: u16,
    /// Report all data about this person, for an access request; recorded in the audit log.
    #[arg(long, value_name = "ID", conflicts_with = "days")]
    person: Option<String>,
    /// Settings file with the [central] sections.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

pub(super) async fn run(args: &Args, session: &mut Session) -> Result<(), Fault> {
    let config = settings(&args.config)?;
    match &args.person {
        Some(id) => {
            let person = central::person(&config, id).await.map_err(Fault::refused)?;
            session.show(&person, person_text)
        }
        None => {
            let report = central::report(&config, args.days).await.map_err(Fault::refused)?;
            session.show(&report, report_text)
        }
    }
}

fn report_text(report: &Report) -> String {
    let mut fleet = Table::new([
        "APPLIANCE",
        "SITE",
        "VERSION",
        "LAST SEEN",
        "DELIVERED",
        "EVENTS PENDING",
        "FILES PENDING",
        "OLDEST",
        "LOST",
    ]);
    for one in &report.fleet {
        fleet.row([
            one.device_id.clone(),
            one.site.clone(),
            one.version.clone(),
            one.last_seen.as_deref().map_or_else(|| "never".to_owned(), format::ago),
            one.delivered.to_string(),
            pending(one.pending_events),
            pending(one.pending_files),
            one.oldest_pending.as_deref().map_or_else(|| "-".to_owned(), format::ago),
            one.lost.to_string(),
        ]);
    }
    let mut days = Table::new(["DAY", "APPLIANCE", "CAMERA", "VISITS", "RECOGNIZED", "UNKNOWN"]);
    for day in &report.days {
        let numbers = [day.visits, day.recognised, day.unknown].map(|number| number.to_string());
        let [visits, recognised, unknown] = numbers;
        days.row([day.day.clone(), day.device_id.clone(), day.camera.clone(), visits, recognised, unknown]);
    }
    let mut unknown = Table::new(["UNKNOWN VISITOR", "APPLIANCE", "CAMERA", "EVENT", "FILES"]);
    for one in report.unknown.iter().take(UNKNOWN_SHOWN_MAX) {
        unknown.row([
            format::time(&one.received_at),
            one.device_id.clone(),
            one.camera.clone(),
            one.event_id.clone(),
            one.files.len().to_string(),
        ]);
    }
    let tables = [
        fleet.text("no appliance has delivered yet\n"),
        days.text("no visits in this period\n"),
        unknown.text("no unknown visitors in this period\n"),
    ];
    let mut text = tables.join("\n");
    let more = report.unknown.len().saturating_sub(UNKNOWN_SHOWN_MAX);
    if more > 0 {
        text.push_str(&format!("and {more} more; --json lists all\n"));
    }
    text
}

/// A number as last reported by the appliance.
fn pending(number: Option<impl ToString>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn person_text(person: &Person) -> String {
    let mut visits = Table::new(["VISIT", "APPLIANCE", "CAMERA", "EVENT", "FILES"]);
    for visit in &person.visits {
        visits.row([
            format::time(&visit.received_at),
            visit.device_id.clone(),
            visit.camera.clone(),
            visit.event_id.clone(),
            visit.files.join(" "),
        ]);
    }
    let mut text = visits.text("no visits\n");
    for (table, rows) in person.records.as_object().into_iter().flatten() {
        let count = rows.as_array().map_or(0, Vec::len);
        text.push_str(&format!("\n{table}: {}", format::count(count as u64, "row", "rows")));
    }
    text.push_str("\n\n--json prints all data; this request is recorded in the audit log\n");
    text
}
