//! `gatehouse central archive|retention`: events as Parquet in the bucket, and months that are there alone.

use chrono::NaiveDate;
use gatehouse_sync::central::archive::{self, Archived, Checked, Fault as Wrong};
use gatehouse_sync::central::retention::{self, AuditRetained, Month, Retained};

use super::settings;
use crate::cli::shell::Shell;
use crate::cli::table::{Table, printable};
use crate::cli::words;
use crate::control::types::Fault;
use crate::exit;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Archive {
    /// The last day (UTC), e.g. 2026-11-20; yesterday where nothing is said.
    #[arg(long, value_name = "DATE")]
    until: Option<NaiveDate>,
    /// Archive nothing; read all files back and say what is missing, too many or not what it should be.
    #[arg(long, conflicts_with = "until")]
    check: bool,
    #[command(flatten)]
    args: super::Args,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Retention {
    /// How many whole months of events stay, beside the present one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1200))]
    #[arg(required_unless_present = "audit_months")]
    keep_months: Option<u32>,
    /// Instead: how many whole months of the audit log stay, beside the present one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1200))]
    #[arg(conflicts_with = "keep_months")]
    audit_months: Option<u32>,
    /// Drop what is older; without it this is only told.
    #[arg(long)]
    drop: bool,
    #[command(flatten)]
    args: super::Args,
}

pub(super) async fn archive(args: &Archive, shell: &mut Shell) -> Result<(), Fault> {
    let config = settings(&args.args.config)?;
    if args.check {
        let checked = archive::check(&config).await.map_err(Fault::refused)?;
        shell.show(&checked, checked_told)?;
        return told(checked.wrong == 0);
    }
    let archived = archive::archive(&config, args.until).await.map_err(Fault::refused)?;
    shell.show(&archived, archived_told)?;
    told(archived.devices.iter().all(|device| device.fault.is_none()))
}

pub(super) async fn retention(args: &Retention, shell: &mut Shell) -> Result<(), Fault> {
    let config = settings(&args.args.config)?;
    if let Some(months) = args.audit_months {
        let retained = retention::audit(&config, months, args.drop).await.map_err(Fault::refused)?;
        return shell.show(&retained, audit_told);
    }
    let months = args.keep_months.unwrap_or(u32::MAX);
    let retained = retention::retention(&config, months, args.drop).await.map_err(Fault::refused)?;
    shell.show(&retained, retained_told)?;
    told(retained.months.iter().all(|month| month.stays.is_none()))
}

/// All has been said on standard output.
fn told(well: bool) -> Result<(), Fault> {
    if well { Ok(()) } else { Err(Fault::with_code(exit::REFUSED, "")) }
}

fn archived_told(archived: &Archived) -> String {
    let mut table = Table::new(["APPLIANCE", "FILES", "EVENTS", "SIZE", "ARCHIVED", "DELIVERED"]);
    for device in &archived.devices {
        let [files, events, archived, delivered] =
            [device.files, device.events, device.archived, device.delivered].map(|number| number.to_string());
        table.row([device.device_id.clone(), files, events, words::bytes(device.bytes), archived, delivered]);
    }
    let mut text = table.text("no appliance has delivered anything\n");
    for device in &archived.devices {
        let name = printable(&device.device_id);
        if let Some(fault) = &device.fault {
            text.push_str(&format!("WRONG  {name}: {}\n", printable(fault)));
        } else if let Some(day) = &device.waits_for {
            text.push_str(&format!("{name}: more may come of {day}, which waits for it\n"));
        }
    }
    text.push_str(&format!("archived up to {}\n", archived.until));
    text
}

fn checked_told(checked: &Checked) -> String {
    let line = |fault: &Wrong| format!("WRONG  {}: {}\n", printable(&fault.key), printable(&fault.words));
    let mut text: String = checked.faults.iter().map(line).collect();
    let more = checked.wrong - checked.faults.len() as u64;
    if more > 0 {
        text.push_str(&format!("and {more} more\n"));
    }
    let (files, bytes) = (words::count(checked.files, "file", "files"), words::bytes(checked.bytes));
    let events = words::count(checked.events, "event", "events");
    let end = match checked.wrong {
        0 => "no hole, no double".to_owned(),
        wrong => format!("{wrong} wrong"),
    };
    text.push_str(&format!("{files} read back ({bytes}), {events}: {end}\n"));
    text
}

fn audit_told(retained: &AuditRetained) -> String {
    let lines = words::count(retained.lines, "line", "lines");
    match retained.dropped {
        true => format!("{lines} of the audit log before {} dropped\n", retained.before),
        false => format!(
            "{lines} of the audit log before {} may go; nothing was changed, --drop drops them\n",
            retained.before
        ),
    }
}

fn retained_told(retained: &Retained) -> String {
    let line = |month: &Month| {
        let what = match (&month.stays, month.dropped) {
            (Some(words), _) => format!("STAYS    {words}"),
            (None, true) => "dropped".to_owned(),
            (None, false) => "may go".to_owned(),
        };
        let (events, files) =
            (words::count(month.events, "event", "events"), words::count(month.files, "file", "files"));
        format!("{}  {events} in {files}  {}\n", month.month, printable(&what))
    };
    let mut text: String = retained.months.iter().map(line).collect();
    if retained.months.is_empty() {
        text.push_str("no month is that old\n");
    } else if !retained.ordered {
        text.push_str("nothing was changed; --drop drops what may go\n");
    }
    text
}
