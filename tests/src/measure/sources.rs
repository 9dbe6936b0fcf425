//! The files of the repository, with what each belongs to.

use std::fs;
use std::io::Result;
use std::path::{Path, PathBuf};

/// What a file is written in, as far as the measurements differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Rust source.
    Rust,
    /// SQL: `--` comments; all names count.
    Sql,
    /// `#` comments: TOML, shell, Python, configuration files.
    Hash,
    /// Prose: Markdown.
    Prose,
}

/// A text file of the repository.
#[derive(Debug, Clone)]
pub struct Source {
    /// Path from the top folder.
    pub path: String,
    /// What it is written in.
    pub language: Language,
    /// The whole file.
    pub text: String,
    /// Whether all of it serves tests: it is not part of the product.
    pub is_test: bool,
}

impl Source {
    /// The crate's folder: the path before `src`, `tests`, `examples` or `fuzz_targets`.
    pub fn crate_folder(&self) -> &str {
        ["/src/", "/tests/", "/examples/", "/fuzz_targets/", "/benches/"]
            .iter()
            .filter_map(|part| self.path.find(part))
            .min()
            .map_or("", |end| &self.path[..end])
    }
}

/// The top folder of the repository that this crate was built in.
pub fn top() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder).to_owned()
}

/// Whether a path from the top folder belongs to tests and their tools.
pub fn is_test_path(path: &str) -> bool {
    ["tests/", "testkit/", "fuzz/"].iter().any(|folder| path.starts_with(folder))
        || path.contains("/tests/")
        || path.ends_with("/tests.rs")
}

/// All files below `folder`, without build output and hidden folders, except `.ci`.
///
/// # Errors
/// A folder that cannot be listed.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type()?;
            if kind.is_dir() && name != "target" && (!name.starts_with('.') || name == ".ci") {
                waiting.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// All files that people write, in order of their paths. Data, lock files, licences and the fuzz corpus are left out.
///
/// # Errors
/// A folder that cannot be listed.
pub fn sources() -> Result<Vec<Source>> {
    let top = top();
    let mut found = Vec::new();
    for file in files(&top)? {
        let path = file.strip_prefix(&top).unwrap_or(&file).display().to_string();
        let Some(language) = language(&path) else { continue };
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let is_test = is_test_path(&path);
        found.push(Source { path, language, text, is_test });
    }
    Ok(found)
}

fn language(path: &str) -> Option<Language> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let generated = ["Cargo.lock", "LICENSE-APACHE", "LICENSE-MIT", "copyright"];
    // The page of measurements lists the words that are searched for.
    if path.starts_with("fuzz/corpus/") || path == "docs/measurements.md" || generated.contains(&name) {
        return None;
    }
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("rs") => Some(Language::Rust),
        Some("sql") => Some(Language::Sql),
        Some("md") => Some(Language::Prose),
        Some("json" | "svg" | "csv" | "png" | "jpg" | "bin") => None,
        _ => Some(Language::Hash),
    }
}
