//! `gatehouse store verify`, `compact`, `retain`

use gatehouse_store::store::{Compacting, Retained, Verified, VerifyAt};

use super::format;
use super::session::Session;
use gatehouse_control::exit;
use gatehouse_control::types::{Fault, Request};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Verify all data on disk.
    ///
    /// Reads every byte while the daemon works, and takes as long as the disk needs. The exit code is 1 if data is damaged.
    Verify,
    /// Free the disk space of removed entries in the views.
    ///
    /// The next start rebuilds the views from the journal, which takes longer with more events. No data is lost, and the
    /// daemon works normally until then.
    Compact,
    /// Apply the retention policy now, as happens every night.
    ///
    /// Events are removed in journal segments of about 16 MB, so that some are kept longer than `[retention]` requires.
    Retain,
}

pub(super) fn run(command: &Command, session: &mut Session) -> Result<(), Fault> {
    match command {
        Command::Verify => verify(session),
        Command::Compact => compact(session),
        Command::Retain => retain(session),
    }
}

fn compact(session: &mut Session) -> Result<(), Fault> {
    let compacting: Compacting = session.ask(&Request::StoreCompact)?;
    session.show(&compacting, |compacting| {
        format!(
            "the views use {} now; the next start of the daemon rebuilds them, for example: systemctl restart gatehoused\n",
            format::bytes(compacting.bytes)
        )
    })
}

fn retain(session: &mut Session) -> Result<(), Fault> {
    let retained: Retained = session.ask(&Request::StoreRetain)?;
    session.show(&retained, |retained| {
        format!(
            "removed: {}, {}; dropped before delivery: {}, {}; erased: {}\n",
            format::count(retained.segments as u64, "journal segment", "journal segments"),
            format::count(retained.files_evicted, "media file", "media files"),
            format::count(retained.events_dropped, "event", "events"),
            format::count(retained.files_dropped, "media file", "media files"),
            format::count(retained.people_erased as u64, "person", "people"),
        )
    })
}

fn verify(session: &mut Session) -> Result<(), Fault> {
    let mut all = Verified::default();
    let mut at = Some(VerifyAt::default());
    while let Some(next) = at {
        let step: Verified = session.ask(&Request::StoreVerify { at: next })?;
        all.keys += step.keys;
        all.records += step.records;
        all.entries += step.entries;
        all.files += step.files;
        all.records_lost += step.records_lost;
        all.files_lost += step.files_lost;
        all.damaged.extend(step.damaged);
        at = step.next;
    }
    session.show(&all, text)?;
    match all.damaged.is_empty() {
        true => Ok(()),
        // The result is already on standard output.
        false => Err(Fault::with_code(exit::REFUSED, "")),
    }
}

fn text(all: &Verified) -> String {
    let mut text = format!(
        "read {}, {}, {} and {}\n",
        format::count(all.keys, "key", "keys"),
        format::count(all.records, "journal record", "journal records"),
        format::count(all.entries, "entry of the views", "entries of the views"),
        format::count(all.files, "media file", "media files"),
    );
    for damaged in &all.damaged {
        text.push_str(&format!("  {damaged}\n"));
    }
    let lost = match (all.records_lost, all.files_lost) {
        (0, 0) => "no data is lost".to_owned(),
        (records, files) => format!(
            "lost: {}, {}; the ledger counts them as dropped (damage) once they are needed",
            format::count(records, "journal record", "journal records"),
            format::count(files, "media file", "media files"),
        ),
    };
    match all.damaged.len() {
        0 => text.push_str("no damage found\n"),
        count => text.push_str(&format!(
            "{}; {lost}; check dmesg, the disk may be failing\n",
            format::count(count as u64, "item is damaged", "items are damaged")
        )),
    }
    text
}
