//! Files of this repository as they are shipped, and the blocks of commands and settings in them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The place of a file of this repository.
pub fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// The text of a file of this repository.
///
/// # Errors
/// If it cannot be read.
pub fn text(name: &str) -> Result<String> {
    std::fs::read_to_string(place(name)).with_context(|| name.to_owned())
}

/// The fenced blocks of this language in Markdown; the empty language is a block without one.
pub fn blocks(markdown: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        let Some(begun) = line.strip_prefix("```") else { continue };
        let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        if begun == language {
            found.push(block.join("\n"));
        }
    }
    found
}

/// The text between single backticks in Markdown, without the fenced blocks.
pub fn inline_code(markdown: &str) -> Vec<String> {
    let mut is_prose = true;
    let prose = markdown.lines().filter(|line| {
        let fence = line.starts_with("```");
        is_prose ^= fence;
        is_prose && !fence
    });
    let prose = prose.collect::<Vec<_>>().join(" ");
    prose.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_inline_code_are_separated() {
        let markdown = "Run `a b` or `c`:\n```\nd `e`\n```\nthen\n```sql\nselect 1;\n```\nand `f`.";
        assert_eq!(blocks(markdown, ""), ["d `e`"]);
        assert_eq!(blocks(markdown, "sql"), ["select 1;"]);
        assert_eq!(inline_code(markdown), ["a b", "c", "f"]);
    }
}
