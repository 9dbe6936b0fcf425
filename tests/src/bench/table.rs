//! A table of a benchmark, printed for people or as JSON for programs.

use std::fmt;

use serde_json::{Map, Value, json};

/// A table with one line per measurement.
#[derive(Debug, Clone)]
pub struct Table {
    /// What was measured, in one line.
    pub title: String,
    /// Names of the columns, with units.
    pub columns: Vec<String>,
    /// Lines, each with a value per column: text or a number.
    pub rows: Vec<Vec<Value>>,
    /// What a reader must know to read it right.
    pub notes: Vec<String>,
}

impl Table {
    /// A table without lines.
    pub fn new(title: &str, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&name| name.to_owned()).collect();
        Self { title: title.to_owned(), columns, rows: Vec::new(), notes: Vec::new() }
    }

    /// `{"title", "rows": [{column: value}], "notes"}`.
    pub fn to_json(&self) -> Value {
        let row = |row: &Vec<Value>| {
            Value::Object(self.columns.iter().cloned().zip(row.iter().cloned()).collect::<Map<_, _>>())
        };
        json!({
            "title": self.title,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

/// A value as the terminal shows it: three significant digits, thousands apart.
pub(super) fn shown(value: &Value) -> String {
    let Some(number) = value.as_f64() else { return value.as_str().unwrap_or("-").to_owned() };
    if number.fract() != 0.0 && number.abs() < 100.0 {
        return format!("{number:.*}", if number.abs() < 10.0 { 2 } else { 1 });
    }
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && text != "-" {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(shown).collect()).collect();
        let width = |column: usize| {
            let longest =
                cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
            longest.unwrap_or(0).max(self.columns[column].chars().count())
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        writeln!(f, "{}", self.title)?;
        let rule: String = widths.iter().map(|w| "-".repeat(*w)).collect::<Vec<_>>().join("  ");
        for (number, row) in std::iter::once(&self.columns).chain(&cells).enumerate() {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                // Names to the left, numbers to the right.
                let is_name = self.rows.first().and_then(|row| row.get(column)).is_some_and(Value::is_string);
                if is_name {
                    write!(f, "{gap}{cell:<width$}")?;
                } else {
                    write!(f, "{gap}{cell:>width$}")?;
                }
            }
            writeln!(f)?;
            if number == 0 {
                writeln!(f, "{rule}")?;
            }
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_aligned_and_the_same_as_json() {
        let mut table = Table::new("Speed", &["what", "us", "ratio"]);
        table.rows.push(vec![json!("a scan"), json!(1234567), json!(0.5)]);
        table.rows.push(vec![json!("none"), Value::Null, json!(123.4)]);
        table.notes.push("lower is better".to_owned());
        let want = "Speed\nwhat           us  ratio\n------  ---------  -----\na scan  1,234,567   0.50\n\
                    none            -    123\n  lower is better\n";
        assert_eq!(table.to_string(), want);
        assert_eq!(table.to_json()["rows"][0]["us"], 1234567);
    }
}
