//! A deployment with three appliances, a database and a bucket, and the erasure of one person.

use std::collections::{BTreeMap, BTreeSet};

use gatehouse_model::{KeyId, Timestamp};
use gatehouse_receipt::{
    Bundle, By, Check, Condition, Counts, Cover, Day, Destroyed, End, KeyKind, KeyName, Left, Leftover,
    Method, Note, OrderId, Place, PlaceState, Program, Signer, Statement, Subject, Tool, TrustedKeys,
};

/// 2026-11-30T12:00:00Z.
pub(crate) const ORDERED: Timestamp = Timestamp(1_796_040_000_000_000);
pub(crate) const DAY_MICROS: i64 = 86_400_000_000;
pub(crate) const SUBJECT: Subject = Subject([0x5b; 16]);

pub(crate) fn order() -> OrderId {
    OrderId::from_u128(0x0f6b_5c1e)
}

pub(crate) fn signer(name: &str, seed: u8) -> Signer {
    Signer::from_seed(KeyName::new(name).unwrap(), &[seed; 32]).unwrap()
}

pub(crate) fn device(number: u8) -> Place {
    Place::device("prod", &format!("house-{number}"), Some(KeyId::from_bytes([number; 16]))).unwrap()
}

pub(crate) fn counts<K: Ord>(pairs: impl IntoIterator<Item = (K, u64)>) -> Counts<K> {
    pairs.into_iter().collect()
}

/// The statement of a place, with the values of its kind.
pub(crate) fn statement(place: Place) -> Statement {
    let is_device = place.device_id().is_some();
    let is_objects = place.is_objects();
    let end = End::Day(Day::of(Timestamp(ORDERED.0 + 90 * DAY_MICROS)));
    let method = match (is_device, is_objects) {
        (true, _) => Method::CryptoErase,
        (_, true) => Method::DeleteObjects,
        _ => Method::DeleteRows,
    };
    let program = if is_device { Program::Gatehoused } else { Program::Gatehouse };
    Statement {
        order: order(),
        subject: SUBJECT,
        place,
        ordered: ORDERED,
        by: By::Central,
        done: Timestamp(ORDERED.0 + 2_000_000),
        uncertainty_ms: is_device.then_some(40),
        method,
        tool: Tool { program, version: "0.9.1".into(), journal_lsn: is_device.then_some(99_120) },
        keys: if is_device { counts([(KeyKind::Person, 1), (KeyKind::Media, 12)]) } else { counts([]) },
        destroyed: counts([
            (Destroyed::Templates, 5),
            (Destroyed::Pictures, 12),
            (Destroyed::Bytes, 3_021_334),
        ]),
        object_names: is_objects.then_some([9; 32]),
        verified: counts([(Check::SlotFree, 2), (Check::ProfileRefused, 1), (Check::SearchOther, 5)]),
        left: BTreeSet::from([
            Left { what: Leftover::UnrecognizedPictures, until: end },
            Left { what: Leftover::FlashSpareBlocks, until: End::Condition(Condition::RootKeyDestroyed) },
        ]),
    }
}

/// The signers of three appliances and of the central services.
pub(crate) struct Deployment {
    pub(crate) devices: Vec<Signer>,
    pub(crate) central: Signer,
}

impl Deployment {
    pub(crate) fn new() -> Self {
        let devices = (1..=3).map(|n| signer(&format!("prod/house-{n}"), n)).collect();
        Self { devices, central: signer("prod/central", 9) }
    }

    pub(crate) fn places() -> Vec<Place> {
        let central = [Place::postgres("prod").unwrap(), Place::objects("prod").unwrap()];
        (1..=3).map(device).chain(central).collect()
    }

    pub(crate) fn keys(&self) -> TrustedKeys {
        let signers = self.devices.iter().chain([&self.central]);
        let lines: Vec<String> = signers.map(|signer| format!("{}\n", signer.verifier_key())).collect();
        TrustedKeys::parse(&format!("# prod\n{}", lines.concat())).unwrap()
    }

    pub(crate) fn signer_of(&self, place: &Place) -> &Signer {
        let name = place.key_name();
        let mut signers = self.devices.iter().chain([&self.central]);
        signers.find(|signer| *signer.verifier_key().name() == name).unwrap()
    }

    pub(crate) fn note(&self, place: &Place) -> Note {
        statement(place.clone()).sign(self.signer_of(place)).unwrap()
    }

    pub(crate) fn notes(&self) -> Vec<Note> {
        Self::places().iter().map(|place| self.note(place)).collect()
    }

    /// A cover on which the places of these notes are done.
    pub(crate) fn cover(&self, notes: &[Note]) -> Cover {
        let mut places = BTreeMap::new();
        for note in notes {
            let statement = Statement::parse(note.text()).unwrap();
            places.insert(statement.place, PlaceState::Done { at: statement.done, sha256: note.digest() });
        }
        Cover { order: order(), subject: SUBJECT, issued: Timestamp(ORDERED.0 + DAY_MICROS), places }
    }

    pub(crate) fn bundle(&self, notes: Vec<Note>, cover: &Cover) -> Bundle {
        Bundle::new(notes, cover.sign(&self.central).unwrap()).unwrap()
    }

    pub(crate) fn complete(&self) -> Bundle {
        let notes = self.notes();
        let cover = self.cover(&notes);
        self.bundle(notes, &cover)
    }

    /// A bundle in which the third appliance has not answered.
    pub(crate) fn pending(&self, last_contact: Option<Timestamp>) -> Bundle {
        let mut notes = self.notes();
        notes.remove(2);
        let mut cover = self.cover(&notes);
        cover.places.insert(device(3), PlaceState::Pending { last_contact });
        self.bundle(notes, &cover)
    }
}
