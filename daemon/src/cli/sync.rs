//! `gatehouse sync status|now|pause|resume|conflicts`

use std::time::Duration;

use gatehouse_store::record::Sink;
use gatehouse_sync::{Conflict, PAUSE_MAX, SinkState};

use super::shell::Shell;
use super::table::{Table, printable};
use super::words;
use crate::control::answers::SinkLine;
use crate::control::types::{Fault, Request};

/// Shortest pause.
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// How delivery to each central side goes.
    Status,
    /// Try every central side now instead of at the next retry.
    Now,
    /// Let nothing leave, while cameras are answered and everything is kept; until then, `resume`, or a restart.
    Pause {
        /// How long: 30m, 2h, 7d at most.
        #[arg(long = "for", value_name = "TIME", default_value = "24h", value_parser = pause)]
        time: u64,
    },
    /// Let delivery go on.
    Resume,
    /// Changes of one person that two appliances made without knowing of each other, and which holds.
    Conflicts,
}

pub(super) fn run(command: &Command, shell: &mut Shell) -> Result<(), Fault> {
    match command {
        Command::Status => shell.ask_and_show(&Request::SyncStatus, |sinks: &Vec<SinkLine>| human(sinks)),
        Command::Now => shell.ask_and_show(&Request::SyncNow, |sinks: &Vec<SinkLine>| {
            let any = |state| sinks.iter().any(|sink| sink.state == state);
            let told = match (any(SinkState::Paused), any(SinkState::Scheduled)) {
                (true, _) => "delivery is paused and nobody is asked; `gatehouse sync resume` ends it",
                (_, true) => "all but objects are asked now; pictures and clips wait for sync.media_hours",
                _ => "every configured central side is asked now",
            };
            format!("{told}\n{}", human(sinks))
        }),
        Command::Pause { time } => {
            shell.ask_and_show(&Request::SyncPause { seconds: *time }, |sinks: &Vec<SinkLine>| {
                format!(
                    "nothing leaves for {}; `gatehouse sync resume` ends it\n{}",
                    words::duration(*time),
                    human(sinks)
                )
            })
        }
        Command::Resume => shell.ask_and_show(&Request::SyncResume, |sinks: &Vec<SinkLine>| {
            format!("delivery goes on\n{}", human(sinks))
        }),
        Command::Conflicts => {
            shell.ask_and_show(&Request::SyncConflicts, |told: &Vec<Conflict>| conflicts(told))
        }
    }
}

fn pause(text: &str) -> Result<u64, String> {
    let time = gatehouse_config::parse_duration(text).filter(|time| (MINUTE..=PAUSE_MAX).contains(time));
    time.map(|time| time.as_secs()).ok_or_else(|| "1m to 7d are taken, as in 30m or 2h".to_owned())
}

fn conflicts(told: &[Conflict]) -> String {
    let mut table = Table::new(["SEEN", "PERSON", "WHAT", "HOLDS", "MADE", "DOES NOT", "MADE"]);
    for conflict in told {
        table.row([
            words::time(&conflict.at),
            conflict.person.clone().unwrap_or_else(|| "-".to_owned()),
            conflict.field.clone(),
            conflict.kept_by.clone(),
            words::time(&conflict.kept_at),
            conflict.lost_by.clone(),
            words::time(&conflict.lost_at),
        ]);
    }
    table.text("no conflicts\n")
}

fn human(sinks: &[SinkLine]) -> String {
    let mut table =
        Table::new(["SINK", "STATE", "PENDING", "OLDEST", "DELIVERED", "PEOPLE", "SET ASIDE", "NEXT TRY"]);
    for sink in sinks {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row([
            name(sink.sink).to_owned(),
            state(sink).to_owned(),
            sink.pending.to_string(),
            or_dash(sink.oldest_pending.as_deref().map(words::ago)),
            sink.delivered.to_string(),
            sink.taken.to_string(),
            sink.set_aside.to_string(),
            or_dash(sink.next_retry.as_deref().map(words::time)),
        ]);
    }
    let mut text = table.text("");
    for sink in sinks {
        let lines = [("", &sink.error), ("set aside: ", &sink.last_set_aside)];
        for (what, words) in lines.into_iter().filter_map(|(what, words)| Some((what, words.as_ref()?))) {
            text.push_str(&format!("\n{}: {what}{}", name(sink.sink), printable(words)));
        }
    }
    text
}

/// What a sink is called.
pub(super) fn name(sink: Sink) -> &'static str {
    match sink {
        Sink::Rows => "database",
        Sink::Objects => "objects",
    }
}

/// A sink in one line.
pub(super) fn summary(sink: &SinkLine) -> String {
    let state = state(sink);
    match &sink.error {
        Some(error) => format!("{state}, {} pending: {error}", sink.pending),
        None if sink.configured => format!("{state}, {} pending", sink.pending),
        None => state.to_owned(),
    }
}

fn state(sink: &SinkLine) -> &'static str {
    match sink.state {
        _ if !sink.configured => "not configured",
        SinkState::Idle => "idle",
        SinkState::Working => "working",
        SinkState::Waiting => "waiting to retry",
        SinkState::Paused => "paused",
        SinkState::Scheduled => "outside its hours",
        SinkState::Stopped => "stopped",
    }
}
