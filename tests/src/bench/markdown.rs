//! Tables as a page of the documentation, with the command and the machine.

use std::fmt::Write as _;

use super::table::{Table, shown};

/// A page of benchmarks under a title, with the machine that ran them.
pub fn page(title: &str, tables: &[Table]) -> String {
    let command: Vec<String> = std::env::args().skip(1).map(|argument| without_folders(&argument)).collect();
    let head = format!("# {title}\n\nWritten by `./run bench {}`, not by hand.\n", command.join(" "));
    format!("{head}\nMachine: {}.\n{}", machine(), sections(tables))
}

/// A page of tables under a title that a command writes.
pub fn document(title: &str, command: &str, tables: &[Table]) -> String {
    format!("# {title}\n\nWritten by `{command}`, not by hand.\n{}", sections(tables))
}

fn sections(tables: &[Table]) -> String {
    let mut page = String::new();
    tables.iter().for_each(|table| section(table, &mut page));
    page
}

/// An argument without the folders of the files that it names.
fn without_folders(argument: &str) -> String {
    let last = |part: &str| part.rsplit('/').next().unwrap_or(part).to_owned();
    argument.split(',').map(last).collect::<Vec<_>>().join(",")
}

fn section(table: &Table, page: &mut String) {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## {}\n\n{}", table.title, line(table.columns.clone()));
    page.push_str(&line(vec!["---".to_owned(); table.columns.len()]));
    table.rows.iter().for_each(|row| page.push_str(&line(row.iter().map(shown).collect())));
    page.push('\n');
    table.notes.iter().for_each(|note| {
        let _ = writeln!(page, "- {note}");
    });
}

/// Processors, what they can do, and how busy they were: enough to judge a number, too little to name a machine.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = info.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    let flags: Vec<&str> = flags.unwrap_or_default().split_whitespace().collect();
    let known = ["avx2", "avx512bw", "avx512_vnni", "asimd", "asimddp", "neon"];
    let able: Vec<&str> = known.into_iter().filter(|flag| flags.contains(flag)).collect();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown");
    format!("{cores} cores, {} ({}), load {load} at the end", std::env::consts::ARCH, able.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn page_has_the_machine_and_every_line() {
        let mut table = Table::new("Speed", &["what", "us"]);
        table.rows.push(vec![json!("a scan"), json!(12)]);
        table.notes.push("lower is better".to_owned());
        let page = page("Benchmarks", &[table]);
        assert!(
            page.contains("## Speed\n\n| what | us |\n| --- | --- |\n| a scan | 12 |\n\n- lower is better\n")
        );
        assert!(page.contains("cores"));
    }
}
