//! `gatehouse central archive|retention`: events as Parquet in the bucket, and removal of archived months.

use chrono::NaiveDate;
use gatehouse_admin::archive::{self, Archived, Checked, Fault as Wrong};
use gatehouse_admin::retention::{self, AuditRetained, Month, Retained};

use super::settings;
use crate::format;
use crate::session::Session;
use crate::table::{Table, printable};
use gatehouse_control::exit;
use gatehouse_control::types::Fault;

#[derive(Debug, clap::Args)]
pub(crate) struct Archive {
    /// Last day to archive (UTC), such as 2026-11-20 [default: yesterday].
    #[arg(long, value_name = "DATE")]
    until: Option<NaiveDate>,
    /// Archive nothing; read all files back, and report missing, duplicate and damaged ones.
    #[arg(long, conflicts_with = "until")]
    check: bool,
    #[command(flatten)]
    args: super::Args,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Retention {
    /// Number of whole months of events to keep, in addition to the current one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1200))]
    #[arg(required_unless_present = "audit_months")]
    keep_months: Option<u32>,
    /// Number of whole months of the audit log to keep, in addition to the current one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1200))]
    #[arg(conflicts_with = "keep_months")]
    audit_months: Option<u32>,
    /// Drop older data; without this option it is only listed.
    #[arg(long)]
    drop: bool,
    #[command(flatten)]
    args: super::Args,
}

pub(super) async fn archive(args: &Archive, session: &mut Session) -> Result<(), Fault> {
    let config = settings(&args.args.config)?;
    if args.check {
        let checked = archive::check(&config).await.map_err(Fault::refused)?;
        session.show(&checked, checked_text)?;
        return succeed_if(checked.wrong == 0);
    }
    let archived = archive::archive(&config, args.until).await.map_err(Fault::refused)?;
    session.show(&archived, archived_text)?;
    succeed_if(archived.devices.iter().all(|device| device.fault.is_none()))
}

pub(super) async fn retention(args: &Retention, session: &mut Session) -> Result<(), Fault> {
    let config = settings(&args.args.config)?;
    if let Some(months) = args.audit_months {
        let retained = retention::audit(&config, months, args.drop).await.map_err(Fault::refused)?;
        return session.show(&retained, audit_text);
    }
    let months = args.keep_months.unwrap_or(u32::MAX);
    let retained = retention::retention(&config, months, args.drop).await.map_err(Fault::refused)?;
    session.show(&retained, retained_text)?;
    succeed_if(retained.months.iter().all(|month| month.stays.is_none()))
}

/// The exit code. The result is already on standard output.
fn succeed_if(condition: bool) -> Result<(), Fault> {
    if condition { Ok(()) } else { Err(Fault::with_code(exit::REFUSED, "")) }
}

fn archived_text(archived: &Archived) -> String {
    let mut table = Table::new(["APPLIANCE", "FILES", "EVENTS", "SIZE", "ARCHIVED", "DELIVERED"]);
    for device in &archived.devices {
        let [files, events, archived, delivered] =
            [device.files, device.events, device.archived, device.delivered].map(|number| number.to_string());
        table.row([
            device.device_id.clone(),
            files,
            events,
            format::bytes(device.bytes),
            archived,
            delivered,
        ]);
    }
    let mut text = table.text("no appliance has delivered events\n");
    for device in &archived.devices {
        let name = printable(&device.device_id);
        if let Some(fault) = &device.fault {
            text.push_str(&format!("WRONG  {name}: {}\n", printable(fault)));
        } else if let Some(day) = &device.waits_for {
            text.push_str(&format!(
                "{name}: {day} is archived later, because more events of that day may arrive\n"
            ));
        }
    }
    text.push_str(&format!(
        "archived up to {}; later days are archived when they are over\n",
        archived.until
    ));
    text
}

fn checked_text(checked: &Checked) -> String {
    let line = |fault: &Wrong| format!("WRONG  {}: {}\n", printable(&fault.key), printable(&fault.message));
    let mut text: String = checked.faults.iter().map(line).collect();
    let more = checked.wrong - checked.faults.len() as u64;
    if more > 0 {
        text.push_str(&format!("and {more} more\n"));
    }
    let files = format::count(checked.files, "file", "files");
    let bytes = format::bytes(checked.bytes);
    let events = format::count(checked.events, "event", "events");
    let result = match checked.wrong {
        0 => "complete, without duplicates".to_owned(),
        wrong => format!("{wrong} wrong"),
    };
    text.push_str(&format!("{files} read back ({bytes}), {events}: {result}\n"));
    text
}

fn audit_text(retained: &AuditRetained) -> String {
    let lines = format::count(retained.lines, "line", "lines");
    match retained.dropped {
        true => format!("{lines} of the audit log before {} dropped\n", retained.before),
        false => format!(
            "{lines} of the audit log before {} can be dropped; nothing was changed, --drop drops them\n",
            retained.before
        ),
    }
}

fn retained_text(retained: &Retained) -> String {
    let line = |month: &Month| {
        let what = match (&month.stays, month.dropped) {
            (Some(message), _) => format!("KEPT     {message}"),
            (None, true) => "dropped".to_owned(),
            (None, false) => "can be dropped".to_owned(),
        };
        let events = format::count(month.events, "event", "events");
        let files = format::count(month.files, "file", "files");
        format!("{}  {events} in {files}  {}\n", month.month, printable(&what))
    };
    let mut text: String = retained.months.iter().map(line).collect();
    if retained.months.is_empty() {
        text.push_str("no months are older\n");
    } else if !retained.ordered {
        text.push_str("nothing was changed; --drop drops these months\n");
    }
    text
}
