//! Renders recorded terminal lines as an SVG picture.

use std::fmt::Write as _;

/// Columns of the pictured terminal.
pub(crate) const COLUMNS: usize = 80;
/// Width of a character in pixels, at the font size below.
const CHARACTER_WIDTH: f32 = 8.4;
/// Font size in pixels.
const FONT_SIZE: usize = 14;
/// Distance of two lines in pixels.
const LINE_HEIGHT: usize = 19;
/// Space around the text in pixels.
const MARGIN: usize = 16;
/// Height of the title bar in pixels.
const TITLE_HEIGHT: usize = 34;

/// A terminal window with these lines. Escape sequences for colors become styles.
pub(crate) fn svg(title: &str, lines: &[String]) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "hundreds of pixels")]
    let width = (COLUMNS as f32 * CHARACTER_WIDTH) as usize + 2 * MARGIN;
    let height = TITLE_HEIGHT + lines.len() * LINE_HEIGHT + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\">\n<title>{}</title>\n<style>\n\
         text {{ font: {FONT_SIZE}px ui-monospace, \"DejaVu Sans Mono\", Menlo, Consolas, monospace; fill: #d0d7de; white-space: pre }}\n\
         .bold {{ font-weight: bold; fill: #ffffff }}\n.dim {{ fill: #848d97 }}\n.red {{ fill: #ff7b72 }}\n\
         .green {{ fill: #56d364 }}\n.yellow {{ fill: #e3b341 }}\n</style>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#0d1117\"/>\n",
        escaped(title)
    );
    for (number, color) in ["#ff5f57", "#febc2e", "#28c840"].iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(svg, "<circle cx=\"{}\" cy=\"17\" r=\"6\" fill=\"{color}\"/>", 20 + 20 * number);
    }
    let _ = writeln!(
        svg,
        "<text class=\"dim\" x=\"{}\" y=\"22\" text-anchor=\"middle\">{}</text>",
        width / 2,
        escaped(title)
    );
    for (number, line) in lines.iter().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let y = TITLE_HEIGHT + number * LINE_HEIGHT + FONT_SIZE;
        let _ = write!(svg, "<text xml:space=\"preserve\" x=\"{MARGIN}\" y=\"{y}\">");
        for span in spans(line) {
            let text = escaped(span.text);
            let _ = match span.class {
                "" => write!(svg, "{text}"),
                class => write!(svg, "<tspan class=\"{class}\">{text}</tspan>"),
            };
        }
        svg.push_str("</text>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

/// Text in one style.
#[derive(Debug, PartialEq, Eq)]
struct Span<'a> {
    class: &'static str,
    text: &'a str,
}

/// Splits a line at its escape sequences. The last sequence decides: styles are not combined.
fn spans(line: &str) -> Vec<Span<'_>> {
    let mut spans = Vec::new();
    let mut class = "";
    for (number, part) in line.split("\x1b[").enumerate() {
        let text = match part.split_once('m').filter(|_| number > 0) {
            Some((code, text)) => {
                class = class_of(code);
                text
            }
            None => part,
        };
        if !text.is_empty() {
            spans.push(Span { class, text });
        }
    }
    spans
}

fn class_of(code: &str) -> &'static str {
    match code {
        "1" => "bold",
        "2" => "dim",
        "31" => "red",
        "32" => "green",
        "33" => "yellow",
        _ => "",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_become_styles_and_markup_is_escaped() {
        let line = "a \x1b[32mb < c\x1b[0m d";
        assert_eq!(
            spans(line),
            [
                Span { class: "", text: "a " },
                Span { class: "green", text: "b < c" },
                Span { class: "", text: " d" },
            ]
        );
        let svg = svg("x & y", &[line.to_owned(), String::new()]);
        assert!(svg.contains("<title>x &amp; y</title>"));
        assert!(svg.contains("a <tspan class=\"green\">b &lt; c</tspan> d</text>"));
        assert_eq!(svg.matches("<text xml:space").count(), 1, "an empty line needs no element");
    }
}
