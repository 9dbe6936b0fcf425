//! Typed reading of the layers: every key that is asked for is known, every fault is kept, every source noted.

use std::collections::BTreeMap;

use crate::fault::{Fault, Faults};
use crate::layer::{Found, Layers};
use crate::source::{Entry, Source, Value};
use crate::suggest::nearest;

/// What holds where a key is not set.
pub(crate) enum Otherwise<T> {
    /// A default, with how it is written.
    Default(T, Value),
    /// Nothing.
    Unset,
    /// It must be set; the words say to what.
    Missing(&'static str),
}

/// Reads keys; see the module.
pub(crate) struct Reader {
    main: String,
    found: BTreeMap<String, Found>,
    tables: BTreeMap<String, Source>,
    /// Every key asked for, for suggestions.
    known: Vec<String>,
    entries: BTreeMap<String, Entry>,
    faults: Vec<Fault>,
    /// A file could not be read in full: a missing key may be there, so none is reported.
    incomplete: bool,
    /// Keys are only made known: their section is absent.
    absent: bool,
    /// A reload applies the keys that are being read.
    live: bool,
}

impl Reader {
    pub(crate) fn new(layers: Layers) -> Self {
        Self {
            incomplete: !layers.faults.is_empty(),
            main: layers.main,
            found: layers.found,
            tables: layers.tables,
            known: Vec::new(),
            entries: BTreeMap::new(),
            faults: layers.faults,
            absent: false,
            live: false,
        }
    }

    /// Reads keys whose new values a reload applies.
    pub(crate) fn live<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.live, true);
        let read = read(self);
        self.live = outer;
        read
    }

    /// Reads a section that may be absent; opened without a key it is present.
    pub(crate) fn optional_section<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let dotted = format!("{name}.");
        self.absent =
            !self.tables.contains_key(name) && !self.found.keys().any(|key| key.starts_with(&dotted));
        let section = read(self);
        let present = !std::mem::replace(&mut self.absent, false);
        present.then_some(section)
    }

    /// Names directly under `section` that were given, each once, with the source of one key of it.
    pub(crate) fn names_under(&self, section: &str) -> BTreeMap<String, Source> {
        let dotted = format!("{section}.");
        let keys = self.found.iter().map(|(key, found)| (key, &found.source));
        keys.chain(&self.tables)
            .filter_map(|(key, source)| Some((key.strip_prefix(&dotted)?, source)))
            .map(|(rest, source)| (rest.split('.').next().unwrap_or(rest).to_owned(), source.clone()))
            .collect()
    }

    /// Takes everything that begins with `prefix` out, after a fault was noted for all of it.
    pub(crate) fn discard(&mut self, prefix: &str) {
        self.found.retain(|key, _| !key.starts_with(prefix));
        self.tables.retain(|key, _| !key.starts_with(prefix));
    }

    /// Makes a pattern known for suggestions.
    pub(crate) fn know(&mut self, pattern: &str) {
        self.known.push(pattern.to_owned());
    }

    /// Notes a fault at the place where `key` was set.
    pub(crate) fn fault(&mut self, key: &str, words: impl Into<String>) {
        let source = self.entries.get(key).map_or(Source::Default, |entry| entry.source.clone());
        self.fault_at(&source, key, words);
    }

    pub(crate) fn fault_at(&mut self, source: &Source, key: &str, words: impl Into<String>) {
        self.faults.push(Fault::new(source, &self.main, key, words));
    }

    /// Reads one key. `None` where it is unset or at fault (then the load fails anyway).
    pub(crate) fn read<T>(
        &mut self,
        key: &str,
        otherwise: Otherwise<T>,
        convert: impl FnOnce(&Found) -> Result<T, String>,
    ) -> Option<T> {
        self.know(key);
        if self.absent {
            return None;
        }
        let Some(found) = self.found.remove(key) else {
            let (read, value) = match otherwise {
                Otherwise::Default(read, value) => (Some(read), Some(value)),
                Otherwise::Unset => (None, None),
                Otherwise::Missing(words) => {
                    if !self.incomplete {
                        self.fault(key, format!("is missing: {words}"));
                    }
                    (None, None)
                }
            };
            self.note(key, value, Source::Default);
            return read;
        };
        let read = convert(&found);
        self.note(key, Some(found.value), found.source);
        read.map_err(|words| self.fault(key, words)).ok()
    }

    fn note(&mut self, key: &str, value: Option<Value>, source: Source) {
        self.entries.insert(key.to_owned(), Entry { key: key.to_owned(), value, source, is_live: self.live });
    }

    /// What is left is unknown.
    pub(crate) fn finish(mut self) -> Result<BTreeMap<String, Entry>, Faults> {
        let is_section = |name: &str| self.known.iter().any(|key| section_matches(key, name));
        let mut unknown: Vec<(String, Source)> = Vec::new();
        for (table, source) in &self.tables {
            if !is_section(table) && !within(&unknown, table) {
                unknown.push((table.clone(), source.clone()));
            }
        }
        for (key, found) in &self.found {
            if !within(&unknown, key) {
                unknown.push((key.clone(), found.source.clone()));
            }
        }
        for (key, source) in unknown {
            let words = match nearest(&key, &self.known) {
                _ if self.known.iter().any(|known| section_matches(known, &key)) => {
                    "is a section, not a key: write its keys under it".to_owned()
                }
                Some(near) => format!("is not a key: did you mean {near}?"),
                None => "is not a key: remove it".to_owned(),
            };
            self.fault_at(&source, &key, words);
        }
        if self.faults.is_empty() { Ok(self.entries) } else { Err(Faults::new(self.faults)) }
    }
}

/// Whether `name` is a section that holds the known key (`<name>` stands for any camera).
fn section_matches(known: &str, name: &str) -> bool {
    let (mut known, mut name) = (known.split('.'), name.split('.'));
    let holds = name.all(|part| known.next().is_some_and(|known| known == part || known == "<name>"));
    holds && known.next().is_some()
}

fn within(unknown: &[(String, Source)], key: &str) -> bool {
    unknown
        .iter()
        .any(|(outer, _)| key.strip_prefix(outer.as_str()).is_some_and(|rest| rest.starts_with('.')))
}
