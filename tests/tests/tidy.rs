//! Checks the rules of ARCHITECTURE.md that a compiler does not: imports, lengths, parameters, words. Each failure lists
//! every offender at once.

#![allow(clippy::expect_used, reason = "all of this file is tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use gatehouse_tests::measure::report::{Measurements, PUBLIC_METHODS_MAX};

/// No file of the product has more lines. Files of tests have no limit.
const LINES_MAX: usize = 600;
/// The map is read as a whole.
const MAP_WORDS_MAX: usize = 2_000;
/// Half of the files are no longer than this.
const LINES_MEDIAN_MAX: usize = 150;

/// Each crate's folder, and the crates of this workspace that it may import and does import.
const IMPORTS: [(&str, &[&str]); 19] = [
    ("store/model", &[]),
    ("config", &["model"]),
    ("store/vault", &["model"]),
    ("store/receipt", &["model"]),
    ("store/journal", &["model", "vault"]),
    ("store/gallery", &["model", "vault"]),
    ("store", &["model", "vault", "receipt", "journal", "gallery"]),
    ("sync/tls", &[]),
    ("sync/central", &["model", "vault", "journal", "gallery", "store", "config", "tls"]),
    ("sync", &["model", "vault", "receipt", "journal", "gallery", "store", "config", "central"]),
    ("sync/admin", &["model", "vault", "receipt", "journal", "gallery", "store", "config", "central"]),
    ("daemon/mqtt", &["model", "gallery", "config", "tls"]),
    ("daemon/control", &["model", "gallery", "store", "config"]),
    ("daemon/machine", &["model", "gallery", "config", "control"]),
    (
        "daemon",
        &[
            "model", "vault", "journal", "gallery", "store", "config", "central", "sync", "control",
            "machine", "mqtt",
        ],
    ),
    (
        "daemon/cli",
        &["model", "receipt", "gallery", "store", "config", "central", "sync", "admin", "control", "machine"],
    ),
    ("testkit", &[]),
    ("demo", &["testkit"]),
    ("tests", &["model", "vault", "journal", "gallery", "store", "testkit"]),
];

/// Crates from outside that only some of ours may name. `tests` may name everything.
const KEEPERS: [(&str, &[&str]); 13] = [
    ("sled", &["store"]),
    // The model needs a hash and random ids, the receipt signatures.
    ("ring", &["store/model", "store/vault", "store/receipt"]),
    ("hnsw_rs", &["store/gallery"]),
    ("minio", &["sync/central", "testkit"]),
    ("parquet", &["sync/admin"]),
    ("zstd", &["sync"]),
    ("tokio_postgres", &["sync/central", "sync", "sync/admin", "testkit"]),
    ("jpeg_decoder", &["sync"]),
    ("jpeg_encoder", &["sync", "testkit"]),
    ("postgres_protocol", &["sync/admin"]),
    ("rumqttc", &["daemon/mqtt", "testkit"]),
    ("systemd", &["daemon"]),
    ("toml", &["config"]),
];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is below the top folder").to_owned()
}

/// All files below `folder`, without build output, hidden folders and downloaded services.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("folder can be listed").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().expect("file type");
        if kind.is_dir() && name != "target" && (!name.starts_with('.') || name == ".ci") {
            files(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

fn text_files(extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    files(&top(), &mut all);
    all.retain(|path| {
        let extension = path.extension().map_or("", |e| e.to_str().unwrap_or("?"));
        extensions.is_empty() || extensions.contains(&extension)
    });
    all.into_iter().filter_map(|path| Some((path.clone(), fs::read_to_string(&path).ok()?))).collect()
}

/// The Rust files of a crate, without those of crates below its folder.
fn rust_files_of(krate: &str) -> Vec<(PathBuf, String)> {
    let folder = top().join(krate);
    let inner = IMPORTS.iter().map(|(other, _)| top().join(other)).filter(|other| *other != folder);
    let inner: Vec<PathBuf> = inner.filter(|other| other.starts_with(&folder)).collect();
    let is_own =
        |path: &Path| path.starts_with(&folder) && !inner.iter().any(|other| path.starts_with(other));
    text_files(&["rs"]).into_iter().filter(|(path, _)| is_own(path)).collect()
}

fn short(path: &Path) -> String {
    path.strip_prefix(top()).unwrap_or(path).display().to_string()
}

/// A line of a dependency section in a crate's Cargo.toml.
struct Dependency {
    /// As in code, with underscores.
    name: String,
    line: String,
    for_tests: bool,
}

fn dependencies(krate: &str) -> Vec<Dependency> {
    let manifest = fs::read_to_string(top().join(krate).join("Cargo.toml")).expect("Cargo.toml");
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.contains("dependencies") && !line.trim().is_empty() && !line.starts_with('#') {
            let name = line.split(['.', ' ', '=']).next().unwrap_or(line);
            let for_tests = section == "[dev-dependencies]";
            found.push(Dependency { name: name.replace('-', "_"), line: line.to_owned(), for_tests });
        }
    }
    found
}

/// Whether code names the crate: `name::` that is not the tail of another path or word, or `use name as`, outside
/// comments.
fn names_crate(text: &str, name: &str) -> bool {
    let (path, alias) = (format!("{name}::"), format!("use {name} as "));
    text.contains(&alias)
        || text.lines().map(|line| line.split("//").next().unwrap_or(line)).any(|line| {
            line.match_indices(&path).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '"')
            })
        })
}

fn none(offenders: &[String], rule: &str) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

#[test]
fn crates_import_only_crates_below_them() {
    let mut offenders = Vec::new();
    for (krate, allowed) in IMPORTS {
        for dependency in dependencies(krate) {
            let Some(inner) = dependency.name.strip_prefix("gatehouse_") else { continue };
            // Tests may use the services under test. Delivery and administration each need the other one for their tests.
            let for_tests =
                matches!((krate, inner), (_, "testkit") | ("sync", "admin") | ("sync/admin", "sync"));
            let may_test = dependency.for_tests && for_tests;
            if !allowed.contains(&inner) && !may_test {
                offenders.push(format!("{krate} imports {inner}"));
            }
        }
    }
    none(&offenders, "the arrows of IMPORTS; testkit imports no crate of the product");
}

#[test]
fn what_a_crate_may_import_it_does_import() {
    let mut offenders = Vec::new();
    for (krate, allowed) in IMPORTS {
        let sources = rust_files_of(krate);
        let dependencies = dependencies(krate);
        // Tests may share files, so only the other dependencies are checked.
        for name in dependencies.iter().filter(|one| !one.for_tests).map(|one| &one.name) {
            if name.starts_with("gatehouse_") && !sources.iter().any(|(_, text)| names_crate(text, name)) {
                offenders.push(format!("{krate}/Cargo.toml depends on {name}, and no line of it uses that"));
            }
        }
        for inner in allowed {
            if !dependencies.iter().any(|dependency| dependency.name == format!("gatehouse_{inner}")) {
                offenders.push(format!("IMPORTS allows {krate} to import {inner}, which it does not"));
            }
        }
    }
    none(&offenders, "an import that is not used is not allowed");
}

#[test]
fn the_daemon_does_not_link_the_administration() {
    let mut linked = vec!["daemon".to_owned()];
    let mut at = 0;
    while let Some(krate) = linked.get(at).cloned() {
        at += 1;
        for dependency in dependencies(&krate).iter().filter(|dependency| !dependency.for_tests) {
            let Some(inner) = dependency.name.strip_prefix("gatehouse_") else { continue };
            let folder = IMPORTS
                .iter()
                .map(|(folder, _)| *folder)
                .find(|folder| folder.rsplit('/').next().is_some_and(|last| last == inner));
            linked.extend(folder.map(str::to_owned).filter(|folder| !linked.contains(folder)));
        }
    }
    assert!(linked.contains(&"sync/central".to_owned()), "{linked:?}");
    assert!(!linked.contains(&"sync/admin".to_owned()), "gatehoused would link parquet: {linked:?}");
}

#[test]
fn crates_from_outside_are_known_only_to_their_keepers() {
    let mut offenders = Vec::new();
    for (krate, _) in IMPORTS.iter().filter(|(krate, _)| *krate != "tests") {
        let sources = rust_files_of(krate);
        let dependencies = dependencies(krate);
        for (guarded, _) in KEEPERS.iter().filter(|(_, keepers)| !keepers.contains(krate)) {
            if dependencies.iter().any(|dependency| dependency.name == *guarded) {
                offenders.push(format!("{krate}/Cargo.toml depends on {guarded}"));
            }
            for (path, _) in sources.iter().filter(|(_, text)| names_crate(text, guarded)) {
                offenders.push(format!("{} names {guarded}", short(path)));
            }
        }
    }
    none(&offenders, "some crates from outside have one home");
}

#[test]
fn every_crate_takes_lints_and_versions_from_the_workspace() {
    let mut offenders = Vec::new();
    for (krate, _) in IMPORTS {
        let manifest = fs::read_to_string(top().join(krate).join("Cargo.toml")).expect("Cargo.toml");
        if !manifest.contains("[lints]\nworkspace = true") {
            offenders.push(format!("{krate}/Cargo.toml has not the lints of the workspace"));
        }
        for dependency in dependencies(krate) {
            if !dependency.line.contains("workspace = true") {
                offenders.push(format!("{krate}/Cargo.toml gives {} a version of its own", dependency.name));
            }
        }
    }
    none(&offenders, "one table of versions and lints, in the root Cargo.toml");
}

fn is_of_tests(path: &str) -> bool {
    path.starts_with("tests/")
        || path.starts_with("testkit/")
        || path.contains("/tests/")
        || path.ends_with("/tests.rs")
}

#[test]
fn files_are_short() {
    let mut lengths: Vec<(usize, String)> =
        text_files(&["rs"]).iter().map(|(path, text)| (text.lines().count(), short(path))).collect();
    lengths.sort();
    let long: Vec<String> = lengths
        .iter()
        .filter(|(n, path)| *n > LINES_MAX && !is_of_tests(path))
        .map(|(n, path)| format!("{path}: {n} lines"))
        .collect();
    none(&long, "no file of the product has more than 600 lines");
    let median = lengths[lengths.len() / 2].0;
    assert!(median <= LINES_MEDIAN_MAX, "the median file has {median} lines, more than {LINES_MEDIAN_MAX}");
}

#[test]
fn every_source_file_says_first_what_it_is_for() {
    let silent: Vec<String> = text_files(&["rs"])
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| short(&path))
        .filter(|path| !path.contains("/tests/") && !path.ends_with("/tests.rs"))
        .collect();
    none(&silent, "every file begins with a module comment");
}

#[test]
fn no_test_is_switched_off() {
    let marks = [concat!("#[ign", "ore"), concat!("#[cfg(fal", "se)")];
    let off: Vec<String> = text_files(&["rs"])
        .into_iter()
        .filter(|(_, text)| marks.iter().any(|mark| text.contains(mark)))
        .map(|(path, _)| short(&path))
        .collect();
    none(&off, "a test that does not run proves nothing");
}

#[test]
fn the_shipped_settings_name_files_for_secrets_never_values() {
    let edge = fs::read_to_string(top().join("config/edge.toml")).expect("edge.toml");
    let keys = edge.lines().filter_map(|line| line.trim_start_matches('#').split_once(" = "));
    let bad: Vec<String> = keys
        .map(|(key, _)| key.trim().to_owned())
        .filter(|key| !key.contains(' ') && !key.ends_with("_file"))
        .filter(|key| ["password", "secret", "token", "access_key"].iter().any(|word| key.contains(word)))
        .collect();
    none(&bad, "a secret is a file or a credential");
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    // In two parts each, so that this file does not name them.
    let marks = [
        concat!("/work", "/main"),
        concat!("/work", "/shared"),
        concat!("/root", "/"),
        concat!("/tmp", "/prep"),
        concat!("shared", "/design"),
        concat!("/opt", "/wheels"),
    ];
    let mut offenders = Vec::new();
    for (path, text) in text_files(&[]) {
        for mark in marks.iter().filter(|mark| text.contains(**mark)) {
            offenders.push(format!("{}: {mark}", short(&path)));
        }
    }
    none(&offenders, "a fresh clone on any machine must work");
}

#[test]
fn the_code_map_names_every_crate_and_folder() {
    let map = fs::read_to_string(top().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let mut missing = Vec::new();
    for entry in fs::read_dir(top()).expect("top folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let holds_something =
            is_folder && fs::read_dir(entry.path()).is_ok_and(|mut inner| inner.next().is_some());
        if holds_something
            && !name.starts_with('.')
            && name != "target"
            && !map.contains(&format!("`{name}/`"))
        {
            missing.push(name);
        }
    }
    none(&missing, "ARCHITECTURE.md names every folder");
}

#[test]
fn the_files_that_documents_name_exist() {
    let mut gone = Vec::new();
    for (path, text) in text_files(&["md"]) {
        let named = text.split('`').skip(1).step_by(2).filter(|word| {
            let crates = IMPORTS.iter().any(|(krate, _)| word.starts_with(&format!("{krate}/")));
            crates && !word.contains([' ', '*', '<', '{'])
        });
        let missing = named.filter(|word| !top().join(word).exists());
        gone.extend(missing.map(|word| format!("{}: {word}", short(&path))));
    }
    none(&gone, "documents name files that exist");
}

#[test]
fn the_code_map_is_short() {
    let map = fs::read_to_string(top().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let words = map.split_whitespace().count();
    assert!(words <= MAP_WORDS_MAX, "ARCHITECTURE.md has {words} words, more than {MAP_WORDS_MAX}");
}

// The rules below are held on the figures of `./run measure`.

fn measurements() -> &'static Measurements {
    static TAKEN: LazyLock<Measurements> =
        LazyLock::new(|| Measurements::take().expect("the source can be measured"));
    &TAKEN
}

#[test]
fn no_public_type_has_more_than_twenty_public_methods() {
    let types = measurements().code.public_methods.iter();
    let large = types.filter(|(_, places)| places.len() > PUBLIC_METHODS_MAX);
    let large: Vec<String> = large
        .map(|(name, places)| format!("{} of {}: {} methods", name.name, name.crate_folder, places.len()))
        .collect();
    none(&large, "a type has at most 20 public methods");
}

#[test]
fn no_function_of_the_product_has_more_than_seventy_lines() {
    let long = measurements().long_functions();
    let long: Vec<String> = long.map(|f| format!("{}: {} has {} lines", f.place, f.name, f.lines)).collect();
    none(&long, "a function of the product has at most 70 lines");
}

#[test]
fn no_parameter_is_a_tuple() {
    let tuples = measurements().tuple_parameters();
    let tuples: Vec<String> =
        tuples.map(|f| format!("{}: {} takes {}", f.place, f.name, f.tuples.join(", "))).collect();
    none(&tuples, "values that belong together are a struct with named fields");
}

#[test]
fn no_function_has_more_than_five_parameters() {
    let many = measurements().many_parameters();
    let many: Vec<String> =
        many.map(|f| format!("{}: {} has {} parameters", f.place, f.name, f.parameters)).collect();
    none(&many, "a function has at most 5 parameters without self");
}

#[test]
fn no_comment_text_or_name_contains_a_forbidden_word() {
    let words = measurements().forbidden_words();
    let words: Vec<String> =
        words.iter().map(|found| format!("{}: {}: {}", found.place, found.word, found.around)).collect();
    none(&words, "plain technical English: tests/src/measure/words.rs lists the words that must not occur");
}

#[test]
fn constants_of_durations_say_what_they_bound() {
    let unnamed = measurements().unnamed_durations();
    let unnamed: Vec<String> =
        unnamed.map(|constant| format!("{}: {}", constant.place, constant.name)).collect();
    none(&unnamed, "the name of a duration contains TIMEOUT, INTERVAL, DELAY or another word of words.rs");
}
