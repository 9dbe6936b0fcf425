//! Reads encodings from a file or standard input, and parses points in time.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta, Utc};
use zeroize::Zeroizing;

use gatehouse_control::encodings::RawEncoding;
use gatehouse_control::types::{ENCODINGS_MAX, Fault, REQUEST_BYTES_MAX};

/// Largest file: the numbers must fit into one request as text.
const FILE_BYTES_MAX: usize = REQUEST_BYTES_MAX;

/// Reads an array of encodings, or a single one. `-` is standard input.
pub(super) fn encodings(file: &Path) -> Result<Vec<RawEncoding>, Fault> {
    let name = if file == Path::new("-") { "standard input".into() } else { file.to_string_lossy() };
    let text = read(file).map_err(|error| Fault::refused(format!("cannot read {name}: {error}")))?;
    if text.len() > FILE_BYTES_MAX {
        return Err(Fault::refused(format!("{name} is larger than {FILE_BYTES_MAX} bytes"))
            .advise(format!("a person has at most {ENCODINGS_MAX} encodings")));
    }
    let parsed = if is_single(&text) {
        serde_json::from_slice(&text).map(|one| vec![one])
    } else {
        serde_json::from_slice(&text)
    };
    parsed.map_err(|error| {
        // The parser's message may quote the input, which is biometric data.
        let line = error.line();
        let column = error.column();
        Fault::refused(format!("{name} does not contain encodings (line {line}, character {column})")).advise(
            "give a JSON array of encodings: each an array of numbers, or base64 of little-endian f32",
        )
    })
}

fn read(file: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
    let limit = FILE_BYTES_MAX as u64 + 1;
    if file == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut text)?;
    } else {
        File::open(file)?.take(limit).read_to_end(&mut text)?;
    }
    Ok(text)
}

/// Whether the text is a single encoding: a string, or an array that begins with a number.
fn is_single(text: &[u8]) -> bool {
    let mut bytes = text.iter().filter(|byte| !byte.is_ascii_whitespace());
    match bytes.next() {
        Some(b'[') => bytes.next().is_some_and(|byte| !matches!(byte, b'[' | b'"' | b']')),
        _ => true,
    }
}

/// Parses RFC 3339, a day (`2026-11-20`) or an age (`90s`, `15m`, `2h`, `7d`), and returns RFC 3339.
pub(super) fn since(text: &str) -> Result<String, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(rfc3339(time.with_timezone(&Utc)));
    }
    if let Some(midnight) = text.parse::<NaiveDate>().ok().and_then(|day| day.and_hms_opt(0, 0, 0)) {
        return Ok(rfc3339(midnight.and_utc()));
    }
    let age = text.char_indices().next_back().and_then(|(at, unit)| {
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        let count: i64 = text[..at].parse().ok().filter(|count| *count >= 0)?;
        TimeDelta::try_seconds(count.checked_mul(seconds)?)
    });
    age.and_then(|age| Utc::now().checked_sub_signed(age)).map(rfc3339).ok_or_else(|| {
        "expected RFC 3339, a day such as 2026-11-20, or an age such as 15m, 2h or 7d".to_owned()
    })
}

/// Parses RFC 3339, or a day (`2027-01-31`), whose end is meant, and returns RFC 3339.
pub(super) fn until(text: &str) -> Result<String, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(rfc3339(time.with_timezone(&Utc)));
    }
    let next_day = text.parse::<NaiveDate>().ok().and_then(|day| day.succ_opt());
    let end = next_day.and_then(|day| day.and_hms_opt(0, 0, 0)).map(|midnight| midnight.and_utc());
    end.map(rfc3339).ok_or_else(|| "expected RFC 3339, or a day such as 2027-01-31".to_owned())
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Vec<RawEncoding>, Fault> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("encodings.json");
        std::fs::write(&path, text).unwrap();
        encodings(&path)
    }

    #[test]
    fn a_single_encoding_and_an_array_of_encodings_parse() {
        assert_eq!(file("[1, 2]").unwrap().len(), 1);
        assert_eq!(file(" [ [1, 2], \"AACAPwAAAEA=\" ]").unwrap().len(), 2);
        assert_eq!(file("\"AACAPwAAAEA=\"").unwrap(), file("[1, 2]").unwrap());
        assert_eq!(file("[]").unwrap().len(), 0);
    }

    #[test]
    fn a_file_without_encodings_is_refused_with_the_position() {
        let fault = file("[[1, 2],\n [\"secret-name\"]]").unwrap_err();
        assert_eq!(fault.code, gatehouse_control::exit::REFUSED);
        assert!(fault.message.contains("line 2") && !fault.message.contains("secret-name"), "{fault}");
        assert!(file(&"[".repeat(100_000)).is_err());
        assert!(file(&" ".repeat(FILE_BYTES_MAX + 1)).unwrap_err().message.contains("larger"));
    }

    #[test]
    fn days_ages_and_rfc_3339_parse() {
        assert_eq!(since("2026-11-20").unwrap(), "2026-11-20T00:00:00.000000Z");
        assert_eq!(since("2026-11-20T01:00:00+01:00").unwrap(), "2026-11-20T00:00:00.000000Z");
        assert!(since("15m").is_ok());
        for bad in ["", "yesterday", "-5m", "5", "99999999999999999999d", "9223372036854775807d"] {
            assert!(since(bad).is_err(), "{bad}");
        }
        assert_eq!(until("2027-01-31").unwrap(), "2027-02-01T00:00:00.000000Z");
        assert_eq!(until("2027-01-31T08:00:00+01:00").unwrap(), "2027-01-31T07:00:00.000000Z");
        assert!(until("7d").is_err() && until("tomorrow").is_err());
    }
}
