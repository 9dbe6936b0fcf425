//! `gatehouse sync status|now|pause|resume|conflicts`

use std::thread::sleep;
use std::time::{Duration, Instant};

use gatehouse_model::SinkState;
use gatehouse_store::record::Sink;
use gatehouse_sync::{Conflict, PAUSE_MAX};

use super::format;
use super::session::Session;
use super::table::{Table, printable};
use gatehouse_control::answers::SinkLine;
use gatehouse_control::types::{Fault, Request};

/// Shortest pause; shorter ones would end before an operator sees their effect.
const PAUSE_MIN: Duration = Duration::from_secs(60);

/// Maximum wait for the sinks to take a command; a sink with an upload in progress takes longer.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval between two requests for their state.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show the state of delivery to database and objects.
    Status,
    /// Retry delivery now instead of at the next scheduled retry.
    Now,
    /// Pause delivery; cameras are still answered and all events stored.
    ///
    /// The pause ends after the given time, with `gatehouse sync resume`, or with a restart of the daemon.
    Pause {
        /// Length of the pause, from 1m to 7d.
        #[arg(long = "for", value_name = "TIME", default_value = "24h", value_parser = pause)]
        time: u64,
    },
    /// Resume delivery.
    Resume,
    /// List conflicting changes of people by two appliances, and which one is kept.
    Conflicts,
}

pub(super) fn run(command: &Command, session: &mut Session) -> Result<(), Fault> {
    match command {
        Command::Status => session.ask_and_show(&Request::SyncStatus, |sinks: &Vec<SinkLine>| text(sinks)),
        Command::Now => {
            let sinks = ask_and_settle(session, &Request::SyncNow, |sink| sink.state != SinkState::Waiting)?;
            session.show(&sinks, |sinks| format!("{}\n{}", started(sinks), text(sinks)))
        }
        Command::Pause { time } => {
            let is_paused = |sink: &SinkLine| sink.state == SinkState::Paused;
            let sinks = ask_and_settle(session, &Request::SyncPause { seconds: *time }, is_paused)?;
            session.show(&sinks, |sinks| {
                let time = format::duration(*time);
                format!(
                    "delivery is paused for {time}; `gatehouse sync resume` ends the pause\n{}",
                    text(sinks)
                )
            })
        }
        Command::Resume => {
            let sinks =
                ask_and_settle(session, &Request::SyncResume, |sink| sink.state != SinkState::Paused)?;
            session.show(&sinks, |sinks| format!("delivery resumes\n{}", text(sinks)))
        }
        Command::Conflicts => {
            session.ask_and_show(&Request::SyncConflicts, |list: &Vec<Conflict>| conflicts(list))
        }
    }
}

/// Sends a command, and returns the sinks after they have taken it. Their answer may still show the state before it.
fn ask_and_settle(
    session: &Session,
    request: &Request,
    is_settled: impl Fn(&SinkLine) -> bool,
) -> Result<Vec<SinkLine>, Fault> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    let mut sinks: Vec<SinkLine> = session.ask(request)?;
    while sinks.iter().any(|sink| sink.configured && !is_settled(sink)) && Instant::now() < deadline {
        sleep(POLL_INTERVAL);
        sinks = session.ask(&Request::SyncStatus)?;
    }
    Ok(sinks)
}

fn started(sinks: &[SinkLine]) -> &'static str {
    let any = |state| sinks.iter().any(|sink| sink.state == state);
    match (any(SinkState::Paused), any(SinkState::Scheduled)) {
        (true, _) => "delivery is paused; `gatehouse sync resume` ends the pause",
        (_, true) => "delivery to the database starts now; pictures and clips wait for sync.media_hours",
        _ => "delivery starts now",
    }
}

fn pause(text: &str) -> Result<u64, String> {
    let time = gatehouse_config::parse_duration(text).filter(|time| (PAUSE_MIN..=PAUSE_MAX).contains(time));
    time.map(|time| time.as_secs()).ok_or_else(|| "expected 1m to 7d, such as 30m or 2h".to_owned())
}

fn conflicts(list: &[Conflict]) -> String {
    let mut table = Table::new(["FOUND", "PERSON", "FIELD", "KEPT FROM", "CHANGED", "LOST FROM", "CHANGED"]);
    for conflict in list {
        table.row([
            format::time(&conflict.at),
            conflict.person.clone().unwrap_or_else(|| "-".to_owned()),
            conflict.field.clone(),
            conflict.kept_by.clone(),
            format::time(&conflict.kept_at),
            conflict.lost_by.clone(),
            format::time(&conflict.lost_at),
        ]);
    }
    table.text("no conflicts\n")
}

fn text(sinks: &[SinkLine]) -> String {
    let mut table =
        Table::new(["SINK", "STATE", "PENDING", "OLDEST", "DELIVERED", "PEOPLE", "SET ASIDE", "NEXT TRY"]);
    for sink in sinks {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row([
            name(sink.sink).to_owned(),
            state(sink).to_owned(),
            sink.pending.to_string(),
            or_dash(sink.oldest_pending.as_deref().map(format::ago)),
            sink.delivered.to_string(),
            sink.taken.to_string(),
            sink.set_aside.to_string(),
            or_dash(sink.next_retry.as_deref().map(format::time)),
        ]);
    }
    let mut text = table.text("");
    text.push_str("DELIVERED, PEOPLE and SET ASIDE count since the start of the daemon.\n");
    for sink in sinks {
        let lines = [("", &sink.error), ("set aside: ", &sink.last_set_aside)];
        for (what, message) in lines.into_iter().filter_map(|(what, message)| Some((what, message.as_ref()?)))
        {
            text.push_str(&format!("\n{}: {what}{}", name(sink.sink), printable(message)));
        }
    }
    text
}

/// Name of a sink.
pub(super) fn name(sink: Sink) -> &'static str {
    match sink {
        Sink::Rows => "database",
        Sink::Objects => "objects",
    }
}

/// State of a sink in one line.
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
