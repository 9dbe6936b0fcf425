//! Random contents are printed and parsed, and texts of another form are refused.

use std::collections::BTreeSet;

use fastrand::Rng;
use gatehouse_model::{KeyId, Timestamp};
use gatehouse_receipt::{
    By, Check, Condition, Cover, Day, Destroyed, End, FormError, KeyKind, Left, Leftover, Place, PlaceState,
    STATEMENT_BYTES_MAX, Statement, Subject,
};

use crate::deployment::{ORDERED, device, statement};

/// Microseconds of 200 years: times of a receipt are around 2026.
const TIME_MICROS_MAX: i64 = 200 * 365 * 86_400_000_000;
const CONTENTS: usize = 2_000;

fn time(rng: &mut Rng) -> Timestamp {
    Timestamp(rng.i64(-TIME_MICROS_MAX..TIME_MICROS_MAX))
}

fn some<K: Copy + Ord>(rng: &mut Rng, all: &[K]) -> Vec<(K, u64)> {
    let mut picked = Vec::new();
    for word in all.iter().filter(|_| rng.bool()).collect::<Vec<_>>() {
        picked.push((*word, rng.u64(..) >> rng.u32(0..64)));
    }
    picked
}

fn place(rng: &mut Rng) -> Place {
    match rng.u8(0..3) {
        0 => Place::postgres("dev").unwrap(),
        1 => Place::objects("dev").unwrap(),
        _ => {
            let name: String = (0..rng.usize(1..20)).map(|_| rng.alphanumeric()).collect();
            Place::device("dev", &name, Some(KeyId::random())).unwrap()
        }
    }
}

fn left(rng: &mut Rng) -> BTreeSet<Left> {
    let mut left = BTreeSet::new();
    for _ in 0..rng.usize(0..8) {
        let until = match rng.bool() {
            true => End::Day(Day::of(time(rng))),
            false => End::Condition(Condition::ALL[rng.usize(..Condition::ALL.len())]),
        };
        left.insert(Left { what: Leftover::ALL[rng.usize(..Leftover::ALL.len())], until });
    }
    left
}

fn random_statement(rng: &mut Rng) -> Statement {
    let mut made = statement(place(rng));
    made.order = uuid::Uuid::from_u128(rng.u128(..));
    made.subject = Subject(std::array::from_fn(|_| rng.u8(..)));
    made.ordered = time(rng);
    made.done = time(rng);
    made.by = [By::User(rng.u32(..)), By::Central, By::Retention, By::Expiry][rng.usize(0..4)];
    made.uncertainty_ms = rng.bool().then(|| rng.u64(..));
    made.tool.journal_lsn = rng.bool().then(|| rng.u64(..));
    made.keys = some(rng, KeyKind::ALL).into_iter().collect();
    made.destroyed = some(rng, Destroyed::ALL).into_iter().collect();
    made.verified = some(rng, Check::ALL).into_iter().collect();
    made.left = left(rng);
    made
}

#[test]
fn random_statements_are_read_as_they_were_written() {
    let mut rng = Rng::with_seed(20);
    let (mut empty, mut longest) = (0, 0);
    for _ in 0..CONTENTS {
        let made = random_statement(&mut rng);
        let text = made.to_text().unwrap();
        assert_eq!(Statement::parse(&text), Ok(made.clone()), "{text}");
        empty += usize::from(made.left.is_empty());
        longest = longest.max(text.len());
    }
    assert!(empty > 0 && longest * 2 < STATEMENT_BYTES_MAX, "{empty} {longest}");
}

#[test]
fn random_covers_are_read_as_they_were_written() {
    let mut rng = Rng::with_seed(21);
    for _ in 0..CONTENTS {
        let mut places = std::collections::BTreeMap::new();
        for _ in 0..rng.usize(1..12) {
            let state = match rng.u8(0..5) {
                0 => PlaceState::Done { at: time(&mut rng), sha256: std::array::from_fn(|_| rng.u8(..)) },
                1 => PlaceState::Pending { last_contact: Some(time(&mut rng)) },
                2 => PlaceState::Pending { last_contact: None },
                3 => PlaceState::Impossible { at: time(&mut rng) },
                _ => PlaceState::Retired { at: time(&mut rng) },
            };
            places.insert(place(&mut rng), state);
        }
        places.insert(Place::device("dev", "new", None).unwrap(), PlaceState::Pending { last_contact: None });
        let cover = Cover {
            order: uuid::Uuid::from_u128(rng.u128(..)),
            subject: Subject(std::array::from_fn(|_| rng.u8(..))),
            issued: time(&mut rng),
            places,
        };
        let text = cover.to_text().unwrap();
        assert_eq!(Cover::parse(&text), Ok(cover), "{text}");
    }
}

/// The same content in another form would have another hash.
#[test]
fn texts_of_another_form_are_refused() {
    let text = statement(device(1)).to_text().unwrap();
    for (from, to) in [
        ("order 00000000-", "order {00000000-"),
        ("order 0", "order  0"),
        ("ref:5b", "ref:5B"),
        ("12:00:00.000000Z by", "12:00:00Z by"),
        ("12:00:00.000000Z by", "13:00:00.000000+01:00 by"),
        ("uncertainty-ms 40", "uncertainty-ms +40"),
        ("uncertainty-ms 40", "uncertainty-ms 040"),
        ("templates 5 pictures 12", "pictures 12 templates 5"),
        ("templates 5", "templates 5 templates 5"),
        ("templates 5 ", "templates 5 names 1 "),
        ("journal-lsn 99120", "journal-lsn 99120 x"),
        ("gatehoused 0.9.1", "gatehoused"),
        ("crypto-erase-aes-256-gcm", "delete-rows"),
        ("left flash", "right flash"),
        ("left flash-spare-blocks until root-key-destroyed\n", ""),
        ("/v1\n", "/v2\n"),
        ("\nmethod", "\r\nmethod"),
        ("\nkeys", "\nnote by hand\nkeys"),
        ("\nverified", "\nobject-names sha256:00\nverified"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let is_shorter = to.is_empty();
        assert_eq!(Statement::parse(&changed).is_ok(), is_shorter, "{from} -> {to}");
    }
    assert_eq!(Statement::parse(text.trim_end()), Err(FormError::NotCanonical));
    assert_eq!(Statement::parse(&format!("{text}x 1\n")), Err(FormError::Surplus { line: 14 }));
    let long = format!("{text}{}", "x".repeat(STATEMENT_BYTES_MAX));
    assert_eq!(Statement::parse(&long), Err(FormError::TooLong { bytes: STATEMENT_BYTES_MAX }));
}

#[test]
fn contents_without_a_text_are_refused() {
    let mut far = statement(device(1));
    far.done = Timestamp(i64::MAX);
    assert!(far.to_text().is_err());
    let mut free = statement(device(1));
    for version in ["", "1.0\nleft none", "a b", "ä", &"1".repeat(65)] {
        version.clone_into(&mut free.tool.version);
        assert!(free.to_text().is_err(), "{version:?}");
    }
    let unknown = statement(Place::device("prod", "house-1", None).unwrap());
    assert_eq!(unknown.to_text(), Err(FormError::Contradiction));
    let mut named = statement(device(1));
    named.object_names = Some([0; 32]);
    assert_eq!(named.to_text(), Err(FormError::Contradiction));
    assert!(statement(device(1)).ordered == ORDERED);
}
