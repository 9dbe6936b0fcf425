//! Restored copies, of the central database and of an appliance's state directory, bring no erased person back and lose
//! no erasure.

use gatehouse_store::store::OrderedBy;
use std::collections::BTreeMap;

use fastrand::Rng;
use gatehouse_store::store::Enrollment;
use gatehouse_store::terms::Consent;
use gatehouse_testkit::postgres::Postgres;
use gatehouse_testkit::wait;
use tempfile::TempDir;

use crate::delivery::{encoding, rows_of, visits};
use crate::people::{Deployment, House, WAIT_TIMEOUT};

/// Random sequences of a run. `GATEHOUSE_TEST_SEQUENCES` sets another number.
const SEQUENCES: u64 = 12;
/// Sequences that follow each other in one database, with the copies that earlier ones made.
const SEQUENCES_PER_DATABASE: u64 = 6;
const STEPS: usize = 12;
const HOUSES: usize = 2;
const PEOPLE: [&str; 3] = ["anna", "bert", "cleo"];

/// A backup of the central database.
struct Backup(String);

impl Deployment {
    async fn back_up(&self, name: &str) -> Backup {
        let live = &self.bed.database.name;
        let backup = format!("{live}_{name}");
        Postgres::shared().unwrap().copy_database(live, &backup).await.unwrap();
        Backup(backup)
    }

    async fn restore(&self, Backup(backup): &Backup) {
        let live = &self.bed.database.name;
        Postgres::shared().unwrap().copy_database(backup, live).await.unwrap();
    }

    async fn assert_absent(&self, id: &str) {
        for table in ["persons", "persons_history", "events"] {
            let left = format!("select count(*) from gatehouse.{table} t where t::text like '%{id}%'");
            assert_eq!(self.bed.count(&left).await, 0, "{id} in {table}");
        }
    }

    async fn held(&self) -> i64 {
        self.bed.count("select count(*) from gatehouse.held_people").await
    }
}

impl House {
    /// Waits until the appliance is connected again and has given and taken everything.
    async fn recovers(&self) {
        wait::until_async("the restored database to be reached", WAIT_TIMEOUT, || async {
            self.sync().now(WAIT_TIMEOUT).await;
            rows_of(self.sync()).await.error.is_none()
        })
        .await
        .unwrap();
        self.settled().await;
    }
}

async fn two_who_share(name: &str) -> (Deployment, House, House) {
    let deployment = Deployment::new(name).await;
    let (mut one, mut two) = (deployment.house("one").await, deployment.house("two").await);
    one.store.people.enroll("anna", "Anna", vec![encoding(0)]).await.unwrap();
    one.store.people.enroll("bert", "Bert", vec![encoding(5)]).await.unwrap();
    visits(&one.store, 1..=3, 0).await;
    one.go_online();
    two.go_online();
    two.waits_for("all people", &[("anna", "Anna", 1), ("bert", "Bert", 1)]).await;
    one.settled().await;
    two.settled().await;
    (deployment, one, two)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_state_directory_under_a_new_id_brings_no_erased_person_back() {
    let (deployment, mut one, two) = Box::pin(two_who_share("oldstate")).await;
    let old = one.copy_state(&deployment.secret).await;
    one.store.people.erase("anna", OrderedBy::User(0)).await.unwrap();
    two.waits_for("the erasure", &[("bert", "Bert", 1)]).await;
    one.settled().await;
    two.settled().await;
    deployment.erasures_applied().await;

    let mut revenant = deployment.house_from("revenant", old).await;
    assert_eq!(revenant.people().len(), 2);
    revenant.go_online();
    revenant.waits_for("the erasure of long ago", &[("bert", "Bert", 1)]).await;
    revenant.settled().await;
    for house in [&one, &two] {
        house.settled().await;
        house.waits_for("no change", &[("bert", "Bert", 1)]).await;
    }
    deployment.assert_absent("anna").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_database_receives_every_erasure_again_and_loses_no_later_one() {
    let (deployment, one, two) = Box::pin(two_who_share("restoreddb")).await;
    let backup = deployment.back_up("before").await;
    one.recovers().await;
    two.recovers().await;
    one.store.people.erase("anna", OrderedBy::User(0)).await.unwrap();
    two.waits_for("the erasure", &[("bert", "Bert", 1)]).await;
    one.settled().await;
    two.settled().await;
    deployment.assert_absent("anna").await;

    deployment.restore(&backup).await;
    one.recovers().await;
    two.recovers().await;
    // A new appliance takes people only after the erasures are there again.
    let mut new = deployment.house("new").await;
    new.go_online();
    new.waits_for("those who are not erased", &[("bert", "Bert", 1)]).await;
    deployment.assert_absent("anna").await;
    assert_eq!(deployment.held().await, 0, "each appliance has sent its erasures");

    // Its change numbers were given before, with another meaning.
    deployment.central().await.erase("bert").await.unwrap();
    for house in [&one, &two, &new] {
        house.waits_for("the later erasure", &[]).await;
    }
    deployment.assert_absent("bert").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_after_a_restore_do_not_hide_it_from_an_appliance_that_comes_later() {
    let (deployment, mut one, mut two) = Box::pin(two_who_share("hiddenrestore")).await;
    let backup = deployment.back_up("before").await;
    one.recovers().await;
    two.recovers().await;
    deployment.central().await.erase("anna").await.unwrap();
    one.waits_for("the erasure", &[("bert", "Bert", 1)]).await;
    two.waits_for("the erasure", &[("bert", "Bert", 1)]).await;
    one.settled().await;
    two.settled().await;
    one.go_offline().await;
    two.go_offline().await;
    deployment.restore(&backup).await;
    // More numbers than the appliances have seen, all of other changes.
    let central = deployment.central().await;
    for name in ["Bert B.", "Bert C.", "Bert D.", "Bert E.", "Bert F."] {
        central.rename("bert", name).await.unwrap();
    }
    central.erase("bert").await.unwrap();

    two.go_online();
    two.waits_for("the erasure that came later", &[]).await;
    two.settled().await;
    assert_eq!(deployment.held().await, 0, "nothing is left to hold back");
    deployment.assert_absent("anna").await;
    one.go_online();
    one.waits_for("the erasure that came later", &[]).await;
    one.settled().await;
    let status = rows_of(one.sync()).await;
    assert!(status.last_set_aside.is_some_and(|note| note.contains("restored to an earlier time")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_held_back_until_every_appliance_has_sent_its_erasures_or_is_given_up() {
    let (deployment, one, mut two) = Box::pin(two_who_share("held")).await;
    let backup = deployment.back_up("before").await;
    one.recovers().await;
    two.recovers().await;
    two.go_offline().await;
    two.store.people.erase("anna", OrderedBy::User(0)).await.unwrap();
    deployment.restore(&backup).await;
    deployment.central().await.hold().await.unwrap();
    one.recovers().await;
    let mut new = deployment.house("new").await;
    new.go_online();
    new.settled().await;
    assert_eq!((new.people().len(), deployment.held().await), (0, 2), "two has not sent its erasures");
    let held = deployment.central().await.held().await.unwrap();
    assert_eq!((held.people, held.waits_for.as_slice()), (2, ["two".to_owned()].as_slice()));

    // Changes of today are delivered meanwhile.
    one.store.people.enroll("dora", "Dora", vec![encoding(9)]).await.unwrap();
    new.waits_for("a new person", &[("dora", "Dora", 1)]).await;
    assert_eq!(deployment.central().await.release().await.unwrap(), 2);
    new.waits_for("those who were held", &[("anna", "Anna", 1), ("bert", "Bert", 1), ("dora", "Dora", 1)])
        .await;
    two.go_online();
    new.waits_for("the erasure of the last", &[("bert", "Bert", 1), ("dora", "Dora", 1)]).await;
    deployment.assert_absent("anna").await;
}

/// Random changes, restores and partitions.
struct Model {
    deployment: Deployment,
    houses: Vec<House>,
    online: Vec<bool>,
    random: Rng,
    /// Copies of state directories, of the appliance with this number.
    copies: Vec<(usize, TempDir)>,
    backup: Option<Backup>,
    /// People whose last change was an erasure.
    erased: BTreeMap<&'static str, bool>,
    erasures: usize,
    restores: usize,
}

impl Model {
    async fn new(seed: u64) -> Self {
        let deployment = Deployment::new(&format!("restoremodel{seed}")).await;
        let mut houses = Vec::new();
        for nth in 0..HOUSES {
            houses.push(deployment.house(&format!("house-{nth}")).await);
        }
        let mut model = Self {
            deployment,
            houses,
            online: vec![false; HOUSES],
            random: Rng::with_seed(seed),
            copies: Vec::new(),
            backup: None,
            erased: BTreeMap::new(),
            erasures: 0,
            restores: 0,
        };
        model.enroll_all().await;
        model
    }

    /// The beginning of each sequence: the first appliance has all people.
    async fn enroll_all(&mut self) {
        for id in PEOPLE {
            self.enroll(0, id).await;
        }
        self.agree().await;
    }

    async fn step(&mut self) {
        let (at, id) = (self.random.usize(0..self.houses.len()), *self.random.choice(&PEOPLE).unwrap());
        match self.random.u8(0..14) {
            0..=3 => self.enroll(at, id).await,
            4..=6 => self.erase(at, id).await,
            7 => self.copy(at).await,
            8 => self.restore_device(at).await,
            9 => self.back_up().await,
            10 | 11 => self.restore_database().await,
            _ => self.switch(at).await,
        }
    }

    async fn enroll(&mut self, at: usize, id: &'static str) {
        let store = &self.houses[at].store;
        let name = store.people.get(id).map_or_else(|| id.to_owned(), |person| person.name);
        let sample = encoding(self.random.usize(0..12));
        let enrollment = Enrollment {
            id,
            name: &name,
            encodings: vec![sample],
            gallery: None,
            force: true,
            consent: Consent::default(),
        };
        if store.people.enroll_reviewed(enrollment).await.is_ok() {
            self.erased.insert(id, false);
        }
    }

    async fn erase(&mut self, at: usize, id: &'static str) {
        if self.houses[at].store.people.erase(id, OrderedBy::User(0)).await.is_ok() {
            self.erased.insert(id, true);
            self.erasures += 1;
        }
    }

    async fn copy(&mut self, at: usize) {
        let copy = self.houses[at].copy_state(&self.deployment.secret.clone()).await;
        self.copies.push((at, copy));
    }

    /// The board is replaced, and a copy of its state directory is used under a new id. What it had not delivered is
    /// lost with it, so it delivers everything first.
    async fn restore_device(&mut self, at: usize) {
        let Some(found) = self.copies.iter().position(|(of, _)| *of == at) else { return };
        self.agree().await;
        let (_, copy) = self.copies.remove(found);
        let device = format!("house-{at}-{}", self.restores);
        self.restores += 1;
        self.houses[at].go_offline().await;
        let retire = format!(
            "update gatehouse.devices set role_name = null where device_id = '{}'",
            self.houses[at].device
        );
        self.deployment.bed.database.connect().await.unwrap().batch_execute(&retire).await.unwrap();
        self.houses[at] = self.deployment.house_from(&device, copy).await;
        self.online[at] = false;
    }

    async fn back_up(&mut self) {
        self.backup = Some(self.deployment.back_up("backup").await);
    }

    async fn restore_database(&mut self) {
        let Some(backup) = self.backup.take() else { return };
        self.deployment.restore(&backup).await;
        self.restores += 1;
        for house in &self.houses {
            self.enroll_device(&house.device).await;
        }
        self.backup = Some(backup);
    }

    /// The role of an appliance outlives a restored database that does not contain the appliance.
    async fn enroll_device(&self, device: &str) {
        let known = format!("select count(*) from gatehouse.devices where device_id = '{device}'");
        if self.deployment.bed.count(&known).await == 0 {
            let database = &self.deployment.bed.database;
            let drop = format!("drop role \"{}_{device}\"", database.name);
            database.connect().await.unwrap().batch_execute(&drop).await.unwrap();
        }
        self.deployment.bed.enrolled(device).await;
    }

    async fn switch(&mut self, at: usize) {
        match self.online[at] {
            true => self.houses[at].go_offline().await,
            false => self.houses[at].go_online(),
        }
        self.online[at] ^= true;
    }

    async fn agree(&mut self) {
        for at in 0..self.houses.len() {
            if !self.online[at] {
                self.switch(at).await;
            }
        }
        for house in self.houses.iter().chain(&self.houses) {
            house.recovers().await;
        }
        for (id, _) in self.erased.iter().filter(|(_, erased)| **erased) {
            for house in &self.houses {
                let gone = wait::until_async("an erasure to be applied", WAIT_TIMEOUT, || async {
                    house.store.people.get(id).is_none()
                })
                .await;
                assert!(gone.is_ok(), "{id} is back at {}", house.device);
            }
            let left = format!("select count(*) from gatehouse.persons where external_id = '{id}'");
            assert_eq!(self.deployment.bed.count(&left).await, 0, "{id} is back in the database");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sequence_of_restores_brings_a_person_back_or_loses_an_erasure() {
    let sequences = std::env::var("GATEHOUSE_TEST_SEQUENCES").ok().and_then(|text| text.parse().ok());
    let (mut erasures, mut restores) = (0, 0);
    let sequences = sequences.unwrap_or(SEQUENCES);
    for seed in 0..sequences.div_ceil(SEQUENCES_PER_DATABASE) {
        let mut model = Model::new(seed).await;
        for _ in 0..SEQUENCES_PER_DATABASE {
            model.enroll_all().await;
            for _ in 0..STEPS {
                model.step().await;
            }
            model.agree().await;
        }
        erasures += model.erasures;
        restores += model.restores;
    }
    let sequences = sequences.next_multiple_of(SEQUENCES_PER_DATABASE);
    println!("{sequences} sequences with {erasures} erasures and {restores} restores: none came back");
    assert!(erasures as u64 >= sequences && restores as u64 >= sequences / 2, "{erasures} {restores}");
}
