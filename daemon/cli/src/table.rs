//! Text tables: aligned columns, numbers to the right.

use std::borrow::Cow;
use std::fmt::Write;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::terminal::Terminal;

/// Space between two columns.
const GAP: &str = "  ";
/// Width below which a column is not cut, so that names remain distinct.
const CUT_WIDTH_MIN: usize = 10;

/// Rows under a head.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names.
    pub(super) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { rows: vec![head.map(str::to_owned).into()] }
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| printable(&cell)).into());
    }

    /// The table as text, or `empty` without rows. It fits the terminal; a file or pipe gets all text.
    pub(super) fn text(&self, empty: &str) -> String {
        self.render(empty, Terminal::of_stdout().width)
    }

    fn render(&self, empty: &str, limit: Option<usize>) -> String {
        if self.rows.len() < 2 {
            return empty.to_owned();
        }
        let widths = self.widths(limit);
        let right: Vec<bool> = (0..widths.len()).map(|at| self.is_number(at)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let cell = cut(cell, widths[at]);
                let pad = " ".repeat(widths[at] - cell.width());
                let gap = if at == 0 { "" } else { GAP };
                // Writing to a String cannot fail.
                let _ = match right[at] {
                    true => write!(line, "{gap}{pad}{cell}"),
                    false => write!(line, "{gap}{cell}{pad}"),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// The width of each column. While the table is wider than the limit, the widest column that may be cut gets narrower.
    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let columns = self.rows[0].len();
        let width = |at: usize| self.rows.iter().map(|row| row[at].width()).max().unwrap_or(0);
        let mut widths: Vec<usize> = (0..columns).map(width).collect();
        let least = |at: usize| self.rows[0][at].width().max(CUT_WIDTH_MIN);
        let gaps = GAP.len() * (columns - 1);
        while limit.is_some_and(|limit| widths.iter().sum::<usize>() + gaps > limit) {
            let cuttable = (0..columns).filter(|at| widths[*at] > least(*at) && !self.is_whole(*at));
            let Some(widest) = cuttable.max_by_key(|at| widths[*at]) else { break };
            widths[widest] -= 1;
        }
        widths
    }

    /// Whether cells of a column must not be cut: part of a number or of a time is wrong.
    fn is_whole(&self, at: usize) -> bool {
        let is_time =
            |cell: &String| cell.len() >= 10 && cell.bytes().take(4).all(|byte| byte.is_ascii_digit());
        self.is_number(at) || self.rows.iter().skip(1).all(|row| row[at] == "-" || is_time(&row[at]))
    }

    /// Whether a column holds only numbers, with or without a unit, and empty cells.
    fn is_number(&self, at: usize) -> bool {
        let cells = self.rows.iter().skip(1).map(|row| row[at].as_str());
        let mut filled = cells.filter(|cell| !matches!(*cell, "" | "-")).peekable();
        let number = |cell: &str| {
            let digits = cell.split(' ').next().unwrap_or_default();
            digits.parse::<f64>().is_ok() && cell.split(' ').count() <= 2
        };
        filled.peek().is_some() && filled.all(number)
    }
}

/// One line per name and value, with the values aligned.
pub(super) fn pairs(list: &[(&str, String)]) -> String {
    let width = list.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in list {
        let pad = " ".repeat(width - name.width());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}{pad}{GAP}{}", printable(value));
    }
    text
}

/// Replaces control characters: text from outside (names, kinds, attributes) must not control the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The text, or its beginning and an ellipsis if it is wider than the limit.
fn cut(text: &str, limit: usize) -> Cow<'_, str> {
    if text.width() <= limit {
        return text.into();
    }
    let mut short = String::new();
    let mut width = 1;
    for c in text.chars() {
        width += c.width().unwrap_or(0);
        if width > limit {
            break;
        }
        short.push(c);
    }
    short.push('…');
    short.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_are_right_aligned() {
        let mut table = Table::new(["ID", "SAMPLES", "SIZE", "NAME"]);
        table.row(["a".into(), "5".into(), "1.5 MB".into(), "Zoë".into()]);
        table.row(["long-id".into(), "12".into(), "-".into(), "B".into()]);
        assert_eq!(
            table.text(""),
            "ID       SAMPLES    SIZE  NAME\n\
             a              5  1.5 MB  Zoë\n\
             long-id       12       -  B\n"
        );
    }

    #[test]
    fn a_table_fits_the_terminal_by_cutting_its_widest_texts() {
        let mut table = Table::new(["SEQ", "RECEIVED", "NAME", "EVENT"]);
        let event = "content-4c3bc5565ccd37c4221a1cc139c6f23d1-6617f0d6bd4d3";
        let time = "2026-11-20 22:54:01+01:00";
        table.row(["1742".into(), time.into(), "徐志摩 🚪".into(), event.into()]);
        table.row(["1743".into(), time.into(), "Anna".into(), "e1".into()]);
        let text = table.render("", Some(80));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.iter().all(|line| line.width() <= 80), "{text}");
        assert!(
            lines[1].contains(time) && lines[1].contains("content-4c3bc5") && lines[1].ends_with('…'),
            "{text}"
        );
        let event_at = |line: &str, event: &str| line[..line.find(event).unwrap()].width();
        assert_eq!(event_at(lines[1], "content"), event_at(lines[2], "e1"), "{text}");
        assert!(table.render("", None).contains(event), "a pipe gets all text");
        assert!(table.render("", Some(20)).contains("1742"), "numbers and times stay whole");
    }

    #[test]
    fn an_empty_table_prints_the_given_text() {
        assert_eq!(Table::new(["ID"]).text("no rows\n"), "no rows\n");
    }

    #[test]
    fn text_from_a_camera_cannot_control_the_terminal() {
        let mut table = Table::new(["KIND"]);
        table.row(["\u{1b}[2Jx\n".into()]);
        assert!(!table.text("").contains('\u{1b}'));
        assert_eq!(table.text("").lines().count(), 2);
        assert!(!pairs(&[("kind", "\u{1b}]0;".into())]).contains('\u{1b}'));
    }
}
