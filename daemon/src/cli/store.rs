//! `gatehouse store verify`, `compact`, `retain`

use gatehouse_store::store::{Compacting, Retained, Verified, VerifyAt};

use super::shell::Shell;
use super::words;
use crate::control::types::{Fault, Request};
use crate::exit;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Read every byte and say what is damaged and what is lost by it.
    ///
    /// Runs beside the daemon's work and takes as long as the disk needs. Exit code 1 where something is damaged.
    Verify,
    /// Give back the disk that removed entries of the views still take.
    ///
    /// The views are what is looked up; the journal makes them anew at the next start, which takes the longer the more events
    /// there are. Nothing is lost by it, and until then all goes on.
    Compact,
    /// Let go now what has been kept for the days of `[retention]`, as is done every night.
    ///
    /// Events go in pieces of about 16 MB, several at a time, so that some stay longer than the days.
    Retain,
}

pub(super) fn run(command: &Command, shell: &mut Shell) -> Result<(), Fault> {
    match command {
        Command::Verify => verify(shell),
        Command::Compact => compact(shell),
        Command::Retain => retain(shell),
    }
}

fn compact(shell: &mut Shell) -> Result<(), Fault> {
    let compacting: Compacting = shell.ask(&Request::StoreCompact)?;
    shell.show(&compacting, |compacting| {
        format!(
            "the views take {} now; the next start makes them anew: systemctl restart gatehoused\n",
            words::bytes(compacting.bytes)
        )
    })
}

fn retain(shell: &mut Shell) -> Result<(), Fault> {
    let retained: Retained = shell.ask(&Request::StoreRetain)?;
    shell.show(&retained, |retained| {
        format!(
            "let go: {} of the journal, {}; given up undelivered: {}, {}; erased: {}\n",
            words::count(retained.segments as u64, "piece", "pieces"),
            words::count(retained.files_evicted, "media file", "media files"),
            words::count(retained.events_dropped, "event", "events"),
            words::count(retained.files_dropped, "media file", "media files"),
            words::count(retained.people_erased as u64, "person", "people"),
        )
    })
}

fn verify(shell: &mut Shell) -> Result<(), Fault> {
    let mut all = Verified::default();
    let mut at = Some(VerifyAt::default());
    while let Some(next) = at {
        let step: Verified = shell.ask(&Request::StoreVerify { at: next })?;
        all.keys += step.keys;
        all.records += step.records;
        all.entries += step.entries;
        all.files += step.files;
        all.records_lost += step.records_lost;
        all.files_lost += step.files_lost;
        all.damaged.extend(step.damaged);
        at = step.next;
    }
    shell.show(&all, human)?;
    match all.damaged.is_empty() {
        true => Ok(()),
        // Everything was said already.
        false => Err(Fault::with_code(exit::REFUSED, "")),
    }
}

fn human(all: &Verified) -> String {
    let mut text = format!(
        "read {}, {}, {} and {}\n",
        words::count(all.keys, "key", "keys"),
        words::count(all.records, "journal record", "journal records"),
        words::count(all.entries, "entry of the views", "entries of the views"),
        words::count(all.files, "media file", "media files"),
    );
    for damaged in &all.damaged {
        text.push_str(&format!("  {damaged}\n"));
    }
    let lost = match (all.records_lost, all.files_lost) {
        (0, 0) => "nothing is lost".to_owned(),
        (records, files) => format!(
            "lost: {}, {}; the ledger counts them as dropped{{damage}} when they are missed",
            words::count(records, "journal record", "journal records"),
            words::count(files, "media file", "media files"),
        ),
    };
    match all.damaged.len() {
        0 => text.push_str("all of it is what was written\n"),
        count => text.push_str(&format!(
            "{}; {lost}; look at dmesg, the disk may be failing\n",
            words::count(count as u64, "place is damaged", "places are damaged")
        )),
    }
    text
}
