//! The kinds of values that keys have, each with its check and the words of its fault.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::duration::{duration_text, parse_duration};
use crate::hours::Hours;
use crate::layer::Found;
use crate::reader::{Otherwise, Reader};
use crate::source::{Source, Value};

impl Reader {
    pub(crate) fn text(
        &mut self,
        key: &str,
        default: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> String {
        let default = Otherwise::Default(default.to_owned(), Value::Text(default.to_owned()));
        self.read(key, default, |found| text_of(found, check)).unwrap_or_default()
    }

    pub(crate) fn required_text(
        &mut self,
        key: &str,
        words: &'static str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> String {
        self.read(key, Otherwise::Missing(words), |found| text_of(found, check)).unwrap_or_default()
    }

    pub(crate) fn optional_text(
        &mut self,
        key: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Option<String> {
        self.read(key, Otherwise::Unset, |found| text_of(found, check))
    }

    pub(crate) fn path(&mut self, key: &str, default: &str) -> PathBuf {
        PathBuf::from(self.text(key, default, absolute))
    }

    pub(crate) fn optional_path(&mut self, key: &str) -> Option<PathBuf> {
        self.optional_text(key, absolute).map(PathBuf::from)
    }

    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &str,
        otherwise: Otherwise<T>,
        names: &[(&str, T)],
    ) -> Option<T> {
        self.read(key, otherwise, |found| {
            let text = text_of(found, |_| Ok(()))?;
            let list: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            let choice = names.iter().find(|(name, _)| *name == text);
            choice
                .map(|(_, value)| *value)
                .ok_or_else(|| format!("is none of its choices: write {}", list.join(", ")))
        })
    }

    /// A choice with a default.
    pub(crate) fn choice_or<T: Copy + PartialEq>(&mut self, key: &str, default: T, names: &[(&str, T)]) -> T {
        let name = names.iter().find(|(_, value)| *value == default).map_or("", |(name, _)| name);
        let otherwise = Otherwise::Default(default, Value::Text(name.to_owned()));
        self.choice(key, otherwise, names).unwrap_or(default)
    }

    pub(crate) fn integer(&mut self, key: &str, default: u32, range: RangeInclusive<u32>, unit: &str) -> u32 {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        u32::try_from(self.bytes(key, u64::from(default), range, unit)).unwrap_or(default)
    }

    pub(crate) fn bytes(&mut self, key: &str, default: u64, range: RangeInclusive<u64>, unit: &str) -> u64 {
        let shown = Value::Integer(i64::try_from(default).unwrap_or(i64::MAX));
        self.whole(key, Otherwise::Default(default, shown), range, unit).unwrap_or(default)
    }

    pub(crate) fn whole(
        &mut self,
        key: &str,
        otherwise: Otherwise<u64>,
        range: RangeInclusive<u64>,
        unit: &str,
    ) -> Option<u64> {
        self.read(key, otherwise, |found| {
            let number = match (&found.value, &found.source) {
                (Value::Integer(number), _) => Some(*number),
                (Value::Text(text), Source::Environment { .. }) => text.replace('_', "").parse().ok(),
                _ => None,
            };
            let number =
                number.and_then(|number| u64::try_from(number).ok()).filter(|number| range.contains(number));
            number.ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                format!("must be a whole number of {unit} from {least} to {most}, without quotes")
            })
        })
    }

    /// A list of whole numbers; from the environment with commas between them.
    pub(crate) fn list(
        &mut self,
        key: &str,
        default: &[u16],
        most: usize,
        range: RangeInclusive<u16>,
        unit: &str,
    ) -> Vec<u16> {
        let shown = Value::Integers(default.iter().copied().map(i64::from).collect());
        let read = self.read(key, Otherwise::Default(default.to_vec(), shown), |found| {
            let numbers: Option<Vec<u16>> = match (&found.value, &found.source) {
                (Value::Integers(list), _) => list.iter().map(|number| u16::try_from(*number).ok()).collect(),
                (Value::Text(text), Source::Environment { .. }) => {
                    let items = text.trim_matches(['[', ']']).split(',').map(str::trim);
                    items.filter(|item| !item.is_empty()).map(|item| item.parse().ok()).collect()
                }
                _ => None,
            };
            let fits = |list: &Vec<u16>| list.len() <= most && list.iter().all(|number| range.contains(number));
            numbers.filter(fits).ok_or_else(|| {
                let (least, largest) = (range.start(), range.end());
                format!("must be a list of at most {most} {unit} from {least} to {largest}, written as [{least}, {largest}]")
            })
        });
        read.unwrap_or_else(|| default.to_vec())
    }

    pub(crate) fn number(
        &mut self,
        key: &str,
        otherwise: Otherwise<f32>,
        range: RangeInclusive<f64>,
    ) -> Option<f32> {
        self.read(key, otherwise, |found| {
            let number = match (&found.value, &found.source) {
                (Value::Integer(number), _) => Some(*number as f64),
                (Value::Number(number), _) => Some(*number),
                (Value::Text(text), Source::Environment { .. }) => text.parse().ok(),
                _ => None,
            };
            let number = number.filter(|number| range.contains(number)).map(|number| number as f32);
            number.ok_or_else(|| {
                format!("must be a number from {} to {}, without quotes", range.start(), range.end())
            })
        })
    }

    /// A number with a default.
    pub(crate) fn number_or(&mut self, key: &str, default: f64, range: RangeInclusive<f64>) -> f32 {
        let otherwise = Otherwise::Default(default as f32, Value::Number(default));
        self.number(key, otherwise, range).unwrap_or(default as f32)
    }

    pub(crate) fn boolean(&mut self, key: &str, default: bool) -> bool {
        let read = self.read(key, Otherwise::Default(default, Value::Boolean(default)), |found| {
            let value = match (&found.value, &found.source) {
                (Value::Boolean(value), _) => Some(*value),
                (Value::Text(text), Source::Environment { .. }) => text.parse().ok(),
                _ => None,
            };
            value.ok_or_else(|| "must be true or false, without quotes".to_owned())
        });
        read.unwrap_or(default)
    }

    /// Hours of the day; empty as good as unset.
    pub(crate) fn hours(&mut self, key: &str) -> Option<Hours> {
        let read = self.read(key, Otherwise::Unset, |found| {
            let text = text_of(found, |_| Ok(()))?;
            let hours = Hours::parse(&text);
            match text.is_empty() || hours.is_some() {
                true => Ok(hours),
                false => Err("must be hours of the day, written as \"22:00-06:00\"".to_owned()),
            }
        });
        read.flatten()
    }

    pub(crate) fn duration(
        &mut self,
        key: &str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let otherwise = Otherwise::Default(default, Value::Text(duration_text(default)));
        let read = self.read(key, otherwise, |found| {
            let read = parse_duration(&text_of(found, |_| Ok(()))?).filter(|duration| range.contains(duration));
            read.ok_or_else(|| {
                let (least, most) = (duration_text(*range.start()), duration_text(*range.end()));
                format!("must be a duration from {least} to {most}, written as \"250ms\", \"1s\", \"5m\" or \"2h\"")
            })
        });
        read.unwrap_or(default)
    }
}

fn text_of(found: &Found, check: impl Fn(&str) -> Result<(), String>) -> Result<String, String> {
    let Value::Text(text) = &found.value else {
        return Err(format!("is {}: write a text in quotes", found.value.kind()));
    };
    check(text)?;
    Ok(text.clone())
}

fn absolute(text: &str) -> Result<(), String> {
    if Path::new(text).is_absolute() { Ok(()) } else { Err("must be a path that begins with /".to_owned()) }
}
