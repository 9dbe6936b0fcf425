//! Consent, its end, suspension and ordered erasures, shared by the appliances of a deployment.

use std::time::Duration;

use gatehouse_admin::shared_people::NewPerson;
use gatehouse_model::{Person, Timestamp};
use gatehouse_store::store::{Enrollment, OrderedBy};
use gatehouse_store::terms::Consent;
use gatehouse_testkit::wait;

use crate::delivery::{encoding, gallery_settings};
use crate::people::{Deployment, House, WAIT_TIMEOUT};

const SECOND: i64 = 1_000_000;

fn consent(reference: &str, until: Option<Timestamp>) -> Consent {
    Consent { reference: Some(reference.to_owned()), until }
}

async fn enroll(house: &House, id: &str, of: usize, consent: Consent) {
    let encodings = vec![encoding(of)];
    let enrollment = Enrollment { id, name: id, encodings, gallery: None, force: true, consent };
    house.store.people.enroll_reviewed(enrollment).await.unwrap();
}

/// Consent, end, and reason of the suspension as this appliance shows them.
fn terms(house: &House, id: &str) -> Option<[Option<String>; 3]> {
    let person = house.store.people.get(id)?;
    Some([person.consent, person.expires_at, person.suspension_reason])
}

async fn waits_for(house: &House, what: &str, condition: impl Fn(&House) -> bool) {
    let seen = wait::until_async(what, WAIT_TIMEOUT, || async { condition(house) }).await;
    assert!(seen.is_ok(), "{what} at {}: {:?}", house.device, house.store.people.list());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consent_and_suspension_reach_all_appliances_and_the_later_one_wins() {
    let deployment = Deployment::new("terms").await;
    let (mut one, mut two) = (deployment.house("one").await, deployment.house("two").await);
    one.go_online();
    two.go_online();
    let end = Timestamp(Timestamp::now().0 + 3600 * SECOND);
    enroll(&one, "anna", 0, consent("form 17", Some(end))).await;
    let given = Some([Some("form 17".to_owned()), Some(end.to_string()), None]);
    waits_for(&two, "the consent", |house| terms(house, "anna") == given).await;
    waits_for(&two, "the template", |house| house.knows(0) == Some("anna".into())).await;

    two.store.privacy.suspend("anna", Some("objection")).await.unwrap();
    assert_eq!(two.knows(0), None);
    waits_for(&one, "the suspension", |house| house.knows(0).is_none()).await;
    assert_eq!(terms(&one, "anna").unwrap()[2].as_deref(), Some("objection"));
    let central = deployment.central().await;
    let faces = central.identify(&[encoding(0)], gallery_settings()).await.unwrap();
    assert!(faces[0].person.is_none() && faces[0].distance.is_none(), "a stranger centrally, too");
    let listed = central.list().await.unwrap();
    assert_eq!(
        (listed[0].consent.as_deref(), &listed[0].expires_at),
        (Some("form 17"), &Some(end.to_string()))
    );
    assert_eq!(listed[0].suspension_reason.as_deref(), Some("objection"));

    // Both change the suspension while one of them is offline.
    one.settled().await;
    one.go_offline().await;
    one.store.privacy.suspend("anna", Some("earlier")).await.unwrap();
    central.resume("anna").await.unwrap();
    waits_for(&two, "the end of the suspension", |house| house.knows(0).is_some()).await;
    one.go_online();
    waits_for(&one, "the later change", |house| house.knows(0).is_some()).await;
    one.settled().await;
    two.settled().await;
    assert!(one.knows(0).is_some() && two.knows(0).is_some());
    assert!(central.resume("anna").await.is_err(), "she is not suspended");
    central.suspend("anna", None).await.unwrap();
    for house in [&one, &two] {
        waits_for(house, "the central suspension", |house| house.knows(0).is_none()).await;
    }
    // Templates and terms are unreadable for a thief of the role, and in no table but those of people.
    let plain = "select count(*) from gatehouse.person_terms t where encode(t.encrypted_value, 'escape') like '%form%'";
    assert_eq!(deployment.bed.count(plain).await, 0);
    one.store.people.erase("anna", OrderedBy::User(0)).await.unwrap();
    one.settled().await;
    assert_eq!(deployment.bed.count("select count(*) from gatehouse.person_terms").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_consent_erases_once_and_not_who_is_enrolled_again() {
    let deployment = Deployment::new("termsend").await;
    let (mut one, mut two) = (deployment.house("one").await, deployment.house("two").await);
    one.go_online();
    two.go_online();
    let end = Timestamp(Timestamp::now().0 + 3 * SECOND);
    enroll(&one, "anna", 0, consent("form 17", Some(end))).await;
    two.waits_for("the person", &[("anna", "anna", 1)]).await;
    two.settled().await;
    two.go_offline().await;
    while Timestamp::now() < end {
        assert_eq!(one.store.privacy.erase_expired(true).await.unwrap(), 0);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    one.settled().await;
    one.go_offline().await;
    assert_eq!(one.store.privacy.erase_expired(true).await.unwrap(), 1);
    enroll(&one, "anna", 5, Consent::default()).await;
    one.go_online();
    one.settled().await;
    assert_eq!(one.store.privacy.erase_expired(true).await.unwrap(), 0);

    // The other one erases the former person only now, by the same order.
    assert_eq!(two.store.privacy.erase_expired(true).await.unwrap(), 1);
    two.go_online();
    two.waits_for("who is enrolled again", &[("anna", "anna", 1)]).await;
    two.settled().await;
    one.settled().await;
    for house in [&one, &two] {
        assert_eq!((house.knows(0), house.knows(5)), (None, Some("anna".into())), "{}", house.device);
        assert_eq!(terms(house, "anna"), Some([None, None, None]));
    }
    assert_eq!(deployment.bed.count("select count(*) from gatehouse.erasure_orders").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_required_consent_is_required_on_every_way_in() {
    let deployment = Deployment::new("termsrequired").await;
    let (mut one, mut strict) = (deployment.house("one").await, deployment.house("strict").await);
    strict.store.privacy.require_consent();
    one.go_online();
    strict.go_online();
    enroll(&one, "anna", 0, Consent::default()).await;
    enroll(&one, "bert", 5, consent("form 2", None)).await;
    strict.waits_for("who has given a consent", &[("bert", "bert", 1)]).await;
    strict.settled().await;
    let status = crate::delivery::rows_of(strict.sync()).await;
    assert!(status.last_set_aside.as_ref().unwrap().contains("privacy.consent"), "{status:?}");
    // As soon as there is one, the person is enrolled here as well.
    enroll(&one, "anna", 0, consent("form 1", None)).await;
    strict.waits_for("the consent", &[("anna", "anna", 1), ("bert", "bert", 1)]).await;

    let central = deployment.central_with(|config| {
        config.privacy.consent = gatehouse_config::Consent::Required;
    });
    let central = central.await;
    let new = |consent| NewPerson {
        person: Person { id: "carl".into(), name: "Carl".into() },
        encodings: vec![encoding(7)],
        force: true,
        consent,
    };
    let refused = central.enrol(new(Consent::default()), gallery_settings()).await.unwrap_err().to_string();
    assert!(refused.contains("privacy.consent") && refused.contains("--consent"), "{refused}");
    assert_eq!(central.enrol(new(consent("form 3", None)), gallery_settings()).await.unwrap(), 1);
    waits_for(&strict, "who is enrolled centrally", |house| {
        terms(house, "carl").is_some_and(|terms| terms[0].as_deref() == Some("form 3"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordered_erasure_makes_a_stranger_everywhere_and_is_one_order_at_its_end() {
    let deployment = Deployment::new("termsgrace").await;
    let (mut one, mut two) = (deployment.house("one").await, deployment.house("two").await);
    one.go_online();
    two.go_online();
    enroll(&one, "anna", 0, Consent::default()).await;
    two.waits_for("the person", &[("anna", "anna", 1)]).await;
    let by = OrderedBy::User(1000);
    one.store.privacy.order_erasure("anna", by, Duration::from_secs(3600)).await.unwrap();
    waits_for(&two, "the order", |house| house.knows(0).is_none()).await;
    let central = deployment.central().await;
    assert!(central.list().await.unwrap()[0].erasure_ordered);
    let faces = central.identify(&[encoding(0)], gallery_settings()).await.unwrap();
    assert!(faces[0].person.is_none(), "a stranger centrally, too");
    central.restore("anna").await.unwrap();
    for house in [&one, &two] {
        waits_for(house, "the end of the order", |house| house.knows(0).is_some()).await;
    }
    assert!(central.restore("anna").await.is_err(), "no erasure is ordered");

    let end = central.order_erasure("anna", Duration::from_secs(3)).await.unwrap();
    for house in [&one, &two] {
        waits_for(house, "the central order", |house| house.knows(0).is_none()).await;
        assert_eq!(house.store.privacy.erase_expired(true).await.unwrap(), 0, "not before its time");
    }
    while Timestamp::now() < end {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for house in [&one, &two] {
        house.store.privacy.erase_expired(true).await.unwrap();
        house.waits_for("the erasure", &[]).await;
        house.settled().await;
    }
    assert_eq!(deployment.bed.count("select count(*) from gatehouse.erasure_orders").await, 1);
    let stated = "select count(*) from gatehouse.erasure_places where statement like '%by central%'";
    assert_eq!(deployment.bed.count(stated).await, 2, "both have stated it");
}
