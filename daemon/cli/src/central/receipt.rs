//! `gatehouse central receipt issue|list|keys|make-key`: receipts of erasures.

use std::path::{Path, PathBuf};

use gatehouse_admin::receipt::{OrderLine, Receipts, Which, signer};
use gatehouse_config::{Config, read_secret};
use gatehouse_control::types::Fault;
use gatehouse_receipt::{Bundle, OrderId, PlaceState, Signer};
use gatehouse_store::deployment::DeploymentKey;
use serde::Serialize;
use tokio::runtime::Runtime;

use super::super::format;
use super::super::session::Session;
use super::super::table::Table;
use super::people::write_new_secret;
use super::{Args, settings};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Issue the receipt of an erasure as it is now: complete once every appliance has answered.
    Issue(Issue),
    /// List the erasures, the newest first.
    List {
        #[command(flatten)]
        args: Args,
    },
    /// Print the verifier keys of all appliances and of the central services, for `gatehouse receipt verify --keys`.
    ///
    /// `gatehouse key status` on an appliance prints its own key: compare them before you rely on this list.
    Keys {
        /// File of the signing key.
        #[arg(long, value_name = "FILE")]
        signing_key: PathBuf,
        #[command(flatten)]
        args: Args,
    },
    /// Create the key that signs receipts for the central services. The privacy officer keeps it.
    MakeKey {
        /// New file for the key, readable by its owner only.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Issue {
    /// Id of the order, as `central person erase` and `receipt list` print it.
    #[arg(value_name = "ORDER", required_unless_present = "id")]
    order: Option<OrderId>,
    /// Identifier of the person, instead of an order: that of the last erasure of the person.
    #[arg(long, value_name = "ID", conflicts_with = "order")]
    id: Option<String>,
    /// File of the signing key.
    #[arg(long, value_name = "FILE")]
    signing_key: PathBuf,
    /// Write the receipt to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    #[command(flatten)]
    args: Args,
}

/// Result of an issue.
#[derive(Serialize)]
struct Issued<'a> {
    order: String,
    places: usize,
    pending: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<String>,
}

pub(super) fn run(command: Command, runtime: &Runtime, session: &mut Session) -> Result<(), Fault> {
    match command {
        Command::Issue(issue) => {
            let config = settings(&issue.args.config)?;
            let key = signing_key(&config, &issue.signing_key)?;
            let which = match (&issue.id, issue.order) {
                (Some(id), _) => Which::Person(id),
                (None, order) => Which::Order(order.unwrap_or_default()),
            };
            let issued = async { Receipts::open(&config).await?.issue(which, &key).await };
            let bundle = runtime.block_on(issued).map_err(Fault::refused)?;
            show(&bundle, issue.to.as_deref(), session)
        }
        Command::List { args } => {
            let config = settings(&args.config)?;
            let orders = async { Receipts::open(&config).await?.orders().await };
            let orders = runtime.block_on(orders).map_err(Fault::refused)?;
            session.show(&orders, |orders| table(orders))
        }
        Command::Keys { signing_key: file, args } => {
            let config = settings(&args.config)?;
            let key = signing_key(&config, &file)?;
            let keys = async { Receipts::open(&config).await?.keys().await };
            let mut keys = runtime.block_on(keys).map_err(Fault::refused)?;
            keys.insert(0, key.verifier_key().to_string());
            session.show(&keys, |keys| keys.join("\n"))
        }
        Command::MakeKey { file } => {
            write_new_secret(&file, &DeploymentKey::generate())?;
            session.show(&file, |file| {
                format!("{}: keep a copy at another place, and keep it secret", file.display())
            })
        }
    }
}

pub(super) fn signing_key(config: &Config, file: &Path) -> Result<Signer, Fault> {
    let secret = read_secret(file).map_err(Fault::refused)?;
    signer(config, secret.bytes()).map_err(Fault::refused)
}

fn show(bundle: &Bundle, to: Option<&Path>, session: &mut Session) -> Result<(), Fault> {
    let text = bundle.to_string();
    if let Some(file) = to {
        std::fs::write(file, &text).map_err(|error| {
            Fault::refused(format!("{}: {error}", file.display())).advise("name a file that you can write to")
        })?;
    }
    let states = bundle.cover().places.values();
    let issued = Issued {
        order: bundle.cover().order.to_string(),
        places: states.len(),
        pending: states.filter(|state| matches!(state, PlaceState::Pending { .. })).count(),
        file: to,
        receipt: to.is_none().then_some(text),
    };
    session.show(&issued, issued_text)
}

fn issued_text(issued: &Issued<'_>) -> String {
    let Some(file) = issued.file else { return issued.receipt.clone().unwrap_or_default() };
    let places = format::count(issued.places as u64, "place", "places");
    match issued.pending {
        0 => format!("{}: complete, {places}", file.display()),
        pending => format!("{}: {pending} of {places} have not answered yet", file.display()),
    }
}

fn table(orders: &[OrderLine]) -> String {
    let mut table = Table::new(["ORDER", "ORDERED", "BY", "STATED", "PENDING"]);
    for line in orders {
        table.row([
            line.order.clone(),
            format::time(&line.ordered_at),
            line.ordered_by.clone(),
            line.stated.to_string(),
            line.pending.to_string(),
        ]);
    }
    table.text("no person was erased\n")
}
