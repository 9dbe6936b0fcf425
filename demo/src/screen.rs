//! The output. On a terminal: permanent lines above, status lines below that are updated. Elsewhere: plain lines.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Status lines below the permanent ones.
pub(crate) const STATUS_LINES: usize = 6;

/// Standard output, and a record of it for a picture.
#[derive(Debug)]
pub(crate) struct Screen {
    live: Option<Live>,
    is_colored: bool,
    record: Option<Mutex<Vec<String>>>,
}

#[derive(Debug)]
struct Live {
    bars: MultiProgress,
    status: OnceLock<Vec<ProgressBar>>,
}

/// Where a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// To the output and to the picture.
    Everywhere,
    /// To the output only: there are too many of its kind for a picture.
    Output,
}

impl Screen {
    /// Adapts to what standard output is.
    pub(crate) fn new(is_recorded: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let live = is_terminal.then(|| Live {
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::stdout()),
            status: OnceLock::new(),
        });
        let is_colored = is_recorded || (is_terminal && std::env::var_os("NO_COLOR").is_none());
        Self { live, is_colored, record: is_recorded.then(Mutex::default) }
    }

    /// Whether lines can be updated.
    pub(crate) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Prints a permanent line.
    pub(crate) fn line(&self, text: &str) {
        self.print(text, Keep::Everywhere);
    }

    /// Prints a permanent line. An error of a closed output is ignored: the exit code reports the outcome.
    pub(crate) fn print(&self, text: &str, keep: Keep) {
        match &self.live {
            Some(live) => drop(live.bars.println(text)),
            None => drop(writeln!(io::stdout(), "{text}")),
        }
        if keep == Keep::Everywhere {
            self.record(text);
        }
    }

    /// Adds a line to the picture without printing it.
    pub(crate) fn record(&self, text: &str) {
        if let Some(record) = &self.record {
            let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
            record.extend(text.split('\n').map(str::to_owned));
        }
    }

    /// The lines of the picture.
    pub(crate) fn recorded(&self) -> Vec<String> {
        let record = self.record.as_ref();
        record.map(|record| record.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap_or_default()
    }

    /// Prints a heading.
    pub(crate) fn heading(&self, text: &str) {
        self.line("");
        self.line(&self.bold(&format!("== {text}")));
    }

    /// Updates the status lines. Plain output gets them as further lines, so it should be called less often there.
    pub(crate) fn status(&self, lines: [String; STATUS_LINES]) {
        let Some(live) = &self.live else {
            lines.iter().for_each(|line| self.print(&format!("   {line}"), Keep::Output));
            return;
        };
        let add = || live.bars.add(ProgressBar::no_length().with_style(style("{wide_msg}")));
        let bars = live.status.get_or_init(|| (0..STATUS_LINES).map(|_| add()).collect());
        for (bar, line) in bars.iter().zip(lines) {
            bar.set_message(line);
        }
    }

    /// Removes the status lines.
    pub(crate) fn clear(&self) {
        if let Some(live) = &self.live {
            live.status.get().into_iter().flatten().for_each(ProgressBar::finish_and_clear);
        }
    }

    /// A progress bar over `total` steps.
    pub(crate) fn progress(&self, what: &str, total: u64) -> ProgressBar {
        let Some(live) = &self.live else { return ProgressBar::hidden() };
        let bar = live.bars.add(ProgressBar::new(total));
        bar.set_style(style("   {msg} [{bar:40.green}] {pos}/{len} {elapsed}").progress_chars("=> "));
        bar.set_message(what.to_owned());
        bar
    }

    /// For headings.
    pub(crate) fn bold(&self, text: &str) -> String {
        self.styled("1", text)
    }

    /// For success.
    pub(crate) fn green(&self, text: &str) -> String {
        self.styled("32", text)
    }

    /// For what deserves attention.
    pub(crate) fn yellow(&self, text: &str) -> String {
        self.styled("33", text)
    }

    /// For errors.
    pub(crate) fn red(&self, text: &str) -> String {
        self.styled("31", text)
    }

    /// For details.
    pub(crate) fn dim(&self, text: &str) -> String {
        self.styled("2", text)
    }

    fn styled(&self, code: &str, text: &str) -> String {
        if self.is_colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A style from a constant template. An invalid template gives the default bar, which is visible on the screen.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
