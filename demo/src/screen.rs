//! What is shown. On a terminal: lines above, a few that change below. Elsewhere: plain lines.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Lines that change, below those that stay.
pub(crate) const STATUS_LINES: usize = 6;

/// The terminal, or whatever standard output is.
#[derive(Debug)]
pub(crate) struct Screen {
    live: Option<Live>,
    is_coloured: bool,
}

#[derive(Debug)]
struct Live {
    bars: MultiProgress,
    status: OnceLock<Vec<ProgressBar>>,
}

impl Screen {
    /// Looks at what standard output is.
    pub(crate) fn new() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let live = is_terminal.then(|| Live {
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::stdout()),
            status: OnceLock::new(),
        });
        Self { live, is_coloured: is_terminal && std::env::var_os("NO_COLOR").is_none() }
    }

    /// Whether lines can change.
    pub(crate) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// A line that stays. Errors of a closed output are nobody's concern: the exit code tells how it went.
    pub(crate) fn line(&self, text: &str) {
        match &self.live {
            Some(live) => drop(live.bars.println(text)),
            None => drop(writeln!(io::stdout(), "{text}")),
        }
    }

    /// A line that says what comes next.
    pub(crate) fn heading(&self, text: &str) {
        self.line("");
        self.line(&self.bold(&format!("== {text}")));
    }

    /// The lines that change; plain output gets them as lines, so call it there less often.
    pub(crate) fn status(&self, lines: [String; STATUS_LINES]) {
        let Some(live) = &self.live else {
            lines.iter().for_each(|line| self.line(&format!("   {line}")));
            return;
        };
        let add = || live.bars.add(ProgressBar::no_length().with_style(style("{wide_msg}")));
        let bars = live.status.get_or_init(|| (0..STATUS_LINES).map(|_| add()).collect());
        for (bar, line) in bars.iter().zip(lines) {
            bar.set_message(line);
        }
    }

    /// Takes the lines that change away.
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

    /// For what is well.
    pub(crate) fn green(&self, text: &str) -> String {
        self.styled("32", text)
    }

    /// For what deserves a look.
    pub(crate) fn yellow(&self, text: &str) -> String {
        self.styled("33", text)
    }

    /// For what is wrong.
    pub(crate) fn red(&self, text: &str) -> String {
        self.styled("31", text)
    }

    /// For what matters less.
    pub(crate) fn dim(&self, text: &str) -> String {
        self.styled("2", text)
    }

    fn styled(&self, code: &str, text: &str) -> String {
        if self.is_coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A style from a template of ours; the plain bar where it is none, which a look at the screen shows.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
