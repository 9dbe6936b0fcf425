//! `gatehouse gallery report`

use std::path::PathBuf;

use chrono::Utc;
use gatehouse_gallery::evaluate::Estimate;
use gatehouse_gallery::{Basis, Derived, Prospect};
use gatehouse_store::store::{CameraLine, GalleryReport, Pair, Weak};

use super::evaluate::percent;
use super::svg;
use crate::format;
use crate::session::Session;
use crate::table::{Table, pairs};
use gatehouse_control::types::{Fault, Request};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also draw the two distributions of distances and the threshold to this SVG file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Report on this gallery instead of the one in use.
    #[arg(long, value_name = "NAME")]
    gallery: Option<String>,
}

pub(crate) fn run(args: &Args, session: &mut Session) -> Result<(), Fault> {
    let report: GalleryReport = session.ask(&Request::GalleryReport { gallery: args.gallery.clone() })?;
    if let Some(file) = &args.svg {
        let written = std::fs::write(file, svg::draw(&report, Utc::now().date_naive()));
        written.map_err(|error| Fault::refused(format!("cannot write {}: {error}", file.display())))?;
    }
    session.show(&report, text)
}

fn text(report: &GalleryReport) -> String {
    let known = |estimate: Option<Estimate>, none: &str| estimate.map_or_else(|| none.to_owned(), percent);
    let mut text = verdict(report);
    text.push_str(&pairs(&[
        ("model", report.model.clone()),
        ("statistics", statistics(report)),
        ("people", report.people.to_string()),
        ("samples", format!("{}, {} of them measured", report.samples, report.measured)),
        ("strangers", format::count(report.derived.visits as u64, "visit compared", "visits compared")),
        ("threshold", threshold(&report.derived)),
        ("target", report.target_fpir.map_or_else(|| "none, the threshold is fixed".to_owned(), share)),
        ("FPIR", model_rates(&report.derived)),
        ("FPIR, enrolled", enrolled_rate(report)),
        ("FNIR, enrolled", known(report.fnir, "not known until a person has two samples")),
    ]));
    text.push_str(&prospects(report));
    text.push_str(&cameras(report));
    text.push_str("\nThresholds from the enrolled people alone:\n");
    text.push_str(&targets(report));
    text.push_str(&alike(report));
    text.push_str(&weak(report));
    text.push_str(
        "\nFPIR: false positive identification rate, the share of strangers' faces that are accepted.\n\
         FNIR: false negative identification rate, the share of enrolled people's faces that are missed.\n\
         enrolled: each enrolled person tested as a stranger to all others, and against the person's own other samples.\n\
         In parentheses: 95 % confidence bounds, by people. Camera pictures give higher error rates than enrollment pictures.\n",
    );
    text
}

/// The first line: whether the target is met.
fn verdict(report: &GalleryReport) -> String {
    let Derived { no_threshold, bounded_fpir, basis, .. } = &report.derived;
    if let Some(cause) = no_threshold {
        return format!("RED: no face is recognized: {cause}\n\n");
    }
    match (basis, bounded_fpir) {
        (Basis::Fixed, None) => {
            "RED: the threshold is fixed in the settings, and the error rates of the model are not known\n\n"
                .to_owned()
        }
        (Basis::Fixed, Some(bound)) => {
            format!(
                "The threshold is fixed in the settings. At most {} of strangers are accepted, with 95 % confidence.\n\n",
                share(*bound)
            )
        }
        _ => String::new(),
    }
}

fn statistics(report: &GalleryReport) -> String {
    match (&report.calibration, report.derived.calibration_people) {
        (Some(source), _) => source.clone(),
        (None, 0) => "none: the model is not known".to_owned(),
        (None, people) => format!("{people} enrolled people; the model is not known"),
    }
}

/// FPIR from the statistics of the model, with its bound.
fn model_rates(derived: &Derived) -> String {
    match (derived.expected_fpir, derived.bounded_fpir) {
        (Some(expected), Some(bound)) => {
            format!("{} expected, at most {} with 95 % confidence", share(expected), share(bound))
        }
        _ => "not known".to_owned(),
    }
}

fn enrolled_rate(report: &GalleryReport) -> String {
    report.fpir.map_or_else(
        || "not known with fewer than two people".to_owned(),
        |rate| format!("{}, worth {:.0} independent people", percent(rate), report.independent),
    )
}

/// Expected thresholds and misses for other numbers of samples or another target.
fn prospects(report: &GalleryReport) -> String {
    if report.prospects.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["TARGET", "SAMPLES EACH", "THRESHOLD", "MISSED"]);
    for Prospect { samples, target, threshold, missed } in &report.prospects {
        let missed = format!("{:.0} %", missed * 100.0);
        table.row([share(*target), samples.to_string(), format!("{threshold:.4}"), missed]);
    }
    format!(
        "\nExpected with other numbers of samples, or another target, for the same number of people:\n{}",
        table.text("")
    )
}

fn targets(report: &GalleryReport) -> String {
    let known = |estimate: Option<Estimate>| estimate.map_or_else(|| "-".to_owned(), percent);
    let mut table = Table::new(["TARGET FPIR", "THRESHOLD", "95 % BOUNDS", "FNIR"]);
    for line in &report.targets {
        let share = share(line.fpir);
        table.row(match line.threshold {
            Some(t) => {
                [share, format!("{:.4}", t.value), format!("{:.4} to {:.4}", t.low, t.high), known(line.fnir)]
            }
            None => [share, "-".into(), "too few people".into(), "-".into()],
        });
    }
    table.text("")
}

/// A share in percent, with two significant digits.
fn share(fpir: f64) -> String {
    let percent = fpir * 100.0;
    let digits = if percent > 0.0 { (1.0 - percent.log10().floor()).clamp(0.0, 6.0) as usize } else { 0 };
    let text = format!("{percent:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} %")
}

fn threshold(derived: &Derived) -> String {
    let Derived { threshold, basis, central, .. } = derived;
    let from = match basis {
        Basis::Fixed => "from the settings",
        Basis::Model => "from the statistics of the model",
        Basis::Gallery => "from the enrolled people",
        Basis::Camera => "from the statistics of the model, lowered by strangers at this camera",
        Basis::Unknown => return "none".to_owned(),
    };
    let central =
        central.map_or_else(String::new, |central| format!("; the target is expected at {central:.4}"));
    format!("{threshold:.4}, {from}{central}")
}

fn cameras(report: &GalleryReport) -> String {
    if report.cameras.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["CAMERA", "THRESHOLD"]);
    for CameraLine { camera, derived } in &report.cameras {
        table.row([camera.clone(), threshold(derived)]);
    }
    format!("\n{}", table.text(""))
}

fn alike(report: &GalleryReport) -> String {
    let mut table = Table::new(["PERSON", "LOOKS LIKE", "DISTANCE"]);
    for Pair { ids: [a, b], distance } in &report.alike {
        table.row([a.clone(), b.clone(), format!("{distance:.3}")]);
    }
    format!(
        "\n{} within the threshold{}\n{}",
        format::count(report.alike_pairs as u64, "pair of people", "pairs of people"),
        more(report.alike_pairs, report.alike.len()),
        table.text("")
    )
}

fn weak(report: &GalleryReport) -> String {
    let mut table = Table::new(["WEAK", "SAMPLES", "NOT MATCHED BY OTHERS"]);
    for Weak { id, samples, missed } in &report.weak {
        table.row([id.clone(), samples.to_string(), missed.to_string()]);
    }
    format!(
        "\n{} with one sample, or with samples that do not match the person's other samples{}\n{}",
        format::count(report.weak_people as u64, "person", "people"),
        more(report.weak_people, report.weak.len()),
        table.text("")
    )
}

fn more(all: usize, shown: usize) -> String {
    if all > shown { format!("; the first {shown}:") } else { String::new() }
}

#[cfg(test)]
pub(super) mod tests {
    use gatehouse_gallery::NoThreshold;
    use gatehouse_store::store::{Bin, TargetLine};

    use super::*;

    pub(in crate::gallery) fn report() -> GalleryReport {
        let derived = Derived {
            threshold: 0.42,
            basis: Basis::Model,
            no_threshold: None,
            central: Some(0.46),
            expected_fpir: Some(0.000_2),
            bounded_fpir: Some(0.001),
            calibration_people: 2760,
            visits: 12.0,
        };
        let rate = Some(Estimate { rate: 0.02, low: 0.01, high: 0.04 });
        GalleryReport {
            model: "dlib-128".into(),
            people: 3,
            samples: 5,
            measured: 5,
            threshold: 0.42,
            target_fpir: Some(0.001),
            calibration: Some("2,760 people".into()),
            independent: 3.0,
            prospects: vec![Prospect { samples: 5, target: 0.01, threshold: 0.41, missed: 0.15 }],
            derived: derived.clone(),
            cameras: vec![CameraLine {
                camera: "garden".into(),
                derived: Derived { basis: Basis::Fixed, ..derived },
            }],
            fpir: rate,
            fnir: None,
            targets: vec![TargetLine { fpir: 0.001, threshold: None, fnir: None }],
            alike: vec![Pair { ids: ["anna".into(), "bert".into()], distance: 0.3 }],
            alike_pairs: 7,
            weak: vec![Weak { id: "carl".into(), samples: 1, missed: 0 }],
            weak_people: 1,
            bins: vec![Bin { to: 0.4, own: 3, other: 0 }, Bin { to: 0.8, own: 1, other: 5 }],
        }
    }

    #[test]
    fn a_gallery_without_a_threshold_is_red_and_says_what_to_do() {
        let mut report = report();
        report.derived.no_threshold = Some(NoThreshold::UnknownModel {
            model: "m with 128 components".into(),
            advice: None,
            people: 3,
            needed: None,
        });
        let text = text(&report);
        assert!(text.starts_with("RED: no face is recognized: the error rates of m"), "{text}");
        assert!(text.contains("gatehouse gallery calibrate FILE"), "{text}");
    }

    #[test]
    fn the_report_names_alike_and_weak_people_and_says_what_is_not_known() {
        let text = text(&report());
        for part in [
            "0.4200, from the statistics of the model; the target is expected at 0.4600",
            "0.02 % expected, at most 0.1 % with 95 % confidence",
            "0.4200, from the settings",
            "12 visits compared",
            "15 %",
            "2.00 % (1.00 to 4.00)",
            "not known until a person has two samples",
            "too few people",
            "7 pairs of people within the threshold; the first 1:",
            "anna",
            "carl",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
