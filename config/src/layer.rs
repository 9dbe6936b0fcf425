//! The layers put on top of each other: files and environment become one map from key to value and source.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue, Error as TomlError};

use crate::fault::Fault;
use crate::source::{Source, Value};

/// Every variable with this beginning is a setting.
const PREFIX: &str = "GATEHOUSE__";

/// Longest settings file read, in bytes; all keys with their comments are below 20 KB.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A value and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) value: Value,
    pub(crate) source: Source,
}

/// All layers as one.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// The main file, where missing keys are missing.
    pub(crate) main: String,
    /// The last layer's value of each key.
    pub(crate) found: BTreeMap<String, Found>,
    /// Every section that was opened, also without a key.
    pub(crate) tables: BTreeMap<String, Source>,
    /// What could not be read at all.
    pub(crate) faults: Vec<Fault>,
}

impl Layers {
    pub(crate) fn read(path: &Path, env: &[(String, String)]) -> Self {
        let mut layers = Self { main: path.display().to_string(), ..Self::default() };
        layers.add_file(path);
        for file in layers.drop_ins(path) {
            layers.add_file(&file);
        }
        let mut variables: Vec<_> = env.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort();
        for (name, value) in variables {
            let source = Source::Environment { variable: name.clone() };
            layers.found.insert(variable_key(name), Found { value: Value::Text(value.clone()), source });
        }
        layers
    }

    /// The main file at `path` and its drop-ins, with `own` in the place of the drop-in `target`. What is missing is
    /// missing in `own`.
    pub(crate) fn read_with(path: &Path, target: &Path, mut own: Self) -> Self {
        let mut layers = Self { main: std::mem::take(&mut own.main), ..Self::default() };
        layers.add_file(path);
        let drop_ins = layers.drop_ins(path).into_iter().filter(|file| file != target);
        let (before, after): (Vec<_>, Vec<_>) =
            drop_ins.partition(|file| file.as_os_str() < target.as_os_str());
        before.iter().for_each(|file| layers.add_file(file));
        layers.found.append(&mut own.found);
        layers.tables.append(&mut own.tables);
        layers.faults.append(&mut own.faults);
        after.iter().for_each(|file| layers.add_file(file));
        layers
    }

    /// One text as if it were the main file.
    pub(crate) fn of_file(name: &str, text: &str) -> Self {
        let mut layers = Self { main: name.to_owned(), ..Self::default() };
        layers.add_text(name, text);
        layers
    }

    /// `conf.d/*.toml` in the folder of the main file, in byte order; a missing folder is an empty one.
    fn drop_ins(&mut self, path: &Path) -> Vec<PathBuf> {
        let folder = path.parent().unwrap_or(Path::new("")).join("conf.d");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                self.broken(&folder.display().to_string(), &format!("cannot be listed: {error}"));
                return Vec::new();
            }
        };
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .collect();
        files.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
        files
    }

    fn add_file(&mut self, path: &Path) {
        let name = path.display().to_string();
        match fs::metadata(path).map(|meta| meta.len()) {
            Ok(bytes) if bytes > FILE_BYTES_MAX => {
                self.broken(&name, "is longer than 1 MiB: not a settings file");
            }
            _ => match fs::read(path).map(String::from_utf8) {
                Ok(Ok(text)) => self.add_text(&name, &text),
                Ok(Err(_)) => self.broken(&name, "is not UTF-8 text"),
                Err(error) => self.broken(&name, &format!("cannot be read: {error}")),
            },
        }
    }

    fn broken(&mut self, file: &str, words: &str) {
        self.faults.push(Fault {
            file: file.to_owned(),
            line: None,
            key: String::new(),
            words: words.to_owned(),
        });
    }

    fn add_text(&mut self, file: &str, text: &str) {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            self.faults.push(syntax_fault(file, text, error));
        }
        self.add_table(file, text, "", table.get_ref());
    }

    fn add_table(&mut self, file: &str, text: &str, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = join(prefix, name.get_ref());
            let source = Source::File { file: file.to_owned(), line: line_of(text, name.span().start) };
            if let DeValue::Table(inner) = value.get_ref() {
                self.tables.insert(key.clone(), source);
                self.add_table(file, text, &key, inner);
            } else {
                self.found.insert(key, Found { value: plain(value.get_ref()), source });
            }
        }
    }
}

fn syntax_fault(file: &str, text: &str, error: &TomlError) -> Fault {
    let line = error.span().map(|span| line_of(text, span.start));
    // The message alone: the error's own display would repeat the line, and with it what may be a secret.
    let words = format!("is not valid TOML: {}", error.message().replace('\n', "; "));
    Fault { file: file.to_owned(), line, key: String::new(), words }
}

fn plain(value: &DeValue<'_>) -> Value {
    let other = match value {
        DeValue::String(text) => return Value::Text(text.to_string()),
        DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(number) => return Value::Integer(number),
            Err(_) => "a whole number beyond 64 bits",
        },
        DeValue::Float(digits) => match digits.as_str().parse() {
            Ok(number) => return Value::Number(number),
            Err(_) => "a number that cannot be read",
        },
        DeValue::Boolean(value) => return Value::Boolean(*value),
        DeValue::Datetime(_) => "a date",
        DeValue::Array(list) => match list.iter().map(|item| integer(&plain(item.get_ref()))).collect() {
            Some(list) => return Value::Integers(list),
            None => "a list",
        },
        DeValue::Table(_) => "a section",
    };
    Value::Other(other.to_owned())
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        _ => None,
    }
}

/// A name that is not a bare TOML key keeps its quotes, so that its dots are not taken for levels.
fn join(prefix: &str, name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let name = if bare { name.to_owned() } else { format!("{name:?}") };
    if prefix.is_empty() { name } else { format!("{prefix}.{name}") }
}

/// `GATEHOUSE__CENTRAL__ROWS__URL` is `central.rows.url`. A camera's name keeps its case.
fn variable_key(name: &str) -> String {
    let parts: Vec<&str> = name[PREFIX.len()..].split("__").collect();
    let lower = |parts: &[&str]| parts.join(".").to_ascii_lowercase();
    let of_camera = parts.len() >= 4 && lower(&parts[..2]) == "gallery.cameras";
    if of_camera {
        let last = parts.len() - 1;
        return format!("gallery.cameras.{}.{}", parts[2..last].join("__"), lower(&parts[last..]));
    }
    lower(&parts)
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}
