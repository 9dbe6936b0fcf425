//! The figures as tables, for the terminal and for the documents.

use anyhow::Result;
use serde_json::{Value, json};

use super::code::{self, Code, DurationConstant, Function};
use super::duplicates::{self, Duplicate, RUN_LINES_MIN};
use super::language::{self, Found, Piece, Where};
use super::sources::{self, Language, Source};
use super::words::{FORBIDDEN, WATCHED};
use crate::bench::table::Table;

/// A function of the product has no more lines.
pub const FUNCTION_LINES_MAX: usize = 70;
/// A function has no more parameters, without `self`.
pub const PARAMETERS_MAX: usize = 5;
/// A public type has no more public methods.
pub const PUBLIC_METHODS_MAX: usize = 20;
/// Functions and types that a table of the largest names.
const LARGEST: usize = 10;
/// Places that a table names where not all are asked for.
const PLACES: usize = 20;

/// All measurements of the repository.
pub struct Measurements {
    /// The files.
    pub sources: Vec<Source>,
    /// What the parser found.
    pub code: Code,
    /// Comments, texts and names.
    pub pieces: Vec<Piece>,
    /// Runs of identical lines.
    pub duplicates: Vec<Duplicate>,
}

impl Measurements {
    /// Reads and measures the repository.
    ///
    /// # Errors
    /// A file that cannot be read or parsed.
    pub fn take() -> Result<Self> {
        let sources = sources::sources()?;
        let code = code::code(&sources)?;
        let pieces = language::pieces(&sources, &code);
        let duplicates = duplicates::duplicates(&sources);
        Ok(Self { sources, code, pieces, duplicates })
    }

    /// Functions of the product that are too long.
    pub fn long_functions(&self) -> impl Iterator<Item = &Function> {
        self.code.functions.iter().filter(|f| !f.is_test && f.lines > FUNCTION_LINES_MAX)
    }

    /// Functions with a tuple as a parameter.
    pub fn tuple_parameters(&self) -> impl Iterator<Item = &Function> {
        self.code.functions.iter().filter(|function| !function.tuples.is_empty())
    }

    /// Functions with too many parameters.
    pub fn many_parameters(&self) -> impl Iterator<Item = &Function> {
        self.code.functions.iter().filter(|function| function.parameters > PARAMETERS_MAX)
    }

    /// Constants of durations whose name does not say what they bound.
    pub fn unnamed_durations(&self) -> impl Iterator<Item = &DurationConstant> {
        self.code.durations.iter().filter(|constant| !constant.is_named())
    }

    /// Places of words that must not occur.
    pub fn forbidden_words(&self) -> Vec<Found> {
        language::find(&self.pieces, &FORBIDDEN)
    }
}

/// What a report shows.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Beginnings of paths; all, where there is none. They select places, not the figures of the whole.
    pub paths: Vec<String>,
    /// Whether every place is named, not only the first.
    pub all: bool,
}

impl Selection {
    fn has(&self, path: &str) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|begin| path.starts_with(begin.as_str()))
    }

    fn places(&self) -> usize {
        if self.all || !self.paths.is_empty() { usize::MAX } else { PLACES }
    }
}

/// All tables.
pub fn tables(measurements: &Measurements, selection: &Selection) -> Vec<Table> {
    let mut tables = vec![
        sizes(measurements, selection),
        lengths(measurements, selection),
        longest(measurements, selection),
        methods(measurements, selection),
        rules(measurements, selection),
        words(measurements, selection),
    ];
    tables.extend(places(measurements, selection));
    tables
}

fn sizes(measurements: &Measurements, selection: &Selection) -> Table {
    let mut table = Table::new("Files and lines of Rust", &["part", "files", "lines", "median", "longest"]);
    for (part, is_test) in [("product", false), ("tests and tools of tests", true)] {
        let mut lines: Vec<usize> = measurements
            .sources
            .iter()
            .filter(|s| s.language == Language::Rust && s.is_test == is_test && selection.has(&s.path))
            .map(|source| source.text.lines().count())
            .collect();
        lines.sort_unstable();
        let total: usize = lines.iter().sum();
        table.rows.push(vec![
            json!(part),
            json!(lines.len()),
            json!(total),
            json!(percentile(&lines, 50)),
            json!(lines.last()),
        ]);
    }
    table
}

fn lengths(measurements: &Measurements, selection: &Selection) -> Table {
    let mut table =
        Table::new("Lines of a function", &["part", "functions", "median", "99th percentile", "longest"]);
    for (part, is_test) in [("product", false), ("tests", true)] {
        let functions = measurements.code.functions.iter();
        let mut lines: Vec<usize> = functions
            .filter(|function| function.is_test == is_test && selection.has(&function.place.path))
            .map(|function| function.lines)
            .collect();
        lines.sort_unstable();
        table.rows.push(vec![
            json!(part),
            json!(lines.len()),
            json!(percentile(&lines, 50)),
            json!(percentile(&lines, 99)),
            json!(lines.last()),
        ]);
    }
    table
        .notes
        .push("from the signature to the closing brace; those of `#[cfg(test)]` count as tests".to_owned());
    table
}

fn longest(measurements: &Measurements, selection: &Selection) -> Table {
    let mut table = Table::new("Longest functions of the product", &["function", "place", "lines"]);
    let functions = measurements.code.functions.iter();
    let mut functions: Vec<&Function> =
        functions.filter(|function| !function.is_test && selection.has(&function.place.path)).collect();
    functions.sort_by_key(|function| std::cmp::Reverse(function.lines));
    for function in functions.into_iter().take(LARGEST) {
        table.rows.push(vec![json!(function.name), json!(function.place.to_string()), json!(function.lines)]);
    }
    table
}

fn methods(measurements: &Measurements, selection: &Selection) -> Table {
    let mut table =
        Table::new("Types with the most public methods", &["type", "crate", "methods", "files with an impl"]);
    let types = measurements.code.public_methods.iter();
    let mut types: Vec<_> =
        types.filter(|(_, places)| places.iter().any(|p| selection.has(&p.path))).collect();
    types.sort_by_key(|(_, places)| std::cmp::Reverse(places.len()));
    for (name, places) in types.into_iter().take(LARGEST) {
        let mut files: Vec<&str> = places.iter().map(|place| place.path.as_str()).collect();
        files.sort_unstable();
        files.dedup();
        table.rows.push(vec![
            json!(name.name),
            json!(name.crate_folder),
            json!(places.len()),
            json!(files.len()),
        ]);
    }
    table
}

fn rules(measurements: &Measurements, selection: &Selection) -> Table {
    let mut table = Table::new("Rules", &["rule", "product", "tests"]);
    let mut row = |rule: String, offenders: Vec<bool>| {
        let of_tests = offenders.iter().filter(|is_test| **is_test).count();
        table.rows.push(vec![json!(rule), json!(offenders.len() - of_tests), json!(of_tests)]);
    };
    let here = |function: &&Function| selection.has(&function.place.path);
    let code = &measurements.code;
    let long = code.functions.iter().filter(|function| function.lines > FUNCTION_LINES_MAX).filter(here);
    row(format!("functions with more than {FUNCTION_LINES_MAX} lines"), long.map(|f| f.is_test).collect());
    let tuples = measurements.tuple_parameters().filter(here).map(|function| function.is_test);
    row("functions with a tuple as a parameter".to_owned(), tuples.collect());
    let many = measurements.many_parameters().filter(here).map(|function| function.is_test);
    row(format!("functions with more than {PARAMETERS_MAX} parameters"), many.collect());
    let large = code.public_methods.values().filter(|places| places.len() > PUBLIC_METHODS_MAX);
    let large = large.filter(|places| places.iter().any(|place| selection.has(&place.path)));
    row(format!("types with more than {PUBLIC_METHODS_MAX} public methods"), large.map(|_| false).collect());
    let undocumented = code.undocumented.iter().filter(|item| selection.has(&item.place.path));
    row("public items without documentation".to_owned(), undocumented.map(|_| false).collect());
    let durations = code.durations.iter().filter(|constant| selection.has(&constant.place.path));
    row("constants of type Duration".to_owned(), durations.map(|constant| constant.is_test).collect());
    let unnamed = measurements.unnamed_durations().filter(|constant| selection.has(&constant.place.path));
    row(
        "of these, named without what they bound".to_owned(),
        unnamed.map(|constant| constant.is_test).collect(),
    );
    let repeated = measurements.duplicates.iter().filter(|duplicate| selection.has(&duplicate.second.path));
    let repeated: Vec<bool> = repeated.map(|d| sources::is_test_path(&d.second.path)).collect();
    row(format!("runs of at least {RUN_LINES_MIN} identical lines of code"), repeated);
    table
}

fn words(measurements: &Measurements, selection: &Selection) -> Table {
    let columns = ["word", "in comments", "in texts", "in names", "per 1,000 comment words"];
    let mut table = Table::new("Words", &columns);
    let total = language::comment_words(&measurements.pieces);
    let mut rows = |title: &str, words: &[&'static str]| {
        let found = language::find(&measurements.pieces, words);
        let found: Vec<&Found> = found.iter().filter(|found| selection.has(&found.place.path)).collect();
        let mut row = |name: &str, word: Option<&str>| {
            let found = found.iter().filter(|found| word.is_none_or(|word| found.word == word));
            let count = |context| found.clone().filter(|found| found.context == context).count();
            let comments = count(Where::Comment);
            let rate = per_thousand(comments, total);
            let counts = [comments, count(Where::Text), count(Where::Name)];
            if word.is_none() || counts.iter().any(|count| *count > 0) {
                let [comments, texts, names] = counts;
                table.rows.push(vec![json!(name), json!(comments), json!(texts), json!(names), rate]);
            }
        };
        row(title, None);
        words.iter().for_each(|word| row(&format!("  {word}"), Some(word)));
    };
    rows("forbidden", &FORBIDDEN);
    rows("often a metaphor (counted only)", &WATCHED);
    table.notes.push(format!("{total} words of comments and documents; a name counts once per file"));
    table
}

fn per_thousand(count: usize, total: usize) -> Value {
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let rate = count as f64 * 1000.0 / total.max(1) as f64;
    json!((rate * 100.0).round() / 100.0)
}

/// One table of places per broken rule.
fn places(measurements: &Measurements, selection: &Selection) -> Vec<Table> {
    let mut tables = Vec::new();
    let mut add = |title: String, lines: Vec<[String; 2]>| {
        if lines.is_empty() {
            return;
        }
        let mut table = Table::new(&title, &["place", "what"]);
        let shown = lines.len().min(selection.places());
        table.rows.extend(lines[..shown].iter().map(|[place, what]| vec![json!(place), json!(what)]));
        if shown < lines.len() {
            table.notes.push(format!("and {} more: --all, or the beginning of a path", lines.len() - shown));
        }
        tables.push(table);
    };
    let here = |function: &&Function| selection.has(&function.place.path);
    let long = measurements.long_functions().filter(here);
    add(
        format!("Functions with more than {FUNCTION_LINES_MAX} lines"),
        long.map(|f| [f.place.to_string(), format!("{}: {} lines", f.name, f.lines)]).collect(),
    );
    let tuples = measurements.tuple_parameters().filter(here);
    add(
        "Tuples as parameters".to_owned(),
        tuples.map(|f| [f.place.to_string(), format!("{}: {}", f.name, f.tuples.join(", "))]).collect(),
    );
    let many = measurements.many_parameters().filter(here);
    add(
        format!("Functions with more than {PARAMETERS_MAX} parameters"),
        many.map(|f| [f.place.to_string(), format!("{}: {}", f.name, f.parameters)]).collect(),
    );
    let unnamed = measurements.unnamed_durations().filter(|constant| selection.has(&constant.place.path));
    add(
        "Durations whose name does not say what they bound".to_owned(),
        unnamed.map(|constant| [constant.place.to_string(), constant.name.clone()]).collect(),
    );
    let undocumented = measurements.code.undocumented.iter().filter(|item| selection.has(&item.place.path));
    add(
        "Public items without documentation".to_owned(),
        undocumented.map(|item| [item.place.to_string(), item.name.clone()]).collect(),
    );
    let words = measurements.forbidden_words();
    let words = words.iter().filter(|found| selection.has(&found.place.path));
    add(
        "Forbidden words".to_owned(),
        words.map(|found| [found.place.to_string(), format!("{}: {}", found.word, found.around)]).collect(),
    );
    let repeated = measurements.duplicates.iter().filter(|duplicate| selection.has(&duplicate.second.path));
    add(
        format!("Runs of at least {RUN_LINES_MIN} identical lines"),
        repeated.map(|d| [d.second.to_string(), format!("{} lines of {}", d.lines, d.first)]).collect(),
    );
    tables
}

/// The value below which `percent` of the sorted values are.
fn percentile(sorted: &[usize], percent: usize) -> Option<usize> {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().checked_sub(1)?)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_of_few_values_is_one_of_them() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[1, 2, 3], 50), Some(2));
        assert_eq!(percentile(&[1, 2, 3], 99), Some(3));
    }

    #[test]
    fn repository_is_measured_and_paths_select_places() {
        let measurements = Measurements::take().expect("repository can be measured");
        assert!(measurements.code.functions.len() > 1_000);
        let selection = Selection { paths: vec!["no/such/folder".to_owned()], all: true };
        let tables = tables(&measurements, &selection);
        assert_eq!(tables.len(), 6, "no place is below the folder");
        assert_eq!(tables[0].rows[0][1], 0);
    }
}
