//! Writes the manual pages into a folder: gatehoused(8) and gatehouse(1) from the same words as `--help`,
//! gatehouse.toml(5) from `config/edge.toml`. `packaging/build` runs it; nothing of it is shipped.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use gatehouse_daemon::{arguments::Arguments, cli};

/// Every setting with its meaning.
const SETTINGS: &str = include_str!("../../config/edge.toml");
/// Columns of the help texts in a page of 80.
const WIDTH: usize = 72;

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(env::args_os().nth(1).context("usage: manual FOLDER")?);
    fs::create_dir_all(&folder)?;
    let others = "gatehouse.toml (5)";
    fs::write(
        folder.join("gatehoused.8"),
        program(Arguments::command(), 8, &format!("gatehouse (1), {others}"))?,
    )?;
    fs::write(folder.join("gatehouse.1"), program(cli::command(), 1, &format!("gatehoused (8), {others}"))?)?;
    fs::write(folder.join("gatehouse.toml.5"), settings()?)?;
    Ok(())
}

/// The page of a program: what it is, and the help of it and of all its commands.
fn program(mut command: Command, section: u8, others: &str) -> anyhow::Result<String> {
    command.build();
    let name = command.get_name().to_owned();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut page = head(&name, section, about.trim_end_matches('.'))?;
    writeln!(page, ".SH SYNOPSIS\n.B {name}\n[OPTIONS] [COMMAND]\n.SH DESCRIPTION")?;
    help(&mut page, &mut command)?;
    writeln!(page, ".SH COMMANDS")?;
    commands(&mut page, &mut command, &name)?;
    writeln!(page, ".SH SEE ALSO")?;
    for other in others.split(", ") {
        writeln!(page, ".BR {other}")?;
    }
    Ok(page)
}

fn commands(page: &mut String, command: &mut Command, path: &str) -> anyhow::Result<()> {
    for inner in command.get_subcommands_mut() {
        if inner.is_hide_set() || inner.get_name() == "help" {
            continue;
        }
        let path = format!("{path} {}", inner.get_name());
        if inner.has_subcommands() {
            commands(page, inner, &path)?;
        } else {
            writeln!(page, ".SS {path}")?;
            help(page, inner)?;
        }
    }
    Ok(())
}

/// The help of one command as it is printed, line by line.
fn help(page: &mut String, command: &mut Command) -> anyhow::Result<()> {
    writeln!(page, ".nf")?;
    for line in command.render_long_help().to_string().trim_end().lines() {
        for part in folded(line) {
            writeln!(page, "{}", escaped(&part))?;
        }
    }
    writeln!(page, ".fi")?;
    Ok(())
}

/// A line in parts of at most [`WIDTH`] columns, all of them as far to the right as the first.
fn folded(line: &str) -> Vec<String> {
    let indent = &line[..line.len() - line.trim_start().len()];
    let mut parts = vec![indent.to_owned()];
    for word in line[indent.len()..].split(' ') {
        let last = parts.len() - 1;
        let part = &mut parts[last];
        if part.len() + word.len() >= WIDTH && part.len() > indent.len() {
            parts.push(format!("{indent}{word}"));
        } else {
            if part.len() > indent.len() {
                part.push(' ');
            }
            part.push_str(word);
        }
    }
    parts
}

/// The page of the settings: a comment explains the keys that follow it.
fn settings() -> anyhow::Result<String> {
    let mut page = head("gatehouse.toml", 5, "settings of the Gatehouse appliance")?;
    writeln!(
        page,
        ".SH FILES\n.I /etc/gatehouse/gatehouse.toml\n.br\n.I /etc/gatehouse/conf.d/*.toml\n.SH DESCRIPTION"
    )?;
    let mut comment = Vec::new();
    let mut keys = Vec::new();
    for line in SETTINGS.lines().chain([""]) {
        let bare = line.trim_start_matches('#');
        if let Some(text) = line.strip_prefix("# ") {
            comment.push(escaped(text));
        } else if bare.starts_with('[') {
            paragraph(&mut page, &comment)?;
            comment.clear();
            writeln!(page, ".SH {}", escaped(bare))?;
        } else if bare.contains(" = ") {
            keys.push(escaped(bare));
        } else if !keys.is_empty() {
            writeln!(page, ".TP\n.B {}", keys.join("\n.TQ\n.B "))?;
            writeln!(page, "{}", comment.join("\n"))?;
            comment.clear();
            keys.clear();
        } else if line.is_empty() || line == "#" {
            paragraph(&mut page, &comment)?;
            comment.clear();
        }
    }
    writeln!(page, ".SH SEE ALSO\n.BR gatehoused (8),\n.BR gatehouse (1)")?;
    Ok(page)
}

fn paragraph(page: &mut String, lines: &[String]) -> anyhow::Result<()> {
    if !lines.is_empty() {
        writeln!(page, ".PP\n{}", lines.join("\n"))?;
    }
    Ok(())
}

fn head(name: &str, section: u8, about: &str) -> anyhow::Result<String> {
    let mut page = String::new();
    let version = env!("CARGO_PKG_VERSION");
    writeln!(page, ".TH {} {section} \"\" \"Gatehouse {version}\"", name.to_uppercase())?;
    writeln!(page, ".nh\n.ad l\n.SH NAME\n{name} \\- {}", escaped(about))?;
    Ok(page)
}

/// A line that the formatter prints as it is.
fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('"', "\\(dq");
    if line.starts_with('.') { format!("\\&{line}") } else { line }
}
