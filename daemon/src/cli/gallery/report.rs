//! `gatehouse gallery report`

use std::path::PathBuf;

use gatehouse_store::gallery::evaluate::Estimate;
use gatehouse_store::gallery::{Basis, Derived};
use gatehouse_store::store::{CameraLine, GalleryReport, Pair, Weak};

use super::evaluate::percent;
use super::svg;
use crate::cli::shell::Shell;
use crate::cli::table::{Table, pairs};
use crate::cli::words;
use crate::control::types::{Fault, Request};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Also draw the two distributions of distances and the threshold into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Of this gallery and not the one in use.
    #[arg(long, value_name = "NAME")]
    gallery: Option<String>,
}

pub(in crate::cli) fn run(args: &Args, shell: &mut Shell) -> Result<(), Fault> {
    let report: GalleryReport = shell.ask(&Request::GalleryReport { gallery: args.gallery.clone() })?;
    if let Some(file) = &args.svg {
        let written = std::fs::write(file, svg::draw(&report));
        written.map_err(|error| Fault::refused(format!("cannot write {}: {error}", file.display())))?;
    }
    shell.show(&report, text)
}

fn text(report: &GalleryReport) -> String {
    let known = |estimate: Option<Estimate>, none: &str| estimate.map_or_else(|| none.to_owned(), percent);
    let mut text = pairs(&[
        ("model", report.model.clone()),
        ("people", report.people.to_string()),
        ("samples", format!("{}, {} of them measured", report.samples, report.measured)),
        ("threshold", threshold(&report.derived)),
        ("target", report.target_fpir.map_or_else(|| "none, the threshold is set".to_owned(), share)),
        ("FPIR", known(report.fpir, "not known with fewer than two people")),
        ("FNIR", known(report.fnir, "not known while nobody has two samples")),
    ]);
    let mut table = Table::new(["STRANGERS", "THRESHOLD", "95 % BOUNDS", "FNIR THERE"]);
    for line in &report.targets {
        let share = share(line.fpir);
        table.row(match line.threshold {
            Some(t) => [
                share,
                format!("{:.4}", t.value),
                format!("{:.4} to {:.4}", t.low, t.high),
                known(line.fnir, "-"),
            ],
            None => [share, "-".into(), "too few people".into(), "-".into()],
        });
    }
    text.push_str(&cameras(report));
    text.push_str("\nThresholds that keep to a share of strangers:\n");
    text.push_str(&table.text(""));
    text.push_str(&alike(report));
    text.push_str(&weak(report));
    text.push_str(
        "\nFPIR: strangers taken for somebody, as everybody's samples are by all others. FNIR: enrolled people not found by\n\
         their other samples. In brackets 95 % bounds, by people. Another camera sees worse pictures than an enrolment.\n",
    );
    text
}

fn share(fpir: f64) -> String {
    format!("{} %", (fpir * 1e8).round() / 1e6)
}

fn threshold(derived: &Derived) -> String {
    let Derived { threshold, low, high, basis, fpir, visits } = derived;
    let seen = words::count(*visits as u64, "visit of a stranger", "visits of strangers");
    let from = match basis {
        Basis::Fixed => return format!("{threshold:.4}, from the settings"),
        Basis::Prior => "from what is known of such models; too few people were measured".to_owned(),
        Basis::Measured => format!("from the enrolled people and {seen}"),
        Basis::Camera => format!("from {seen} to this camera and what is known of the others"),
    };
    let expected = fpir.map_or_else(String::new, |fpir| format!("; lets {} in", share(fpir)));
    format!("{threshold:.4} ({low:.4} to {high:.4}), {from}{expected}")
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
    let mut table = Table::new(["LOOK ALIKE", "AND", "DISTANCE"]);
    for Pair { ids: [a, b], distance } in &report.alike {
        table.row([a.clone(), b.clone(), format!("{distance:.3}")]);
    }
    format!(
        "\n{} within the threshold{}\n{}",
        words::count(report.alike_pairs as u64, "pair of people", "pairs of people"),
        more(report.alike_pairs, report.alike.len()),
        table.text("")
    )
}

fn weak(report: &GalleryReport) -> String {
    let mut table = Table::new(["WEAK", "SAMPLES", "MISSED BY THE OTHERS"]);
    for Weak { id, samples, missed } in &report.weak {
        table.row([id.clone(), samples.to_string(), missed.to_string()]);
    }
    format!(
        "\n{} with one sample, or with samples that their others do not find{}\n{}",
        words::count(report.weak_people as u64, "person", "people"),
        more(report.weak_people, report.weak.len()),
        table.text("")
    )
}

fn more(all: usize, shown: usize) -> String {
    if all > shown { format!("; the first {shown}:") } else { String::new() }
}

#[cfg(test)]
pub(super) mod tests {
    use gatehouse_store::store::{Bin, TargetLine};

    use super::*;

    pub(in crate::cli::gallery) fn report() -> GalleryReport {
        let (threshold, low, high) = (0.42, 0.4, 0.44);
        let derived =
            Derived { threshold, low, high, basis: Basis::Measured, fpir: Some(0.001), visits: 12.0 };
        let rate = Some(Estimate { rate: 0.02, low: 0.01, high: 0.04 });
        GalleryReport {
            model: "dlib-128".into(),
            people: 3,
            samples: 5,
            measured: 5,
            threshold: 0.42,
            target_fpir: Some(0.001),
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
    fn the_report_names_alike_and_weak_people_and_says_what_is_not_known() {
        let text = text(&report());
        for part in [
            "0.4200 (0.4000 to 0.4400), from the enrolled people and 12 visits of strangers; lets 0.1 % in",
            "0.4200, from the settings",
            "2.00 % (1.00 to 4.00)",
            "not known while nobody",
            "too few people",
            "7 pairs of people within the threshold; the first 1:",
            "anna",
            "carl",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
