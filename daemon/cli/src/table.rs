//! Text tables: aligned columns, numbers to the right.

use std::fmt::Write;

/// Space between two columns.
const GAP: &str = "  ";

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

    /// The table as text, or `empty` without rows.
    pub(super) fn text(&self, empty: &str) -> String {
        if self.rows.len() < 2 {
            return empty.to_owned();
        }
        let columns = self.rows[0].len();
        let width = |at: usize| self.rows.iter().map(|row| length(&row[at])).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let right: Vec<bool> = (0..columns).map(|at| self.is_number(at)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[at] - length(cell));
                let (before, after) = if right[at] { (pad.as_str(), "") } else { ("", pad.as_str()) };
                let gap = if at == 0 { "" } else { GAP };
                // Writing to a String cannot fail.
                let _ = write!(line, "{gap}{before}{cell}{after}");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
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
    let width = list.iter().map(|(name, _)| length(name)).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in list {
        let pad = " ".repeat(width - length(name));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}{pad}{GAP}{}", printable(value));
    }
    text
}

/// Replaces control characters: text from outside (names, kinds, attributes) must not control the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn length(text: &str) -> usize {
    text.chars().count()
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
