//! Receipts of a deployment: forged, incomplete and changed ones, random contents, and another program's notes.

#![allow(clippy::unwrap_used, reason = "all of this crate is tests")]

mod deployment;
mod random;

use deployment::{DAY_MICROS, Deployment, ORDERED, device, order, signer, statement};
use gatehouse_model::Timestamp;
use gatehouse_receipt::{
    Bundle, Cover, Note, Place, PlaceState, Reason, Signer, Statement, Subject, TextError, TrustedKeys,
    Verdict, verify, verify_bytes,
};

fn reason(bundle: &Bundle, keys: &TrustedKeys) -> Reason {
    match verify(bundle, keys, None) {
        Verdict::NotAuthentic { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_receipt_of_all_places_is_complete() {
    let deployment = Deployment::new();
    let bundle = deployment.complete();
    let text = bundle.to_string();
    assert_eq!(Bundle::parse(text.as_bytes()).unwrap(), bundle);
    let Verdict::Complete(report) = verify_bytes(text.as_bytes(), &deployment.keys(), None) else {
        panic!("{text}")
    };
    assert_eq!(report.order, order());
    assert_eq!(report.places.len(), 5);
    let subject = deployment::SUBJECT;
    assert!(matches!(verify(&bundle, &deployment.keys(), Some(&subject)), Verdict::Complete(_)));
    let other = Some(&Subject([1; 16]));
    assert_eq!(
        verify(&bundle, &deployment.keys(), other),
        Verdict::NotAuthentic { reason: Reason::OtherPerson }
    );
}

#[test]
fn a_receipt_names_the_place_that_has_not_answered_and_is_complete_once_it_has() {
    let deployment = Deployment::new();
    let month_before = Timestamp(ORDERED.0 - 30 * DAY_MICROS);
    for last_contact in [Some(month_before), None] {
        let Verdict::Pending(report) = verify(&deployment.pending(last_contact), &deployment.keys(), None)
        else {
            panic!("the third appliance has not answered");
        };
        let pending: Vec<_> = report.pending().collect();
        assert_eq!(pending.len(), 1);
        assert_eq!(pending[0].place, device(3));
        assert_eq!(pending[0].state, PlaceState::Pending { last_contact });
    }
    let json =
        serde_json::to_value(verify(&deployment.pending(Some(month_before)), &deployment.keys(), None))
            .unwrap();
    assert_eq!(json["verdict"], "pending");
    assert_eq!(json["places"][2]["state"], "pending");
    assert_eq!(json["places"][2]["last_contact"], "2026-10-31T12:00:00.000000Z");
    assert!(matches!(verify(&deployment.complete(), &deployment.keys(), None), Verdict::Complete(_)));
}

#[test]
fn lost_and_retired_appliances_stay_visible() {
    let deployment = Deployment::new();
    for state in [PlaceState::Impossible { at: ORDERED }, PlaceState::Retired { at: ORDERED }] {
        let mut notes = deployment.notes();
        notes.remove(2);
        let mut cover = deployment.cover(&notes);
        cover.places.insert(device(3), state);
        let bundle = deployment.bundle(notes, &cover);
        let Verdict::Complete(report) = verify(&bundle, &deployment.keys(), None) else { panic!("{bundle}") };
        assert_eq!(report.places[2].state, state);
    }
}

/// Every byte, so also each of 200 that are evenly spaced.
#[test]
fn a_receipt_with_a_changed_byte_is_not_authentic() {
    let deployment = Deployment::new();
    let keys = deployment.keys();
    for bundle in [deployment.complete(), deployment.pending(None)] {
        let bytes = bundle.to_string().into_bytes();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            let verdict = verify_bytes(&changed, &keys, None);
            assert!(matches!(verdict, Verdict::NotAuthentic { .. }), "byte {at}: {verdict:?}");
        }
        for end in 0..bytes.len() {
            let verdict = verify_bytes(&bytes[..end], &keys, None);
            assert!(matches!(verdict, Verdict::NotAuthentic { .. }), "cut at {end}: {verdict:?}");
        }
    }
}

#[test]
fn a_statement_of_another_order_or_person_is_found() {
    let deployment = Deployment::new();
    let other_order = |s: &mut Statement| s.order = uuid::Uuid::from_u128(7);
    let other_person = |s: &mut Statement| s.subject = Subject([1; 16]);
    for change in [&other_order as &dyn Fn(&mut Statement), &other_person] {
        let mut notes = deployment.notes();
        let mut changed = statement(device(2));
        change(&mut changed);
        notes[1] = changed.sign(&deployment.devices[1]).unwrap();
        let cover = deployment.cover(&notes);
        let bundle = deployment.bundle(notes, &cover);
        assert_eq!(reason(&bundle, &deployment.keys()), Reason::OtherOrder(device(2)));
    }
}

#[test]
fn a_missing_a_surplus_and_a_second_statement_are_found() {
    let deployment = Deployment::new();
    let (keys, notes) = (deployment.keys(), deployment.notes());
    let cover = deployment.cover(&notes);
    for at in 0..notes.len() {
        let mut some = notes.clone();
        some.remove(at);
        let bundle = deployment.bundle(some, &cover);
        assert_eq!(reason(&bundle, &keys), Reason::Missing(Deployment::places()[at].clone()));
    }
    let mut without = cover.clone();
    without.places.remove(&device(2));
    assert_eq!(reason(&deployment.bundle(notes.clone(), &without), &keys), Reason::NotListed(device(2)));
    let twice = notes.iter().chain([&notes[1]]).cloned().collect();
    assert_eq!(reason(&deployment.bundle(twice, &cover), &keys), Reason::Twice(device(2)));
}

#[test]
fn an_older_cover_does_not_fit_newer_statements() {
    let deployment = Deployment::new();
    let (keys, notes) = (deployment.keys(), deployment.notes());
    let older = deployment.pending(None);
    let bundle = deployment.bundle(notes.clone(), older.cover());
    assert_eq!(reason(&bundle, &keys), Reason::NotDone(device(3)));
    // The appliance erased again, and the cover has the hash of its earlier statement.
    let cover = deployment.cover(&notes);
    let mut newer = notes;
    let mut again = statement(device(1));
    again.done = Timestamp(again.done.0 + 1);
    newer[0] = again.sign(&deployment.devices[0]).unwrap();
    assert_eq!(reason(&deployment.bundle(newer, &cover), &keys), Reason::OtherStatement(device(1)));
}

#[test]
fn a_key_signs_only_for_its_own_place() {
    let deployment = Deployment::new();
    let keys = deployment.keys();
    let text = |place: Place| statement(place).to_text().unwrap();
    let mut forged = Vec::new();
    // An appliance for another one, and for the central places; the central services for an appliance.
    for (at, place) in
        [(1, device(2)), (3, Place::postgres("prod").unwrap()), (4, Place::objects("prod").unwrap())]
    {
        let refused = statement(place.clone()).sign(&deployment.devices[0]);
        assert!(matches!(refused, Err(TextError::OtherKey { .. })), "{refused:?}");
        forged.push((at, Note::sign(&text(place), &deployment.devices[0]).unwrap()));
    }
    forged.push((1, Note::sign(&text(device(2)), &deployment.central).unwrap()));
    for (at, note) in forged {
        let mut notes = deployment.notes();
        notes[at] = note;
        let cover = deployment.cover(&notes);
        let reason = reason(&deployment.bundle(notes, &cover), &keys);
        assert!(matches!(reason, Reason::OtherSigner { .. }), "{reason:?}");
    }
    let notes = deployment.notes();
    let cover = deployment.cover(&notes).to_text().unwrap();
    let bundle = Bundle::new(notes, Note::sign(&cover, &deployment.devices[0]).unwrap()).unwrap();
    assert!(matches!(reason(&bundle, &keys), Reason::OtherSigner { .. }));
}

#[test]
fn keys_of_other_signers_under_the_same_names_open_nothing() {
    let deployment = Deployment::new();
    let bundle = deployment.complete();
    let line = |signer: &Signer| signer.verifier_key().clone();
    // Two appliances with each other's key.
    let swapped = TrustedKeys::new(vec![
        line(&signer("prod/house-1", 2)),
        line(&signer("prod/house-2", 1)),
        line(&deployment.devices[2]),
        line(&deployment.central),
    ]);
    assert!(matches!(reason(&bundle, &swapped), Reason::Signature { .. }));
    let without_central = TrustedKeys::new(deployment.devices.iter().map(line).collect());
    assert!(matches!(reason(&bundle, &without_central), Reason::Signature { .. }));
    // A further key of the same name changes nothing.
    let mut both = deployment.keys().keys().to_vec();
    both.push(line(&signer("prod/central", 77)));
    assert!(matches!(verify(&bundle, &TrustedKeys::new(both), None), Verdict::Complete(_)));
}

#[test]
fn the_cover_is_the_last_note() {
    let deployment = Deployment::new();
    let bundle = deployment.complete().to_string();
    let at = bundle.find("gatehouse-cover/v1").unwrap();
    let (statements, cover) = bundle.split_at(at);
    for text in [format!("{cover}{statements}"), format!("{statements}{cover}{cover}"), statements.to_owned()]
    {
        assert!(matches!(
            verify_bytes(text.as_bytes(), &deployment.keys(), None),
            Verdict::NotAuthentic { .. }
        ));
    }
    let alone = verify_bytes(cover.as_bytes(), &deployment.keys(), None);
    assert!(matches!(alone, Verdict::NotAuthentic { reason: Reason::Missing(_) }), "{alone:?}");
}

#[test]
fn places_of_two_environments_are_no_cover() {
    let deployment = Deployment::new();
    let notes = deployment.notes();
    let mut cover: Cover = deployment.cover(&notes);
    cover.places.insert(Place::postgres("dev").unwrap(), PlaceState::Pending { last_contact: None });
    assert!(cover.sign(&deployment.central).is_err());
    cover.places.clear();
    assert!(cover.sign(&deployment.central).is_err());
}
