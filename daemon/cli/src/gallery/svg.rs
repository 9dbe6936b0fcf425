//! The gallery report as an SVG picture: two distributions of distances, and the threshold. It contains no name.

use std::fmt::Write;

use chrono::NaiveDate;
use gatehouse_store::store::{Bin, GalleryReport};

/// Size of the picture and its margin, in pixels.
const WIDTH: f32 = 800.0;
const HEIGHT: f32 = 420.0;
const MARGIN: f32 = 60.0;
const BOTTOM: f32 = HEIGHT - MARGIN;
/// Maximum number of labels on the axis.
const LABELS_MAX: f32 = 8.0;
const GREEN: &str = "#2a7f3f";
const RED: &str = "#b03030";

/// An SVG document that is being written.
struct Picture {
    svg: String,
    /// Distance at the right end of the axis.
    largest: f32,
}

/// Draws the report of the given day.
pub(super) fn draw(report: &GalleryReport, day: NaiveDate) -> String {
    let expected = report.derived.central.unwrap_or(report.threshold);
    let largest = report.bins.last().map_or(1.0, |bin| bin.to).max(expected * 1.1);
    let mut picture = Picture { svg: String::new(), largest };
    picture.add(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>"
    ));
    let model = escaped(&report.model);
    let title = format!("Distances of enrolled people, model {model}, {day}");
    picture.add(&format!("<text x=\"{MARGIN}\" y=\"20\" font-weight=\"bold\">{title}</text>"));
    picture.distribution(&report.bins, GREEN, |bin| bin.own);
    picture.distribution(&report.bins, RED, |bin| bin.other);
    picture.threshold(report.threshold, expected);
    picture.axis();
    picture.legend(report);
    picture.svg.push_str("</svg>");
    picture.svg
}

impl Picture {
    fn add(&mut self, element: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.svg, "{element}");
    }

    fn x(&self, distance: f32) -> f32 {
        MARGIN + distance / self.largest * (WIDTH - 2.0 * MARGIN)
    }

    fn distribution(&mut self, bins: &[Bin], color: &str, count: fn(&Bin) -> u32) {
        let most = bins.iter().map(count).max().unwrap_or(0).max(1) as f32;
        let mut path = format!("M{:.1} {BOTTOM:.1}", self.x(0.0));
        let mut from = 0.0;
        for bin in bins {
            let top = BOTTOM - count(bin) as f32 / most * (HEIGHT - 2.0 * MARGIN);
            // Writing to a String cannot fail.
            let _ = write!(path, " L{:.1} {top:.1} L{:.1} {top:.1}", self.x(from), self.x(bin.to));
            from = bin.to;
        }
        let end = self.x(from);
        self.add(&format!(
            "<path d=\"{path} L{end:.1} {BOTTOM:.1} Z\" fill=\"{color}\" fill-opacity=\"0.35\" stroke=\"{color}\"/>"
        ));
    }

    /// The threshold, and a grey band up to the distance at which the target is expected.
    fn threshold(&mut self, threshold: f32, expected: f32) {
        let at = self.x(threshold);
        let width = self.x(expected) - at;
        let height = BOTTOM - MARGIN;
        self.add(&format!(
            "<rect x=\"{at:.1}\" y=\"{MARGIN}\" width=\"{width:.1}\" height=\"{height:.1}\" fill-opacity=\"0.08\"/>"
        ));
        self.add(&format!(
            "<path d=\"M{at:.1} {:.1} V{BOTTOM:.1}\" stroke=\"black\" stroke-dasharray=\"6 4\"/>\n\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">threshold {threshold:.3}</text>",
            MARGIN - 8.0,
            MARGIN - 14.0
        ));
    }

    fn axis(&mut self) {
        self.add(&format!("<path d=\"M{MARGIN} {BOTTOM} H{}\" stroke=\"black\"/>", WIDTH - MARGIN));
        let step = round_step(self.largest / LABELS_MAX);
        let y = BOTTOM + 18.0;
        for number in 0..=(self.largest / step) as u32 {
            let distance = step * number as f32;
            let at = self.x(distance);
            self.add(&format!("<text x=\"{at:.1}\" y=\"{y}\" text-anchor=\"middle\">{distance:.2}</text>"));
        }
        self.add(&format!("<text x=\"{}\" y=\"{y}\">distance</text>", WIDTH - MARGIN + 2.0));
    }

    fn legend(&mut self, report: &GalleryReport) {
        let band = match report.derived.central {
            Some(_) => " <tspan dx=\"12\">grey: safety margin below the expected target</tspan>",
            None => "",
        };
        self.add(&format!(
            "<text x=\"{MARGIN}\" y=\"{:.0}\" font-size=\"12\"><tspan fill=\"{GREEN}\">to the same person</tspan> \
             <tspan fill=\"{RED}\" dx=\"12\">to the nearest other person</tspan> \
             <tspan dx=\"12\">{} people, {} samples</tspan>{band}</text>",
            HEIGHT - 12.0,
            report.people,
            report.samples
        ));
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is not below the value.
fn round_step(value: f32) -> f32 {
    let power = 10.0_f32.powf(value.max(f32::MIN_POSITIVE).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= value)
        .unwrap_or(power)
}

/// Text for XML: the name of a model comes from outside.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::report::tests::report;

    fn day() -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 11, 20).unwrap()
    }

    #[test]
    fn picture_shows_both_distributions_the_threshold_and_no_name() {
        let svg = draw(&report(), day());
        assert_eq!(svg.matches("<path").count(), 4, "{svg}");
        assert_eq!(svg.matches("<rect").count(), 2, "background and band: {svg}");
        assert!(svg.contains("threshold 0.420") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(svg.contains("model dlib-128, 2026-11-20") && svg.contains(">distance</text>"), "{svg}");
        assert!(!svg.contains("anna") && !svg.contains("NaN"), "{svg}");
        let empty = GalleryReport { bins: Vec::new(), ..report() };
        assert!(!draw(&empty, day()).contains("NaN"));
    }

    #[test]
    fn labels_of_the_axis_are_round_numbers() {
        for (value, step) in [(0.11, 0.2), (0.3, 0.5), (0.051, 0.1)] {
            assert!((round_step(value) - step).abs() < 1e-6, "{value}");
        }
        let svg = draw(&report(), day());
        for label in [">0.10<", ">0.20<", ">0.80<"] {
            assert!(svg.contains(label), "{label}: {svg}");
        }
    }
}
