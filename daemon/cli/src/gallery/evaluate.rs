//! `gatehouse gallery evaluate --encodings FILE.csv`: runs in this process.

use std::fmt::Write;
use std::fs::File;
use std::io::{BufReader, stdin};
use std::path::{Path, PathBuf};

use crate::format;
use crate::session::Session;
use crate::table::{Table, pairs};
use gatehouse_control::types::Fault;
use gatehouse_gallery::calibration::CalibrationTitle;
use gatehouse_gallery::evaluate::{
    Closed, Estimate, Evaluation, Method, Norms, Open, Plan, Point, Samples, Target, calibrate, evaluate,
};
use gatehouse_model::Metric;

/// Relative spread of norms above which a model does not normalize its encodings.
const UNIT_NORM_SPREAD: f64 = 0.02;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// CSV file: person, number, number, ... on each line, with or without a header; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    encodings: PathBuf,
    /// Show the error rates at this threshold; can be repeated.
    #[arg(long, value_name = "T", value_parser = threshold)]
    threshold: Vec<f32>,
    /// Distance between two encodings.
    #[arg(long, value_enum, default_value_t = MetricName::Euclidean)]
    metric: MetricName,
    /// Number of people to enroll in each trial [default: four of five].
    #[arg(long, value_name = "N")]
    people: Option<usize>,
    /// Number of samples to enroll of each person who has more [default: all, up to 32].
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Random seed that selects the strangers.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write the impostor statistics of the model to this file for `gallery calibrate`; it contains no encodings.
    #[arg(long, value_name = "FILE", requires = "model")]
    save_calibration: Option<PathBuf>,
    /// Name of the model that made the encodings, as in `gallery.model`.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Source of the encodings, to be stored in the calibration.
    #[arg(long, value_name = "TEXT", default_value = "own encodings")]
    source: String,
}

/// The evaluation, and what a saved calibration leaves out.
#[derive(serde::Serialize)]
struct Answer {
    #[serde(flatten)]
    evaluation: Evaluation,
    /// Pairs of people; none where no calibration was saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pairs_set_aside: Option<usize>,
}

fn pairs_of_people(pairs: usize) -> String {
    format::count(pairs as u64, "pair of people", "pairs of people")
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum MetricName {
    Euclidean,
    Cosine,
}

fn threshold(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|number: &f32| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "expected a distance, 0 or more".to_owned())
}

pub(crate) fn run(args: &Args, session: &mut Session) -> Result<(), Fault> {
    let samples = read(&args.encodings)?;
    let plan = Plan {
        metric: match args.metric {
            MetricName::Euclidean => Metric::Euclidean,
            MetricName::Cosine => Metric::Cosine,
        },
        thresholds: args.threshold.clone(),
        people: args.people,
        samples: args.samples,
        seed: args.seed,
    };
    let mut pairs_set_aside = None;
    if let Some((file, model)) = args.save_calibration.as_ref().zip(args.model.as_ref()) {
        let title = CalibrationTitle { model: model.clone(), source: args.source.clone() };
        let measured = calibrate(&samples, plan.metric, title, args.seed).map_err(Fault::refused)?;
        let json = serde_json::to_vec_pretty(&measured.calibration).map_err(Fault::refused)?;
        let written = std::fs::write(file, [&json[..], b"\n"].concat());
        written.map_err(|error| Fault::refused(format!("cannot write {}: {error}", file.display())))?;
        pairs_set_aside = Some(measured.pairs_set_aside);
    }
    let evaluation = evaluate(&samples, &plan).map_err(Fault::refused)?;
    session.show(&Answer { evaluation, pairs_set_aside }, |answer| {
        let mut text = text(&answer.evaluation, args.metric);
        if let Some(pairs) = answer.pairs_set_aside {
            // Writing to a String cannot fail.
            let _ =
                writeln!(text, "\nSet aside in the calibration as label errors: {}.", pairs_of_people(pairs));
        }
        text
    })
}

fn read(file: &Path) -> Result<Samples, Fault> {
    let name = file.display();
    let samples = if file == Path::new("-") {
        Samples::read(stdin().lock())
    } else {
        let open =
            File::open(file).map_err(|error| Fault::refused(format!("cannot read {name}: {error}")))?;
        Samples::read(BufReader::with_capacity(1 << 16, open))
    };
    samples.map_err(|fault| {
        Fault::refused(format!("{name}: {fault}"))
            .advise("each line must be: person, number, number, ...; the numbers are the encoding")
    })
}

fn text(evaluation: &Evaluation, metric: MetricName) -> String {
    let mut text = summary(evaluation, metric);
    text.push_str(&closed(&evaluation.closed));
    text.push_str(&open(&evaluation.open));
    text.push_str(
        "\nFPIR: false positive identification rate, strangers accepted. FNIR: false negative identification rate, enrolled\n\
         people missed. In parentheses: 95 % confidence bounds, by people.\n\
         nearest: distance to a person's nearest sample; mean: to the mean of the samples; either: the smaller one.\n",
    );
    text
}

fn summary(evaluation: &Evaluation, metric: MetricName) -> String {
    let people = format::count(evaluation.people as u64, "person", "people");
    let Norms { min, p1, mean, p99, max } = evaluation.norms;
    let mut text = pairs(&[
        ("people", format!("{people}, {} with two encodings or more", evaluation.people_with_several)),
        ("encodings", format!("{} of {} numbers", evaluation.encodings, evaluation.dimensions)),
        ("norms", format!("mean {mean:.3}, from {min:.3} to {max:.3}; 98 % from {p1:.3} to {p99:.3}")),
        ("metric", format!("{metric:?}").to_lowercase()),
    ]);
    let chosen = evaluation.closed.rank1[0];
    let other = evaluation.closed.rank1_other_metric;
    let spread = (p99 - p1) / mean > UNIT_NORM_SPREAD;
    if spread && other.low > chosen.high {
        let name = match metric {
            MetricName::Euclidean => "cosine",
            MetricName::Cosine => "euclidean",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\nThe other metric identifies more people: try --metric {name}.");
    }
    text
}

fn closed(closed: &Closed) -> String {
    let [nearest, mean, either] = closed.rank1.map(percent);
    let mut text = format!(
        "\nRank-1 identification, closed set, leave one out, {}:\n  \
         nearest {nearest}, mean {mean}, either {either}\n  nearest in the other metric {}\n",
        format::count(closed.probes as u64, "probe", "probes"),
        percent(closed.rank1_other_metric)
    );
    if closed.twins > 0 {
        let twins = format::count(closed.twins as u64, "probe has", "probes have");
        // Writing to a String cannot fail.
        let _ =
            writeln!(text, "  {twins} the same numbers as a sample of another person: correct the labels");
    }
    text
}

fn open(open: &Open) -> String {
    let samples = match open.samples {
        1 => "1 sample".to_owned(),
        samples => format!("up to {samples} samples"),
    };
    let mut text = format!(
        "\nOpen set, {} with {} enrolled, {samples} each, {} of strangers and {} of enrolled people:\n",
        format::count(open.trials as u64, "trial", "trials"),
        format::count(open.people as u64, "person", "people"),
        format::count(open.stranger_probes as u64, "probe", "probes"),
        open.enrolled_probes
    );
    let mut table = Table::new(["THRESHOLD", "DISTANCE TO", "FPIR", "FNIR"]);
    for Point { method, threshold, fpir, fnir } in &open.points {
        table.row([format!("{threshold:.4}"), name(*method), percent(*fpir), percent(*fnir)]);
    }
    text.push_str(&table.text(""));
    text.push_str("\nThresholds for target rates of accepted strangers:\n");
    let mut table = Table::new(["TARGET FPIR", "DISTANCE TO", "THRESHOLD", "95 % BOUNDS", "FPIR", "FNIR"]);
    for Target { fpir, method, threshold, point } in &open.targets {
        let share = format!("{:.1} %", fpir * 100.0);
        table.row(match threshold.zip(point.as_ref()) {
            Some((t, point)) => [
                share,
                name(*method),
                format!("{:.4}", t.value),
                format!("{:.4} to {:.4}", t.low, t.high),
                percent(point.fpir),
                percent(point.fnir),
            ],
            None => {
                let too_few = "too few strangers".to_owned();
                [share, name(*method), "-".into(), too_few, "-".into(), "-".into()]
            }
        });
    }
    text.push_str(&table.text(""));
    text
}

fn name(method: Method) -> String {
    match method {
        Method::Nearest => "nearest",
        Method::Mean => "mean",
        Method::Either => "either",
    }
    .to_owned()
}

pub(super) fn percent(Estimate { rate, low, high }: Estimate) -> String {
    format!("{:.2} % ({:.2} to {:.2})", rate * 100.0, low * 100.0, high * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_evaluated_without_a_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("people.csv");
        let mut csv = "person,a,b,c\n".to_owned();
        for person in 0..30 {
            for sample in 0..4 {
                let x = f64::from(person % 6);
                let y = f64::from(person / 6);
                writeln!(csv, "\"p{person}\",{x},{y},{}", 1.0 + f64::from(sample) * 0.01).unwrap();
            }
        }
        std::fs::write(&path, csv).unwrap();
        let samples = read(&path).unwrap();
        let plan =
            Plan { metric: Metric::Euclidean, thresholds: vec![0.5], people: None, samples: None, seed: 1 };
        let shown = text(&evaluate(&samples, &plan).unwrap(), MetricName::Euclidean);
        for part in ["30 people", "120 of 3 numbers", "24 people enrolled", "0.5000", "nearest", "0.00 % ("] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }

    #[test]
    fn a_faulty_file_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("people.csv");
        std::fs::write(&path, "a,1,2\nb,1,x\n").unwrap();
        let fault = read(&path).unwrap_err();
        assert!(
            fault.message.contains("line 2: field 3") && fault.code == gatehouse_control::exit::REFUSED,
            "{fault}"
        );
        assert!(read(&folder.path().join("none")).unwrap_err().message.contains("cannot read"));
        assert!(threshold("nan").is_err() && threshold("-1").is_err() && threshold("0.6") == Ok(0.6));
    }
}
