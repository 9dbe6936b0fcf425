//! The gallery report as an SVG picture: two distributions of distances, and the threshold. It contains no name.

use std::fmt::Write;

use gatehouse_store::store::{Bin, GalleryReport};

/// Size of the picture and its margin, in pixels.
const WIDTH: f32 = 800.0;
const HEIGHT: f32 = 400.0;
const MARGIN: f32 = 50.0;
/// Number of labels on the axis.
const LABELS: usize = 6;

/// Draws the report.
pub(super) fn draw(report: &GalleryReport) -> String {
    let largest = report
        .bins
        .last()
        .map_or(1.0, |bin| bin.to)
        .max(report.derived.central.unwrap_or(report.threshold) * 1.1);
    let x = |distance: f32| MARGIN + distance / largest * (WIDTH - 2.0 * MARGIN);
    let bottom = HEIGHT - MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    // Writing to a String cannot fail.
    for (color, count) in [("#2a7f3f", (|bin| bin.own) as fn(&Bin) -> u32), ("#b03030", |bin| bin.other)] {
        let most = report.bins.iter().map(count).max().unwrap_or(0).max(1) as f32;
        let mut path = format!("M{:.1} {bottom:.1}", x(0.0));
        let mut from = 0.0;
        for bin in &report.bins {
            let top = bottom - count(bin) as f32 / most * (HEIGHT - 2.0 * MARGIN);
            let _ = write!(path, " L{:.1} {top:.1} L{:.1} {top:.1}", x(from), x(bin.to));
            from = bin.to;
        }
        let _ = writeln!(
            svg,
            "<path d=\"{path} L{:.1} {bottom:.1} Z\" fill=\"{color}\" fill-opacity=\"0.35\" stroke=\"{color}\"/>",
            x(from)
        );
    }
    let at = x(report.threshold);
    let (low, high) = (x(report.threshold), x(report.derived.central.unwrap_or(report.threshold)));
    let _ = writeln!(
        svg,
        "<rect x=\"{low:.1}\" y=\"{MARGIN}\" width=\"{:.1}\" height=\"{:.1}\" fill-opacity=\"0.08\"/>",
        high - low,
        bottom - MARGIN
    );
    let _ = writeln!(
        svg,
        "<path d=\"M{at:.1} {:.1} V{bottom:.1}\" stroke=\"black\" stroke-dasharray=\"6 4\"/>\n\
         <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">T {:.3}</text>",
        MARGIN - 10.0,
        MARGIN - 16.0,
        report.threshold
    );
    let _ = writeln!(svg, "<path d=\"M{MARGIN} {bottom} H{}\" stroke=\"black\"/>", WIDTH - MARGIN);
    for label in 0..LABELS {
        let distance = largest * label as f32 / (LABELS - 1) as f32;
        let (at, y) = (x(distance), bottom + 18.0);
        let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{y}\" text-anchor=\"middle\">{distance:.2}</text>");
    }
    let _ = writeln!(
        svg,
        "<text x=\"{MARGIN}\" y=\"{:.0}\"><tspan fill=\"#2a7f3f\">distance to the same person</tspan> \
         <tspan fill=\"#b03030\" dx=\"12\">to the nearest other person</tspan> \
         <tspan dx=\"12\">{} people, {} samples</tspan></text>\n</svg>",
        HEIGHT - 10.0,
        report.people,
        report.samples
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::report::tests::report;

    #[test]
    fn picture_shows_both_distributions_the_threshold_and_no_name() {
        let svg = draw(&report());
        assert_eq!(svg.matches("<path").count(), 4, "{svg}");
        assert_eq!(svg.matches("<rect").count(), 2, "background and bounds: {svg}");
        assert!(svg.contains("T 0.420") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(!svg.contains("anna") && !svg.contains("NaN"), "{svg}");
        let empty = GalleryReport { bins: Vec::new(), ..report() };
        assert!(!draw(&empty).contains("NaN"));
    }
}
