//! `gatehouse gallery list|add|compare|switch|remove`: going over to another model.

use std::fs::File;
use std::io::{IsTerminal, Read, stdin};
use std::path::{Path, PathBuf};

use gatehouse_store::gallery::Metric;
use gatehouse_store::gallery::calibration::Calibration;
use gatehouse_store::record::{Model, Verdict};
use gatehouse_store::store::{GalleryChanged, GalleryComparison, GalleryLine};

use crate::cli::person::confirmed;
use crate::cli::shell::Shell;
use crate::cli::table::{Table, pairs, printable};
use crate::cli::words;
use crate::control::types::{Fault, Request};

/// People that a comparison names; `--json` names more.
const MISSING_SHOWN: usize = 20;
/// Bytes of a calibration at most: those that are known have about 12 KiB.
const CALIBRATION_BYTES_MAX: u64 = 256 * 1024;

#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Command {
    /// The galleries: the one that answers, and the one beside it.
    List,
    /// Put an empty gallery of another model beside the one in use.
    ///
    /// Enrol people into it with `gatehouse person enroll --gallery NAME`, let cameras send encodings of both models, look
    /// at `gatehouse gallery compare`, and go over with `gatehouse gallery switch NAME`.
    Add {
        /// Name of the model that makes its encodings, as cameras say it; the gallery's name.
        #[arg(long, value_name = "NAME")]
        model: String,
        /// Components of one encoding.
        #[arg(long, value_name = "D")]
        dimensions: usize,
        /// Distance of two encodings.
        #[arg(long, value_enum)]
        metric: MetricWord,
        /// All encodings of the model are of length 1.
        #[arg(long)]
        normalised: bool,
    },
    /// Load impostor statistics of the gallery's model, so that its threshold can be derived.
    ///
    /// FILE comes from `gatehouse gallery evaluate --save-calibration`, run by the model's maker or on your own encodings. It
    /// holds numbers only.
    Calibrate {
        /// The file; `-` is standard input.
        #[arg(required_unless_present = "remove", value_name = "FILE")]
        file: Option<PathBuf>,
        /// For this gallery and not the one in use.
        #[arg(long, value_name = "NAME")]
        gallery: Option<String>,
        /// Go back to the statistics that come with the program.
        #[arg(long, conflicts_with = "file")]
        remove: bool,
    },
    /// Where the two galleries differ: events by what came of them, and who is missing in the other.
    Compare,
    /// Go over to the other gallery: from now on it answers. The one of before stays beside it, so that the way back is open.
    Switch {
        /// Its name.
        name: String,
        /// Do so also while people are missing in it, who are not recognised then.
        #[arg(long)]
        force: bool,
    },
    /// Remove the gallery that is not in use, with all encodings in it.
    ///
    /// Copies of its templates stay sealed in the journal; `gatehouse key rotate --templates` makes these worthless.
    Remove {
        /// Its name.
        name: String,
        /// Needed on a terminal, since this cannot be undone.
        #[arg(long)]
        yes: bool,
    },
}

/// A metric as it is written.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(in crate::cli) enum MetricWord {
    Euclidean,
    Cosine,
}

pub(in crate::cli) fn run(command: Command, shell: &mut Shell) -> Result<(), Fault> {
    match command {
        Command::List => shell.ask_and_show(&Request::GalleryList, |all: &Vec<GalleryLine>| list(all)),
        Command::Add { model: name, dimensions, metric, normalised } => {
            let metric = match metric {
                MetricWord::Euclidean => Metric::Euclidean,
                MetricWord::Cosine => Metric::Cosine,
            };
            let request = Request::GalleryAdd(Model { name, dimensions, metric, normalised });
            shell.ask_and_show(&request, |all: &Vec<GalleryLine>| list(all))
        }
        Command::Calibrate { file, gallery, .. } => {
            let calibration = file.as_deref().map(calibration).transpose()?;
            let request = Request::GalleryCalibrate { gallery, calibration };
            shell.ask_and_show(&request, |all: &Vec<GalleryLine>| list(all))
        }
        Command::Compare => shell.ask_and_show(&Request::GalleryCompare, compare),
        Command::Switch { name, force } => {
            shell.ask_and_show(&Request::GallerySwitch { gallery: name, force }, switched)
        }
        Command::Remove { name, yes } => {
            confirmed(yes, stdin().is_terminal(), "a removal")?;
            let request = Request::GalleryRemove { gallery: name.clone() };
            shell.ask_and_show(&request, |done: &GalleryChanged| {
                format!("{} is removed; {} is in use", printable(&name), printable(&done.in_use))
            })
        }
    }
}

/// A calibration from a file.
fn calibration(file: &Path) -> Result<Box<Calibration>, Fault> {
    let name = file.display();
    let mut text = Vec::new();
    let read = if file == Path::new("-") {
        stdin().lock().take(CALIBRATION_BYTES_MAX).read_to_end(&mut text)
    } else {
        File::open(file).and_then(|file| file.take(CALIBRATION_BYTES_MAX).read_to_end(&mut text))
    };
    read.map_err(|error| Fault::refused(format!("cannot read {name}: {error}")))?;
    let parsed: Result<Calibration, _> = serde_json::from_slice(&text);
    let calibration = parsed.map_err(|error| {
        Fault::refused(format!("{name} is not a calibration: {error}"))
            .advise("gatehouse gallery evaluate --save-calibration writes one")
    })?;
    calibration.check().map_err(|fault| Fault::refused(format!("{name}: {fault}")))?;
    Ok(Box::new(calibration))
}

fn list(galleries: &[GalleryLine]) -> String {
    let mut table = Table::new([
        "NAME",
        "STATE",
        "DIMENSIONS",
        "METRIC",
        "NORMALISED",
        "PEOPLE",
        "TEMPLATES",
        "THRESHOLD",
    ]);
    for GalleryLine { model, in_use, people, templates, threshold, no_threshold, .. } in galleries {
        let metric = match model.metric {
            Metric::Euclidean => "euclidean",
            Metric::Cosine => "cosine",
        };
        table.row([
            model.name.clone(),
            if *in_use { "in use" } else { "beside" }.to_owned(),
            model.dimensions.to_string(),
            metric.to_owned(),
            if model.normalised { "yes" } else { "no" }.to_owned(),
            people.to_string(),
            templates.to_string(),
            no_threshold.as_ref().map_or_else(|| format!("{threshold:.4}"), |_| "none".to_owned()),
        ]);
    }
    table.text("")
}

fn compare(told: &GalleryComparison) -> String {
    let (ours, theirs) = (printable(&told.in_use), printable(&told.other));
    let events = |count: u64| words::count(count, "event", "events");
    let (only_ours, only_theirs) = (format!("only {ours}"), format!("only {theirs}"));
    let mut text = pairs(&[
        ("in use", ours.clone()),
        ("beside", theirs.clone()),
        ("the same", events(told.same)),
        (&only_ours, format!("{} in which it recognised somebody", events(told.only_in_use))),
        (&only_theirs, format!("{} in which it recognised somebody", events(told.only_other))),
        ("different", events(told.different)),
        ("incomplete", format!("{} without an encoding of both for each face", events(told.incomplete))),
    ]);
    let mut table = Table::new(["DIFFER", "RECOGNISED BY"]);
    for line in &told.differing {
        let by = match line.verdict {
            Verdict::OnlyInUse => only_ours.clone(),
            Verdict::OnlyOther => only_theirs.clone(),
            Verdict::Different => "both, as other people".to_owned(),
            Verdict::Same | Verdict::Incomplete => "-".to_owned(),
        };
        table.row([line.event.clone(), by]);
    }
    let listed = table.text("");
    if !listed.is_empty() {
        text.push_str(&format!("\nthe newest events in which they differ:\n{listed}"));
    }
    let missing = words::count(told.missing_people as u64, "person", "people");
    match told.missing.iter().take(MISSING_SHOWN).map(|id| printable(id)).collect::<Vec<_>>().join(", ") {
        nobody if nobody.is_empty() => text.push_str(&format!("\nnobody is missing in {theirs}\n")),
        named => text.push_str(&format!("\n{missing} missing in {theirs}: {named}\n")),
    }
    text
}

fn switched(done: &GalleryChanged) -> String {
    let beside = done.beside.as_deref().map_or_else(String::new, |name| {
        format!("; {} stays beside it until it is removed", printable(name))
    });
    let missing = match done.missing {
        0 => String::new(),
        missing => format!(
            "\n{} of it cannot be recognised until they are enrolled here",
            words::count(missing as u64, "person", "people")
        ),
    };
    format!("{} is in use{beside}{missing}", printable(&done.in_use))
}
