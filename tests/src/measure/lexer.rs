//! Splits Rust source into comments, string texts and code. The parser drops comments, so they are found here.

/// What a part of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The text of a comment, without its marks.
    Comment,
    /// The text of a string literal, without its quotes.
    Text,
    /// Everything else.
    Code,
}

/// A part of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<'a> {
    /// What it is.
    pub kind: Kind,
    /// Line, from 1.
    pub line: usize,
    /// The text, without a line break.
    pub text: &'a str,
}

/// The parts of a Rust file, in order. A part that spans lines comes once per line.
pub fn rust(source: &str) -> Vec<Part<'_>> {
    let mut lexer = Lexer { source, at: 0, line: 1, parts: Vec::new() };
    while lexer.at < source.len() {
        lexer.step();
    }
    lexer.parts
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: usize,
    parts: Vec<Part<'a>>,
}

impl<'a> Lexer<'a> {
    /// Takes the next comment, literal or piece of code.
    fn step(&mut self) {
        let rest = &self.source[self.at..];
        if rest.starts_with("//") {
            let end = rest.find('\n').unwrap_or(rest.len());
            let marks = rest.len() - rest.trim_start_matches(['/', '!']).len();
            self.take(Kind::Comment, marks.min(end), end, end);
        } else if rest.starts_with("/*") {
            let end = block_comment(rest);
            self.take(Kind::Comment, 2, end.saturating_sub(2).max(2), end);
        } else if let Some(literal) = string(rest, self.follows_a_word()) {
            self.take(Kind::Text, literal.begin, literal.end, literal.length);
        } else if let Some(length) = character(rest) {
            self.take(Kind::Code, 0, length, length);
        } else {
            let first = rest.chars().next().map_or(1, char::len_utf8);
            let length =
                rest[first..].find(['/', '"', '\'', 'r', 'b', 'c', '\n']).map_or(rest.len(), |n| n + first);
            self.take(Kind::Code, 0, length, length);
        }
    }

    /// Whether the character before is part of a name: then `r"` is the end of that name.
    fn follows_a_word(&self) -> bool {
        self.source[..self.at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
    }

    /// Keeps `begin..end` of what follows as one part per line, and goes on after `length`.
    fn take(&mut self, kind: Kind, begin: usize, end: usize, length: usize) {
        let before = self.source[self.at..self.at + begin].matches('\n').count();
        for (number, text) in self.source[self.at + begin..self.at + end].split('\n').enumerate() {
            if !text.is_empty() {
                self.parts.push(Part { kind, line: self.line + before + number, text });
            }
        }
        self.line += self.source[self.at..self.at + length].matches('\n').count();
        self.at += length;
    }
}

/// The length of a block comment, which can contain others.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

struct Literal {
    begin: usize,
    end: usize,
    length: usize,
}

/// A string literal at the beginning of `text`, raw or not.
fn string(text: &str, follows_a_word: bool) -> Option<Literal> {
    let prefix = if follows_a_word { 0 } else { text.len() - text.trim_start_matches(['b', 'c', 'r']).len() };
    if prefix > 2 {
        return None;
    }
    let after = &text[prefix..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    let is_raw = text[..prefix].contains('r');
    if !after[hashes..].starts_with('"') || (hashes > 0 && !is_raw) {
        return None;
    }
    let begin = prefix + hashes + 1;
    let body = &text[begin..];
    let end = if is_raw {
        let close = format!("\"{}", "#".repeat(hashes));
        body.find(&close).unwrap_or(body.len())
    } else {
        let mut is_escaped = false;
        let quote = body.char_indices().find(|(_, c)| {
            let found = *c == '"' && !is_escaped;
            is_escaped = *c == '\\' && !is_escaped;
            found
        });
        quote.map_or(body.len(), |(at, _)| at)
    };
    Some(Literal { begin, end: begin + end, length: (begin + end + 1 + hashes).min(text.len()) })
}

/// The length of a character literal at the beginning of `text`; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    let mut chars = body.char_indices();
    let (_, first) = chars.next()?;
    if first == '\\' {
        let close = body[2..].find('\'')?;
        return Some(1 + 2 + close + 1);
    }
    let (at, next) = chars.next()?;
    (next == '\'').then_some(1 + at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str, kind: Kind) -> Vec<(usize, String)> {
        let mut lines: Vec<(usize, String)> = Vec::new();
        for part in rust(source).into_iter().filter(|part| part.kind == kind) {
            match lines.last_mut().filter(|last| kind == Kind::Code && last.0 == part.line) {
                Some(last) => last.1.push_str(part.text),
                None => lines.push((part.line, part.text.to_owned())),
            }
        }
        lines
    }

    #[test]
    fn lexer_separates_comments_texts_and_code() {
        let source = "//! Head.\nlet a = \"one // no\\\" comment\"; // tail\n/* block /* inner */\nend */\n\
                      let b = r#\"raw \" text\"#; let c = '\"'; let d: &'static str = b\"x\";\n";
        assert_eq!(
            found(source, Kind::Comment),
            [(1, " Head."), (2, " tail"), (3, " block /* inner */"), (4, "end ")]
                .map(|(line, text)| (line, text.to_owned()))
        );
        assert_eq!(
            found(source, Kind::Text),
            [(2, "one // no\\\" comment"), (5, "raw \" text"), (5, "x")]
                .map(|(line, text)| (line, text.to_owned()))
        );
        let code = found(source, Kind::Code);
        assert_eq!(code[1], (5, "let b = ; let c = '\"'; let d: &'static str = ;".to_owned()));
    }

    #[test]
    fn name_that_ends_in_r_before_a_text_is_code() {
        assert_eq!(found("bar\"x\"", Kind::Code), [(1, "bar".to_owned())]);
        assert_eq!(found("concat!(\"a\\\\\", \"b\")", Kind::Text).len(), 2);
    }
}
