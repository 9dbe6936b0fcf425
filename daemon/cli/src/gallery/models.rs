//! `gatehouse gallery list|add|calibrate|compare|switch|remove`: change to another model.

use std::fs::File;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};

use gatehouse_gallery::calibration::Calibration;
use gatehouse_model::{Metric, Model, Verdict};
use gatehouse_store::store::{GalleryChanged, GalleryComparison, GalleryLine};

use crate::format;
use crate::session::Session;
use crate::table::{Table, pairs, printable};
use crate::terminal::{Confirmation, confirm};
use gatehouse_control::types::{Fault, Request};

/// Maximum number of missing people in the text of a comparison; `--json` lists more.
const MISSING_SHOWN_MAX: usize = 20;
/// Maximum size of a calibration file; built-in calibrations have about 12 KiB.
const CALIBRATION_BYTES_MAX: u64 = 256 * 1024;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the gallery in use and the second gallery.
    #[command(alias = "ls")]
    List,
    /// Add an empty second gallery for another model.
    ///
    /// Enroll people into it with `gatehouse person enroll --gallery NAME`, and let cameras send encodings of both models.
    /// Compare with `gatehouse gallery compare`, then switch with `gatehouse gallery switch NAME`.
    Add {
        /// Name of the model, as cameras send it; also the name of the gallery.
        #[arg(long, value_name = "NAME")]
        model: String,
        /// Number of components of an encoding.
        #[arg(long, value_name = "N")]
        dimensions: usize,
        /// Distance between two encodings.
        #[arg(long, value_enum)]
        metric: MetricName,
        /// The model gives all encodings the norm 1.
        #[arg(long)]
        normalised: bool,
    },
    /// Load the impostor statistics of the gallery's model, from which its threshold is derived.
    ///
    /// FILE is written by `gatehouse gallery evaluate --save-calibration`, run by the maker of the model or on your own
    /// encodings. It contains numbers only.
    Calibrate {
        /// Calibration file; `-` is standard input.
        #[arg(required_unless_present = "remove", value_name = "FILE")]
        file: Option<PathBuf>,
        /// Calibrate this gallery instead of the one in use.
        #[arg(long, value_name = "NAME")]
        gallery: Option<String>,
        /// Return to the built-in statistics.
        #[arg(long, conflicts_with = "file")]
        remove: bool,
    },
    /// Compare the results of both galleries, and list people missing in the second one.
    Compare,
    /// Switch to the other gallery. The previous one is kept, so that you can switch back.
    Switch {
        /// Name of the gallery.
        name: String,
        /// Switch even if people are missing in it; they are not recognized then.
        #[arg(long)]
        force: bool,
    },
    /// Remove the second gallery with all its encodings.
    ///
    /// Sealed copies of its templates remain in the journal; `gatehouse key rotate --templates` makes them unusable.
    Remove {
        /// Name of the gallery.
        name: String,
        /// Remove without a question; a removal cannot be undone.
        #[arg(long)]
        yes: bool,
    },
}

/// A metric on the command line.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum MetricName {
    Euclidean,
    Cosine,
}

pub(crate) fn run(command: Command, session: &mut Session) -> Result<(), Fault> {
    match command {
        Command::List => session.ask_and_show(&Request::GalleryList, |all: &Vec<GalleryLine>| list(all)),
        Command::Add { model: name, dimensions, metric, normalised } => {
            let metric = match metric {
                MetricName::Euclidean => Metric::Euclidean,
                MetricName::Cosine => Metric::Cosine,
            };
            let request = Request::GalleryAdd(Model { name, dimensions, metric, normalised });
            session.ask_and_show(&request, |all: &Vec<GalleryLine>| list(all))
        }
        Command::Calibrate { file, gallery, .. } => {
            let calibration = file.as_deref().map(calibration).transpose()?;
            let request = Request::GalleryCalibrate { gallery, calibration };
            session.ask_and_show(&request, |all: &Vec<GalleryLine>| list(all))
        }
        Command::Compare => session.ask_and_show(&Request::GalleryCompare, compare),
        Command::Switch { name, force } => {
            session.ask_and_show(&Request::GallerySwitch { gallery: name, force }, switched)
        }
        Command::Remove { name, yes } => {
            let step = format!("Removes gallery {} with all its encodings.", printable(&name));
            confirm(&Confirmation { yes, step: &step, answer: &name })?;
            let request = Request::GalleryRemove { gallery: name.clone() };
            session.ask_and_show(&request, |done: &GalleryChanged| {
                format!("{} is removed; {} is in use", printable(&name), printable(&done.in_use))
            })
        }
    }
}

/// Reads a calibration from a file.
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
            .advise("gatehouse gallery evaluate --save-calibration creates one")
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
            if *in_use { "in use" } else { "second" }.to_owned(),
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

fn compare(comparison: &GalleryComparison) -> String {
    let in_use = printable(&comparison.in_use);
    let second = printable(&comparison.other);
    let events = |count: u64| format::count(count, "event", "events");
    let only_in_use = format!("only {in_use}");
    let only_second = format!("only {second}");
    let mut text = pairs(&[
        ("in use", in_use.clone()),
        ("second gallery", second.clone()),
        ("same result", events(comparison.same)),
        (&only_in_use, format!("{} recognized", events(comparison.only_in_use))),
        (&only_second, format!("{} recognized", events(comparison.only_other))),
        ("different people", events(comparison.different)),
        (
            "incomplete",
            format!("{} without encodings of both models for each face", events(comparison.incomplete)),
        ),
    ]);
    let mut table = Table::new(["EVENT", "RECOGNIZED BY"]);
    for line in &comparison.differing {
        let by = match line.verdict {
            Verdict::OnlyInUse => only_in_use.clone(),
            Verdict::OnlyOther => only_second.clone(),
            Verdict::Different => "both, as different people".to_owned(),
            Verdict::Same | Verdict::Incomplete => "-".to_owned(),
        };
        table.row([line.event.clone(), by]);
    }
    let listed = table.text("");
    if !listed.is_empty() {
        text.push_str(&format!("\nthe newest events with different results:\n{listed}"));
    }
    let missing = format::count(comparison.missing_people as u64, "person", "people");
    let ids: Vec<_> = comparison.missing.iter().take(MISSING_SHOWN_MAX).map(|id| printable(id)).collect();
    text.push_str(&match ids.as_slice() {
        [] => format!("\nno people are missing in {second}\n"),
        ids => format!("\n{missing} missing in {second}: {}\n", ids.join(", ")),
    });
    text
}

fn switched(done: &GalleryChanged) -> String {
    let previous = done
        .candidate
        .as_deref()
        .map_or_else(String::new, |name| format!("; {} is kept until it is removed", printable(name)));
    let missing = match done.missing {
        0 => String::new(),
        missing => format!(
            "\n{} from it cannot be recognized until they are enrolled here",
            format::count(missing as u64, "person", "people")
        ),
    };
    format!("{} is in use{previous}{missing}", printable(&done.in_use))
}
