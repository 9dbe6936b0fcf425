//! `gatehouse central request open|list|close`

use chrono::NaiveDate;
use clap::ValueEnum;
use gatehouse_admin::requests::{self, SubjectRequest};
use tokio::runtime::Runtime;

use super::{Args, settings};
use crate::session::Session;
use crate::table::Table;
use gatehouse_control::types::Fault;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Record a request of a data subject; its answer is due one month after it was received.
    Open {
        /// What the person asks for.
        #[arg(long, value_enum)]
        kind: Kind,
        /// Your reference, such as the number of the letter. Never a name: the register outlives an erasure.
        #[arg(long, value_name = "REF")]
        reference: String,
        /// Day on which the request was received [default: today, UTC].
        #[arg(long, value_name = "DAY")]
        received: Option<NaiveDate>,
        #[command(flatten)]
        args: Args,
    },
    /// List the open requests, the next due first.
    #[command(alias = "ls")]
    List {
        /// Also list closed requests.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        args: Args,
    },
    /// Close a request.
    Close {
        /// Number of the request.
        #[arg(value_name = "NUMBER")]
        id: i64,
        /// How it ended.
        #[arg(long, value_enum, default_value_t = Outcome::Done)]
        outcome: Outcome,
        #[command(flatten)]
        args: Args,
    },
}

/// The right that is exercised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Access to the data (GDPR, article 15); see person export.
    Access,
    /// Correction (article 16).
    Rectification,
    /// Erasure (article 17); see person erase.
    Erasure,
    /// Restriction (article 18); see person suspend.
    Restriction,
    /// Portability (article 20); see person export.
    Portability,
    /// Objection (article 21).
    Objection,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Outcome {
    /// It was carried out.
    Done,
    /// It was refused, with reasons.
    Refused,
    /// The person withdrew it.
    Withdrawn,
}

fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

pub(super) fn run(command: Command, runtime: &Runtime, session: &mut Session) -> Result<(), Fault> {
    match command {
        Command::Open { kind, reference, received, args } => {
            let config = settings(&args.config)?;
            let kind = word(&kind);
            let opened = requests::open(&config, &kind, &reference, received);
            let opened = runtime.block_on(opened).map_err(Fault::refused)?;
            session.show(&opened, |request| {
                format!("request {} is open; the answer is due on {}", request.id, request.due_on)
            })
        }
        Command::List { all, args } => {
            let config = settings(&args.config)?;
            let listed = runtime.block_on(requests::list(&config, all)).map_err(Fault::refused)?;
            session.show(&listed, |requests| table(requests))
        }
        Command::Close { id, outcome, args } => {
            let config = settings(&args.config)?;
            let outcome = word(&outcome);
            let closed = requests::close(&config, id, &outcome);
            let closed = runtime.block_on(closed).map_err(Fault::refused)?;
            session.show(&closed, |request| format!("request {} is closed", request.id))
        }
    }
}

fn table(requests: &[SubjectRequest]) -> String {
    let mut table = Table::new(["NUMBER", "KIND", "REFERENCE", "RECEIVED", "DUE", "DAYS LEFT", "OUTCOME"]);
    for request in requests {
        table.row([
            request.id.to_string(),
            request.kind.clone(),
            request.reference.clone(),
            request.received_on.clone(),
            request.due_on.clone(),
            request.days_left.map_or_else(|| "-".to_owned(), days_left),
            request.outcome.clone().unwrap_or_else(|| "open".to_owned()),
        ]);
    }
    table.text("no requests are open\n")
}

fn days_left(days: i32) -> String {
    if days < 0 { format!("{} overdue", -days) } else { days.to_string() }
}
