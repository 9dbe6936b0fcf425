//! Writes roff with the `man` macros.

use std::fmt::Write;

/// A page that is being written.
pub(super) struct Roff {
    text: String,
}

impl Roff {
    /// Begins a page with its title line.
    pub(super) fn new(name: &str, section: u8) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let mut page = Self { text: String::new() };
        page.raw(&format!(".TH {} {section} \"\" \"Gatehouse {version}\"", escaped(&name.to_uppercase())));
        // No hyphenation, and a ragged right margin: options and paths stay whole.
        page.raw(".nh\n.ad l");
        page
    }

    pub(super) fn section(&mut self, title: &str) {
        self.raw(&format!(".SH {}", escaped(title)));
    }

    pub(super) fn subsection(&mut self, title: &str) {
        self.raw(&format!(".SS {}", escaped(title)));
    }

    pub(super) fn paragraph(&mut self, text: &str) {
        if !text.is_empty() {
            self.raw(&format!(".PP\n{}", escaped(text)));
        }
    }

    /// Lines that must not be joined, each in bold.
    pub(super) fn bold_lines(&mut self, lines: &[String]) {
        let lines: Vec<_> = lines.iter().map(|line| format!(".B {}", escaped(line))).collect();
        self.raw(&lines.join("\n.br\n"));
    }

    /// An entry of a list. The term is roff already, from [`bold`] and [`italic`].
    pub(super) fn entry(&mut self, term: &str, text: &str) {
        self.raw(&format!(".TP\n{term}\n{}", escaped(text)));
    }

    /// A command line below its purpose.
    pub(super) fn example(&mut self, purpose: &str, line: &str) {
        self.raw(&format!(".PP\n{}\n.PP\n.RS 4\n.nf\n{}\n.fi\n.RE", escaped(purpose), escaped(line)));
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    /// Adds a line of roff.
    pub(super) fn raw(&mut self, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

pub(super) fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", escaped(text))
}

pub(super) fn italic(text: &str) -> String {
    format!("\\fI{}\\fR", escaped(text))
}

/// Text that roff prints unchanged.
pub(super) fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('"', "\\(dq");
    let lines =
        text.lines().map(|line| if line.starts_with('.') { format!("\\&{line}") } else { line.to_owned() });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_roff_would_interpret_is_escaped() {
        assert_eq!(escaped("a-b 'c'\n.d \\e"), "a\\-b \\(aqc\\(aq\n\\&.d \\ee");
    }
}
