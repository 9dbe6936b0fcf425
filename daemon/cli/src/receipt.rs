//! `gatehouse receipt verify|verify-export|show`: receipts of erasures, and signed exports. They need no daemon, no database and no network.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use gatehouse_config::read_secret;
use gatehouse_control::exit;
use gatehouse_control::types::Fault;
use gatehouse_receipt::{
    BUNDLE_BYTES_MAX, Bundle, By, End, PlaceReport, PlaceState, Report, Statement, Subject, TrustedKeys,
    Verdict, verify_bytes,
};
use gatehouse_store::receipt_subject::receipt_subject;
use serde::Serialize;

use super::session::Session;
use super::table::{Table, pairs};
use super::{export, format};

/// Longest file of keys, in bytes: 8,192 keys of usual length.
const KEYS_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Name of standard input.
const STDIN: &str = "-";

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Verify the receipt of an erasure; needs no daemon, database or network.
    ///
    /// Ends with 0 if no place is pending: each has erased, or is listed as lost or retired. Ends with 1 if the receipt is
    /// authentic and places have not answered yet, and with 2 if the receipt is not authentic or cannot be read.
    Verify(Verify),
    /// Verify the folder of `person export`: its signature, and that no file was changed.
    ///
    /// Ends with 0 if it is authentic, and with 2 if it is not, or cannot be read.
    VerifyExport {
        /// The folder.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// File of the trusted verifier keys, one NAME+ID+KEY per line.
        #[arg(long, value_name = "FILE")]
        keys: PathBuf,
    },
    /// Show in plain language what a receipt states; verifies nothing.
    Show {
        /// File of the receipt; `-` is standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// File of the receipt; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// File of the trusted verifier keys, one NAME+ID+KEY per line.
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// Also verify that the receipt is about the person with this identifier.
    #[arg(long, value_name = "ID", requires = "deployment_key")]
    id: Option<String>,
    /// File of the deployment key, for --id.
    #[arg(long, value_name = "FILE", requires = "id")]
    deployment_key: Option<PathBuf>,
}

pub(super) fn run(command: &Command, session: &mut Session) -> Result<(), Fault> {
    match command {
        Command::Verify(args) => verify(args, session),
        Command::VerifyExport { folder, keys } => {
            let verified = export::verify(folder, &trusted(keys)?).map_err(not_authentic)?;
            session.show(&verified, export::VerifiedExport::text)
        }
        Command::Show { file } => {
            let bundle = Bundle::parse(&read(file, BUNDLE_BYTES_MAX)?)
                .map_err(|error| not_authentic(format!("{}: {error}", file.display())))?;
            session.show(&Shown::of(&bundle), |_| show(&bundle))
        }
    }
}

fn verify(args: &Verify, session: &mut Session) -> Result<(), Fault> {
    let receipt = read(&args.file, BUNDLE_BYTES_MAX)?;
    let verdict = verify_bytes(&receipt, &trusted(&args.keys)?, subject(args)?.as_ref());
    session.show(&verdict, verdict_text)?;
    match verdict {
        Verdict::Complete(_) => Ok(()),
        // The verdict is already on standard output.
        Verdict::Pending(_) => Err(Fault::with_code(exit::REFUSED, "")),
        Verdict::NotAuthentic { .. } => Err(not_authentic("")),
    }
}

fn trusted(file: &Path) -> Result<TrustedKeys, Fault> {
    let keys = read(file, KEYS_BYTES_MAX)?;
    let keys = std::str::from_utf8(&keys).map_err(|_| not_authentic("the file of the keys is not text"))?;
    TrustedKeys::parse(keys).map_err(|error| not_authentic(format!("{}: {error}", file.display())))
}

/// The person whom the receipt must be about.
fn subject(args: &Verify) -> Result<Option<Subject>, Fault> {
    let (Some(id), Some(file)) = (&args.id, &args.deployment_key) else { return Ok(None) };
    let secret = read_secret(file).map_err(not_authentic)?;
    receipt_subject(secret.bytes(), id).map(Some).map_err(not_authentic)
}

/// Nothing is proven. A script must not take a fault of the command for a receipt that is pending.
fn not_authentic(message: impl std::fmt::Display) -> Fault {
    Fault::with_code(exit::USAGE, message)
}

fn read(file: &Path, bytes_max: usize) -> Result<Vec<u8>, Fault> {
    let limit = bytes_max as u64 + 1;
    let mut bytes = Vec::new();
    let done = if file == Path::new(STDIN) {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|open| open.take(limit).read_to_end(&mut bytes))
    };
    done.map_err(|error| not_authentic(format!("cannot read {}: {error}", file.display())))?;
    if bytes.len() > bytes_max {
        return Err(not_authentic(format!("{} is larger than {bytes_max} bytes", file.display()))
            .advise("check that it is the right file"));
    }
    Ok(bytes)
}

fn verdict_text(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Complete(report) => {
            format!("complete: {}\n\n{}", complete_text(report), report_text(report))
        }
        Verdict::Pending(report) => {
            let places = format::count(report.pending().count() as u64, "place has", "places have");
            format!("pending: {places} not answered yet\n\n{}", report_text(report))
        }
        Verdict::NotAuthentic { reason } => format!("not authentic: {reason}\n"),
    }
}

/// A place that cannot answer has not erased: that must be visible in the first line.
fn complete_text(report: &Report) -> String {
    let erased = |report: &&PlaceReport| matches!(report.state, PlaceState::Done { .. });
    let silent = report.places.len() - report.places.iter().filter(erased).count();
    match silent {
        0 => "every place has erased".to_owned(),
        silent => {
            let places = format::count(silent as u64, "place is", "places are");
            format!("no place is pending, but {places} lost or retired and never answered")
        }
    }
}

fn report_text(report: &Report) -> String {
    let head = [
        ("order", report.order.to_string()),
        ("person", report.subject.to_string()),
        ("issued", format::time(&report.issued.to_string())),
    ];
    format!("{}\n{}", pairs(&head), places(&report.places))
}

fn places(places: &[PlaceReport]) -> String {
    let mut table = Table::new(["PLACE", "STATE", "SINCE"]);
    for PlaceReport { place, state } in places {
        let name = match place.device_id() {
            Some(device) => format!("{}/{device}", place.environment()),
            None => place.to_string(),
        };
        let time = |time: &gatehouse_model::Timestamp| format::time(&time.to_string());
        let (state, since) = match state {
            PlaceState::Done { at, .. } => ("erased", time(at)),
            PlaceState::Pending { last_contact: Some(at) } => ("pending, last contact", time(at)),
            PlaceState::Pending { last_contact: None } => ("pending, no contact yet", "-".to_owned()),
            PlaceState::Impossible { at } => ("lost, its data stays sealed", time(at)),
            PlaceState::Retired { at } => ("retired", time(at)),
        };
        table.row([name, state.to_owned(), since]);
    }
    table.text("")
}

/// The content of a receipt as JSON: the texts as they were signed.
#[derive(Debug, Serialize)]
struct Shown {
    statements: Vec<String>,
    cover: String,
}

impl Shown {
    fn of(bundle: &Bundle) -> Self {
        // What was parsed has a text.
        let text = |statement: &Statement| statement.to_text().unwrap_or_default();
        Self {
            statements: bundle.statements().map(text).collect(),
            cover: bundle.cover().to_text().unwrap_or_default(),
        }
    }
}

fn show(bundle: &Bundle) -> String {
    let mut text = String::from("The signatures are not verified: `gatehouse receipt verify` does that.\n\n");
    for statement in bundle.statements() {
        text.push_str(&statement_text(statement));
        text.push('\n');
    }
    let cover = bundle.cover();
    let reports =
        cover.places.iter().map(|(place, state)| PlaceReport { place: place.clone(), state: *state });
    text.push_str(&places(&reports.collect::<Vec<_>>()));
    text
}

fn statement_text(statement: &Statement) -> String {
    let time = |time: gatehouse_model::Timestamp| format::time(&time.to_string());
    let by = match statement.by {
        By::User(number) => format!("by user {number} of the appliance"),
        By::Central => "by the central services".to_owned(),
        By::Retention => "by the retention policy".to_owned(),
        By::Expiry => "at the end of the consent".to_owned(),
    };
    let uncertainty = match statement.uncertainty_ms {
        Some(milliseconds) => format!(", within {milliseconds} ms"),
        None => ", without a reference time".to_owned(),
    };
    let mut list = vec![
        ("place", statement.place.to_string()),
        ("person", statement.subject.to_string()),
        ("ordered", format!("{}, {by}", time(statement.ordered))),
        ("erased", format!("{}{uncertainty}", time(statement.done))),
        ("method", statement.method.meaning().to_owned()),
        ("program", statement.tool.to_string()),
    ];
    let counted = |count: &u64, meaning: &str| format!("{count} {meaning}");
    list.extend(statement.keys.iter().map(|(word, count)| ("destroyed", counted(count, word.meaning()))));
    list.extend(
        statement.destroyed.iter().map(|(word, count)| ("destroyed", counted(count, word.meaning()))),
    );
    list.extend(statement.verified.iter().map(|(word, count)| ("checked", counted(count, word.meaning()))));
    let end = |end: End| match end {
        End::Day(day) => format!("until {day}"),
        End::Condition(condition) => format!("until {}", condition.meaning()),
    };
    list.extend(
        statement.left.iter().map(|left| ("left", format!("{}, {}", left.what.meaning(), end(left.until)))),
    );
    pairs(&list)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use gatehouse_model::{KeyId, Timestamp};
    use gatehouse_receipt::{
        Check, Condition, Cover, Destroyed, KeyKind, KeyName, Left, Leftover, Method, Place, Program, Signer,
        Tool,
    };

    use super::*;

    const AT: Timestamp = Timestamp(1_796_040_000_000_000);

    /// A receipt of one appliance that has erased, and of the database, which has not.
    struct Files {
        folder: tempfile::TempDir,
    }

    impl Files {
        fn new(is_pending: bool) -> Self {
            let signer = |name: &str| Signer::from_seed(KeyName::new(name).unwrap(), &[7; 32]).unwrap();
            let (device, central) = (signer("prod/house-1"), signer("prod/central"));
            let place = Place::device("prod", "house-1", Some(KeyId::from_bytes([1; 16]))).unwrap();
            let statement = Statement {
                order: uuid_of(1),
                subject: receipt_subject("5b".repeat(32).as_bytes(), "anna").unwrap(),
                place: place.clone(),
                ordered: AT,
                by: By::User(1000),
                done: AT,
                uncertainty_ms: Some(40),
                method: Method::CryptoErase,
                tool: Tool { program: Program::Gatehoused, version: "0.1.0".into(), journal_lsn: Some(7) },
                keys: BTreeMap::from([(KeyKind::Person, 1)]),
                destroyed: BTreeMap::from([(Destroyed::Templates, 5)]),
                object_names: None,
                verified: BTreeMap::from([(Check::SlotFree, 2)]),
                left: BTreeSet::from([Left {
                    what: Leftover::FlashSpareBlocks,
                    until: End::Condition(Condition::RootKeyDestroyed),
                }]),
            };
            let note = statement.sign(&device).unwrap();
            let mut places = BTreeMap::from([(place, PlaceState::Done { at: AT, sha256: note.digest() })]);
            if is_pending {
                let pending = PlaceState::Pending { last_contact: Some(AT) };
                places.insert(Place::postgres("prod").unwrap(), pending);
            }
            let cover = Cover { order: statement.order, subject: statement.subject, issued: AT, places };
            let bundle = Bundle::new(vec![note], cover.sign(&central).unwrap()).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let keys = format!("# prod\n{}\n{}\n", device.verifier_key(), central.verifier_key());
            for (name, text) in [
                ("receipt", bundle.to_string()),
                ("keys", keys),
                ("deployment.key", "5b".repeat(32)),
                ("changed", bundle.to_string().replacen("templates 5", "templates 6", 1)),
            ] {
                std::fs::write(folder.path().join(name), text).unwrap();
            }
            Self { folder }
        }

        fn verify(&self, receipt: &str, id: Option<&str>) -> u8 {
            let path = |name: &str| self.folder.path().join(name);
            let args = Verify {
                file: path(receipt),
                keys: path("keys"),
                id: id.map(str::to_owned),
                deployment_key: id.map(|_| path("deployment.key")),
            };
            let mut session = Session::new(path("no.sock"), true);
            verify(&args, &mut session).map_or_else(|fault| fault.code, |()| exit::OK)
        }
    }

    fn uuid_of(number: u8) -> gatehouse_receipt::OrderId {
        gatehouse_receipt::OrderId::from_u128(number.into())
    }

    #[test]
    fn the_exit_code_says_complete_pending_or_not_authentic() {
        let complete = Files::new(false);
        assert_eq!(complete.verify("receipt", None), 0);
        assert_eq!(complete.verify("receipt", Some("anna")), 0);
        assert_eq!(complete.verify("receipt", Some("bert")), 2);
        for bad in ["changed", "keys", "no-such-file"] {
            assert_eq!(complete.verify(bad, None), 2, "{bad}");
        }
        let pending = Files::new(true);
        assert_eq!(pending.verify("receipt", None), 1);
        assert_eq!(pending.verify("changed", None), 2);
    }

    #[test]
    fn a_pending_place_and_its_last_contact_are_named() {
        let files = Files::new(true);
        let read = |name: &str| std::fs::read(files.folder.path().join(name)).unwrap();
        let keys = TrustedKeys::parse(std::str::from_utf8(&read("keys")).unwrap()).unwrap();
        let text = verdict_text(&verify_bytes(&read("receipt"), &keys, None));
        for part in
            ["pending: 1 place has", "postgres prod", "2026-11-30 12:00:00Z", "prod/house-1", "erased"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let text = show(&Bundle::parse(&read("receipt")).unwrap());
        for part in ["by user 1000", "5 face templates", "within 40 ms", "until the root key is destroyed"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_lost_place_is_not_reported_as_erased() {
        let report = |state| Report {
            order: gatehouse_receipt::OrderId::nil(),
            subject: Subject([1; 16]),
            issued: AT,
            places: vec![PlaceReport { place: Place::postgres("prod").unwrap(), state }],
        };
        let erased = complete_text(&report(PlaceState::Done { at: AT, sha256: [0; 32] }));
        assert_eq!(erased, "every place has erased");
        for state in [PlaceState::Impossible { at: AT }, PlaceState::Retired { at: AT }] {
            let text = complete_text(&report(state));
            assert!(text.contains("1 place is lost or retired and never answered"), "{text}");
        }
    }
}
