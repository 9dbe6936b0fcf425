//! `gatehouse doctor`: findings of the daemon, and of the tool itself, which also works while the daemon is down.

mod certificates;
mod machine;
pub(super) mod outside;
mod secrets;

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use chrono::Utc;
use gatehouse_config::Config;

use super::session::Session;
use super::table::printable;
use super::terminal::{Style, Terminal};
use gatehouse_config::DEFAULT_CONFIG;
use gatehouse_control::answers::{Finding, Grade, Status};
use gatehouse_control::exit;
use gatehouse_control::types::{Fault, Request};
use gatehouse_machine::checks::free_bytes;
use gatehouse_machine::checks::{clock, free_space};
use gatehouse_machine::notes::notes;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Settings file to check while the daemon is not reachable.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Print only notes and faults.
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(args: &Args, session: &mut Session) -> Result<(), Fault> {
    let (findings, code) = match session.ask::<Vec<Finding>>(&Request::Doctor) {
        Ok(mut findings) => {
            findings.extend(version(&session.ask::<Status>(&Request::Status)?));
            findings.extend(machine::findings());
            findings.extend(secrets::without_tpm());
            let known = Config::load(&args.config, &[]).ok();
            findings.extend(known.iter().flat_map(certificates::findings));
            findings.extend(known.iter().flat_map(noted));
            let wrong = findings.iter().any(|finding| finding.grade == Grade::Wrong);
            (findings, if wrong { exit::REFUSED } else { exit::OK })
        }
        Err(fault) if fault.code == exit::UNREACHABLE => {
            (without_daemon(&args.config, fault), exit::UNREACHABLE)
        }
        Err(fault) => return Err(fault),
    };
    let mut findings = findings;
    findings.retain(|finding| !args.quiet || finding.grade != Grade::Ok);
    session.show(&findings, |findings| text(findings, Terminal::of_stdout()))?;
    match code {
        exit::OK => Ok(()),
        // The findings are already on standard output.
        code => Err(Fault::with_code(code, "")),
    }
}

fn version(status: &Status) -> Option<Finding> {
    (status.version != gatehouse_control::VERSION).then(|| {
        let message = format!("the daemon is {}, this tool {}", status.version, gatehouse_control::VERSION);
        Finding::note("version", message, "restart the daemon: systemctl restart gatehoused")
    })
}

fn without_daemon(config: &Path, fault: Fault) -> Vec<Finding> {
    let daemon =
        Finding { what: "daemon".into(), grade: Grade::Wrong, words: fault.message, advice: fault.advice };
    let mut findings = vec![daemon, settings(config)];
    findings.extend(machine::findings());
    findings.push(clock(Utc::now()));
    if let Ok(known) = Config::load(config, &[]) {
        findings.push(free_space(free_bytes(&known.state.directory), known.media.reserve_free_bytes));
        findings.push(secrets::finding(&known));
        findings.extend(secrets::without_tpm());
        findings.extend(certificates::findings(&known));
        findings.extend(noted(&known));
        findings.extend(outside::findings(&known));
    }
    findings.push(Finding::ok("version", format!("gatehouse {}", gatehouse_control::VERSION)));
    findings
}

/// Settings that are valid but unusual.
fn noted(config: &Config) -> Vec<Finding> {
    notes(config).into_iter().map(|note| Finding::note("settings", note.text, note.advice)).collect()
}

fn settings(config: &Path) -> Finding {
    let name = config.display();
    match File::open(config).map_err(|error| error.kind()) {
        Err(ErrorKind::PermissionDenied) => {
            Finding::note("settings", format!("{name} cannot be read by this user"), "run as root")
        }
        Err(_) => Finding::wrong(
            "settings",
            format!("{name} does not exist"),
            "name the settings file: --config FILE",
        ),
        Ok(_) => match Config::load(config, &[]) {
            Ok(_) => Finding::ok("settings", format!("{name} has no faults")),
            Err(faults) => {
                Finding::wrong("settings", faults.to_string(), "correct the settings, then start the daemon")
            }
        },
    }
}

/// The findings with the faults last, next to their number.
pub(super) fn text(findings: &[Finding], terminal: Terminal) -> String {
    let width = findings.iter().map(|finding| finding.what.chars().count()).max().unwrap_or(0);
    let indent = " ".repeat(width + 9);
    let mut text = String::new();
    let of_grade = |grade| findings.iter().filter(move |finding| finding.grade == grade);
    for finding in of_grade(Grade::Ok).chain(of_grade(Grade::Note)).chain(of_grade(Grade::Wrong)) {
        let lines: Vec<_> = finding.words.lines().map(printable).collect();
        let message = lines.join(&format!("\n{indent}"));
        let what = printable(&finding.what);
        let line = match finding.grade {
            Grade::Ok => terminal.paint(Style::Dim, &format!("ok     {what:width$}  {message}")),
            Grade::Note => format!("{}   {what:width$}  {message}", terminal.paint(Style::Yellow, "note")),
            Grade::Wrong => terminal.paint(Style::Red, &format!("WRONG  {what:width$}  {message}")),
        };
        text.push_str(&format!("{line}\n"));
        if let Some(advice) = &finding.advice {
            text.push_str(&format!("{indent}-> {}\n", printable(advice)));
        }
    }
    text.push_str(&match of_grade(Grade::Wrong).count() {
        0 => "\nno faults\n".to_owned(),
        1 => "\n1 fault\n".to_owned(),
        many => format!("\n{many} faults\n"),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_red_and_last() {
        let findings = [
            Finding::wrong("broker", "away", "check"),
            Finding::ok("disk", "free"),
            Finding::note("x", "y", "z"),
        ];
        assert_eq!(
            text(&findings, Terminal::default()),
            "ok     disk    free\nnote   x       y\n               -> z\nWRONG  broker  away\n               -> check\n\n\
             1 fault\n"
        );
        let colored = text(&findings, Terminal { width: Some(80), has_color: true });
        assert!(colored.contains("\u{1b}[1;31mWRONG  broker  away"), "{colored}");
        assert!(text(&[], Terminal::default()).contains("no faults"));
    }
}
