//! Finds runs of identical code lines.

use std::collections::HashMap;

use super::Place;
use super::lexer::{self, Kind};
use super::sources::{Language, Source};

/// Shorter runs are not counted: signatures and literals of structs repeat by nature.
pub const RUN_LINES_MIN: usize = 8;

/// A run of lines that occurs at two places.
#[derive(Debug, Clone)]
pub struct Duplicate {
    /// The first place.
    pub first: Place,
    /// The second place.
    pub second: Place,
    /// Number of lines, without comments and empty ones.
    pub lines: usize,
}

struct Line {
    place: Place,
    text: String,
}

/// All duplicates, the longest first. A run at three places is reported twice.
pub fn duplicates(sources: &[Source]) -> Vec<Duplicate> {
    let files: Vec<Vec<Line>> = sources.iter().filter(|s| s.language == Language::Rust).map(lines).collect();
    // Where each window of lines occurred first.
    let mut seen: HashMap<Vec<&str>, Position> = HashMap::new();
    let mut found = Vec::new();
    for (file, lines) in files.iter().enumerate() {
        let mut line = 0;
        while line + RUN_LINES_MIN <= lines.len() {
            let window: Vec<&str> =
                lines[line..line + RUN_LINES_MIN].iter().map(|l| l.text.as_str()).collect();
            let Some(first) = seen.get(&window).copied() else {
                seen.insert(window, Position { file, line });
                line += 1;
                continue;
            };
            let other = &files[first.file];
            let length = (0..).take_while(|n| same(other.get(first.line + n), lines.get(line + n))).count();
            let overlaps = first.file == file && first.line + length > line;
            if overlaps {
                line += 1;
                continue;
            }
            found.push(Duplicate {
                first: other[first.line].place.clone(),
                second: lines[line].place.clone(),
                lines: length,
            });
            line += length;
        }
    }
    found.sort_by_key(|duplicate| std::cmp::Reverse(duplicate.lines));
    found
}

#[derive(Debug, Clone, Copy)]
struct Position {
    file: usize,
    line: usize,
}

fn same(first: Option<&Line>, second: Option<&Line>) -> bool {
    first.zip(second).is_some_and(|(first, second)| first.text == second.text)
}

/// The lines of code without comments, spaces, imports and lines of brackets only.
fn lines(source: &Source) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for part in lexer::rust(&source.text).into_iter().filter(|part| part.kind != Kind::Comment) {
        let place = Place { path: source.path.clone(), line: part.line };
        let text = part.text.split_whitespace().collect::<Vec<_>>().join(" ");
        match lines.last_mut().filter(|last| last.place.line == part.line) {
            Some(last) => last.text.push_str(&text),
            None => lines.push(Line { place, text }),
        }
    }
    lines.retain(|line| {
        line.text.chars().any(char::is_alphanumeric)
            && !line.text.starts_with("use ")
            && line.text != "super::*;"
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), language: Language::Rust, text: text.to_owned(), is_test: false }
    }

    #[test]
    fn run_is_found_whatever_its_spaces_and_comments() {
        let lines: Vec<String> = (0..9).map(|n| format!("let a{n} = {n};")).collect();
        let first = source("a.rs", &format!("use x;\nfn a() {{\n{}\n}}\n", lines.join("\n")));
        let second = source("b.rs", &format!("fn b() {{\n    {}\n}}\n", lines.join(" // c\n\n    ")));
        let found = duplicates(&[first, second]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].lines, found[0].second.to_string().as_str()), (9, "b.rs:2"));
        assert!(
            duplicates(&[source("a.rs", &lines[..7].join("\n")), source("b.rs", &lines.join("\n"))])
                .is_empty()
        );
    }
}
