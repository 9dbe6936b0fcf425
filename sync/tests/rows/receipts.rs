//! Receipts of erasures: every appliance that may contain the person answers, and the receipt says who has not.

use gatehouse_admin::receipt::{Receipts, Which, signer};
use gatehouse_receipt::{
    Bundle, By, Check, Destroyed, Place, PlaceState, Signer, Statement, TrustedKeys, Verdict, verify_bytes,
};
use gatehouse_store::receipt_subject::receipt_subject;
use gatehouse_store::store::OrderedBy;

use crate::delivery::{encoding, visits};
use crate::people::{Deployment, House};

const VISITS: u64 = 3;
/// Bytes of a receipt that are changed, one after the other.
const FLIPS: usize = 200;

impl Deployment {
    fn officer(&self) -> Signer {
        signer(&self.central_config(), "7c".repeat(32).as_bytes()).unwrap()
    }

    async fn receipt(&self, id: &str) -> Bundle {
        let config = self.central_config();
        Receipts::open(&config).await.unwrap().issue(Which::Person(id), &self.officer()).await.unwrap()
    }

    async fn trusted(&self) -> TrustedKeys {
        let config = self.central_config();
        let keys = Receipts::open(&config).await.unwrap().keys().await.unwrap();
        let own = self.officer().verifier_key().to_string();
        TrustedKeys::parse(&format!("{own}\n{}", keys.join("\n"))).unwrap()
    }

    async fn verdict(&self, receipt: &Bundle, id: &str) -> Verdict {
        let subject = receipt_subject(self.secret.as_bytes(), id).unwrap();
        verify_bytes(receipt.to_string().as_bytes(), &self.trusted().await, Some(&subject))
    }
}

fn state_of(receipt: &Bundle, device: &str) -> Option<PlaceState> {
    let mut places = receipt.cover().places.iter();
    places.find(|(place, _)| place.device_id() == Some(device)).map(|(_, state)| *state)
}

fn statement_of(receipt: &Bundle, is_place: impl Fn(&Place) -> bool) -> &Statement {
    receipt.statements().find(|statement| is_place(&statement.place)).unwrap()
}

/// Three appliances with Anna, of which the last is offline.
async fn three(name: &str) -> (Deployment, [House; 3]) {
    let deployment = Deployment::new(name).await;
    let (mut one, mut two, mut three) =
        (deployment.house("one").await, deployment.house("two").await, deployment.house("three").await);
    one.store.people.enroll("anna", "Anna", vec![encoding(0)]).await.unwrap();
    visits(&one.store, 1..=usize::try_from(VISITS).unwrap(), 0).await;
    for house in [&mut one, &mut two, &mut three] {
        house.go_online();
    }
    for house in [&one, &two, &three] {
        house.waits_for("Anna", &[("anna", "Anna", 1)]).await;
        house.settled().await;
    }
    three.go_offline().await;
    (deployment, [one, two, three])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_is_pending_until_the_last_appliance_has_answered() {
    let (deployment, [one, two, mut three]) = Box::pin(three("receipts")).await;
    one.store.people.erase("anna", OrderedBy::User(1000)).await.unwrap();
    two.waits_for("the erasure", &[]).await;
    one.settled().await;
    two.settled().await;

    let early = deployment.receipt("anna").await;
    assert!(matches!(state_of(&early, "one"), Some(PlaceState::Done { .. })));
    assert!(matches!(state_of(&early, "two"), Some(PlaceState::Done { .. })));
    assert!(matches!(state_of(&early, "three"), Some(PlaceState::Pending { last_contact: Some(_) })));
    let Verdict::Pending(report) = deployment.verdict(&early, "anna").await else { panic!("{early}") };
    let pending: Vec<_> = report.pending().filter_map(|place| place.place.device_id()).collect();
    assert_eq!(pending, ["three"]);

    let by_one = statement_of(&early, |place| place.device_id() == Some("one"));
    assert_eq!(by_one.by, By::User(1000));
    assert_eq!(by_one.destroyed.get(&Destroyed::References), Some(&VISITS));
    assert_eq!(by_one.destroyed.get(&Destroyed::Templates), Some(&1));
    assert_eq!(by_one.verified.get(&Check::SlotFree), Some(&2));
    assert_eq!(by_one.verified.get(&Check::SearchOther), Some(&1));
    let by_two = statement_of(&early, |place| place.device_id() == Some("two"));
    assert_eq!((by_two.by, by_two.destroyed.get(&Destroyed::References)), (By::Central, None));
    let by_rows = statement_of(&early, Place::is_postgres);
    assert_eq!(by_rows.destroyed.get(&Destroyed::Events), Some(&VISITS));
    assert_eq!(by_rows.verified.get(&Check::RowsAbsent), Some(&4));

    three.go_online();
    three.waits_for("the erasure", &[]).await;
    three.settled().await;
    let complete = deployment.receipt("anna").await;
    assert!(matches!(deployment.verdict(&complete, "anna").await, Verdict::Complete(_)), "{complete}");
    assert!(matches!(deployment.verdict(&complete, "bert").await, Verdict::NotAuthentic { .. }));
    assert!(matches!(deployment.verdict(&early, "anna").await, Verdict::Pending(_)), "it stays authentic");
    assert!(!complete.to_string().to_lowercase().contains("anna"), "a receipt names no person");
    assert_no_flipped_byte_is_accepted(&complete, &deployment.trusted().await);
}

/// Every changed byte makes it another receipt, or none.
fn assert_no_flipped_byte_is_accepted(receipt: &Bundle, keys: &TrustedKeys) {
    let text = receipt.to_string().into_bytes();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..FLIPS {
        let (at, bit) = (random.usize(0..text.len()), 1 << random.u8(0..7));
        let mut changed = text.clone();
        changed[at] ^= bit;
        let verdict = verify_bytes(&changed, keys, None);
        assert!(matches!(verdict, Verdict::NotAuthentic { .. }), "byte {at}, bit {bit}: {verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_appliances_stay_on_the_receipt_and_new_ones_are_not_asked() {
    let (deployment, [one, two, three]) = Box::pin(three("lostreceipts")).await;
    deployment.central().await.erase("anna").await.unwrap();
    one.waits_for("the erasure", &[]).await;
    two.waits_for("the erasure", &[]).await;
    one.settled().await;
    two.settled().await;
    let mut four = deployment.house("four").await;
    four.go_online();
    four.settled().await;
    gatehouse_admin::retire(&deployment.central_config(), "three", true).await.unwrap();

    let receipt = deployment.receipt("anna").await;
    assert_eq!(state_of(&receipt, "four"), None, "it never had the person");
    assert!(matches!(state_of(&receipt, "three"), Some(PlaceState::Impossible { .. })));
    assert!(matches!(deployment.verdict(&receipt, "anna").await, Verdict::Complete(_)));
    assert_eq!(three.people().len(), 1, "it was lost with Anna");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_state_directory_that_comes_back_is_on_the_receipt() {
    let (deployment, [mut one, two, mut three]) = Box::pin(three("oldreceipts")).await;
    let old = one.copy_state(&deployment.secret).await;
    one.store.people.erase("anna", OrderedBy::User(0)).await.unwrap();
    three.go_online();
    for house in [&one, &two, &three] {
        house.waits_for("the erasure", &[]).await;
        house.settled().await;
    }
    assert_eq!(state_of(&deployment.receipt("anna").await, "revenant"), None, "no record of it exists");
    let mut revenant = deployment.house_from("revenant", old).await;
    revenant.go_online();
    revenant.waits_for("the erasure", &[]).await;
    revenant.settled().await;
    let receipt = deployment.receipt("anna").await;
    assert!(matches!(state_of(&receipt, "revenant"), Some(PlaceState::Done { .. })));
    let its = statement_of(&receipt, |place| place.device_id() == Some("revenant"));
    assert_eq!(its.destroyed.get(&Destroyed::References), Some(&VISITS));
    assert!(matches!(deployment.verdict(&receipt, "anna").await, Verdict::Complete(_)));
}
