//! What standard output is: a terminal with a width, colors and local time, or a file or pipe with none of them.

use std::env;
use std::io::{BufRead, IsTerminal, Write, stderr, stdin, stdout};
use std::sync::OnceLock;

use gatehouse_control::types::Fault;

/// Columns of a terminal that does not report its width.
const DEFAULT_WIDTH: usize = 80;
const RESET: &str = "\u{1b}[0m";

/// Properties of standard output.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terminal {
    /// Number of columns; none for a file or pipe.
    pub(super) width: Option<usize>,
    /// Whether text may be colored.
    pub(super) has_color: bool,
}

/// A style of text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Style {
    /// For faults.
    Red,
    /// For notes.
    Yellow,
    /// For text that needs no attention.
    Dim,
}

impl Terminal {
    /// Standard output of this process.
    pub(super) fn of_stdout() -> Self {
        static TERMINAL: OnceLock<Terminal> = OnceLock::new();
        *TERMINAL.get_or_init(|| {
            if !stdout().is_terminal() {
                return Self::default();
            }
            let size = rustix::termios::tcgetwinsize(stdout()).ok();
            let width = size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
            // https://no-color.org: any value but the empty one switches colors off.
            let has_color = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            Self { width: Some(width.unwrap_or(DEFAULT_WIDTH)), has_color }
        })
    }

    /// The text in a style, or unchanged without colors.
    pub(super) fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Red => "\u{1b}[1;31m",
            Style::Yellow => "\u{1b}[33m",
            Style::Dim => "\u{1b}[2m",
        };
        if self.has_color { format!("{code}{text}{RESET}") } else { text.to_owned() }
    }
}

/// A step that cannot be undone.
#[derive(Debug)]
pub(super) struct Confirmation<'a> {
    /// Whether the command line has `--yes`.
    pub(super) yes: bool,
    /// What is about to happen, as a sentence.
    pub(super) step: &'a str,
    /// What the operator must type.
    pub(super) answer: &'a str,
}

/// Asks for a confirmation on a terminal. Scripts are not asked.
pub(super) fn confirm(confirmation: &Confirmation<'_>) -> Result<(), Fault> {
    match confirmation.yes || !stdin().is_terminal() {
        true => Ok(()),
        false => ask(confirmation, &mut stdin().lock(), &mut stderr().lock()),
    }
}

fn ask(
    confirmation: &Confirmation<'_>,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> Result<(), Fault> {
    let Confirmation { step, answer, .. } = confirmation;
    let cannot =
        |error| Fault::refused(format!("cannot ask for a confirmation: {error}")).advise("use --yes");
    write!(output, "{step} This cannot be undone. Type {answer} to continue: ").map_err(cannot)?;
    output.flush().map_err(cannot)?;
    let mut line = String::new();
    input.read_line(&mut line).map_err(cannot)?;
    match line.trim() == *answer {
        true => Ok(()),
        false => Err(Fault::refused("not confirmed: nothing was changed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_done_only_after_its_exact_answer() {
        let confirmation = Confirmation { yes: false, step: "Erases anna.", answer: "anna" };
        let mut output = Vec::new();
        assert!(ask(&confirmation, &mut "anna\n".as_bytes(), &mut output).is_ok());
        let question = String::from_utf8(output).unwrap();
        assert_eq!(question, "Erases anna. This cannot be undone. Type anna to continue: ");
        for answer in ["", "\n", "y\n", "ann\n"] {
            let fault = ask(&confirmation, &mut answer.as_bytes(), &mut Vec::new()).unwrap_err();
            assert_eq!(fault.code, gatehouse_control::exit::REFUSED);
        }
        assert!(confirm(&Confirmation { yes: true, ..confirmation }).is_ok());
    }

    #[test]
    fn text_is_colored_only_where_colors_are_wanted() {
        let color = Terminal { width: Some(80), has_color: true };
        assert_eq!(color.paint(Style::Red, "WRONG"), "\u{1b}[1;31mWRONG\u{1b}[0m");
        assert_eq!(Terminal::default().paint(Style::Red, "WRONG"), "WRONG");
    }
}
