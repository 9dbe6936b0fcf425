//! Searches comments, texts and names for words.

use super::Place;
use super::code::Code;
use super::lexer::{self, Kind};
use super::sources::{Language, Source};
use super::words::{self, EXCEPTIONS};

/// Where a piece of prose is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// In a comment or a document.
    Comment,
    /// In a string of a program, or anything of a script or an SQL file.
    Text,
    /// In a name.
    Name,
}

/// A word that was searched for, and where it was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The word.
    pub word: &'static str,
    /// In what it was found.
    pub context: Where,
    /// Its position.
    pub place: Place,
    /// The line or name around.
    pub around: String,
}

/// One line of prose, or a name.
#[derive(Debug, Clone)]
pub struct Piece {
    context: Where,
    place: Place,
    text: String,
    /// The text in small letters with single spaces around each word.
    spaced: String,
}

/// All comments, texts and names.
pub fn pieces(sources: &[Source], code: &Code) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for source in sources.iter().filter(|source| source.path != words::PATH) {
        match source.language {
            Language::Rust => rust(source, &mut pieces),
            Language::Prose => lines(source, Where::Comment, &mut pieces),
            Language::Sql => marked(source, "--", &mut pieces),
            Language::Hash => marked(source, "#", &mut pieces),
        }
    }
    for name in code.names.iter().filter(|name| name.place.path != words::PATH) {
        pieces.push(piece(Where::Name, name.place.clone(), &name.name));
    }
    pieces
}

/// Words in comments and documents, for a rate.
pub fn comment_words(pieces: &[Piece]) -> usize {
    let comments = pieces.iter().filter(|piece| piece.context == Where::Comment);
    comments.map(|piece| piece.spaced.split_whitespace().count()).sum()
}

/// All places of `words`, without the exceptions.
pub fn find(pieces: &[Piece], words: &[&'static str]) -> Vec<Found> {
    let mut found = Vec::new();
    for piece in pieces {
        for word in words {
            let is_allowed = EXCEPTIONS
                .iter()
                .any(|exception| exception.path == piece.place.path && exception.word == *word);
            if !is_allowed && piece.spaced.contains(&format!(" {word} ")) {
                let around = piece.text.trim().to_owned();
                found.push(Found { word, context: piece.context, place: piece.place.clone(), around });
            }
        }
    }
    found
}

fn piece(context: Where, place: Place, text: &str) -> Piece {
    let mut spaced = String::from(" ");
    let mut before = ' ';
    for c in text.chars() {
        let begins = c.is_uppercase() && before.is_lowercase();
        if begins || !c.is_alphanumeric() {
            spaced.push(' ');
        }
        if c.is_alphanumeric() {
            spaced.extend(c.to_lowercase());
        }
        before = c;
    }
    spaced.push(' ');
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let spaced = format!(" {} ", words.join(" "));
    Piece { context, place, text: text.to_owned(), spaced }
}

fn rust(source: &Source, pieces: &mut Vec<Piece>) {
    for part in lexer::rust(&source.text) {
        let context = match part.kind {
            Kind::Comment => Where::Comment,
            Kind::Text => Where::Text,
            Kind::Code => continue,
        };
        pieces.push(piece(context, Place { path: source.path.clone(), line: part.line }, part.text));
    }
}

fn lines(source: &Source, context: Where, pieces: &mut Vec<Piece>) {
    for (number, line) in source.text.lines().enumerate() {
        pieces.push(piece(context, Place { path: source.path.clone(), line: number + 1 }, line));
    }
}

/// A file whose comments begin with a mark. What comes before the mark counts as text.
fn marked(source: &Source, mark: &str, pieces: &mut Vec<Piece>) {
    for (number, line) in source.text.lines().enumerate() {
        let place = Place { path: source.path.clone(), line: number + 1 };
        let begins = |at: usize| line[..at].chars().next_back().is_none_or(char::is_whitespace);
        let comment = line.match_indices(mark).map(|(at, _)| at).find(|at| begins(*at));
        let (text, comment) = line.split_at(comment.unwrap_or(line.len()));
        for (context, text) in [(Where::Text, text), (Where::Comment, comment)] {
            if !text.trim().is_empty() {
                pieces.push(piece(context, place.clone(), text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_comments_texts_and_names_of_all_languages() {
        let source = |path: &str, language, text: &str| Source {
            path: path.to_owned(),
            language,
            text: text.to_owned(),
            is_test: false,
        };
        let sources = [
            source("a.rs", Language::Rust, "// The Alpha, and alphabet.\nconst X: &str = \"an alpha\";\n"),
            source("b.sql", Language::Sql, "select 1; -- alpha\ncreate table alpha ();\n"),
            source("c.toml", Language::Hash, "# see\n#alpha = 1\n"),
        ];
        let mut code = Code::default();
        for name in ["isAlpha", "alpha_max", "alphas"] {
            let place = Place { path: "a.rs".to_owned(), line: 9 };
            code.names.push(super::super::code::NamedPlace { name: name.to_owned(), place });
        }
        let pieces = pieces(&sources, &code);
        let found = find(&pieces, &["alpha"]);
        let places: Vec<String> = found.iter().map(|found| found.place.to_string()).collect();
        assert_eq!(places, ["a.rs:1", "a.rs:2", "b.sql:1", "b.sql:2", "c.toml:2", "a.rs:9", "a.rs:9"]);
        assert_eq!(comment_words(&pieces), 8);
    }
}
