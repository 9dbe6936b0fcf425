//! Random changes of people by several appliances and the central database, under random partitions: in the end all agree,
//! and erased people are gone.

use gatehouse_store::store::OrderedBy;
use std::collections::BTreeMap;

use fastrand::Rng;
use gatehouse_admin::shared_people::NewPerson;
use gatehouse_model::Person;
use gatehouse_store::store::Enrollment;
use gatehouse_store::terms::Consent;
use gatehouse_testkit::wait;

use crate::delivery::{encoding, gallery_settings};
use crate::people::{Deployment, House, WAIT_TIMEOUT};

const SEEDS: u64 = 4;
const STEPS: usize = 40;
const HOUSES: usize = 3;
const PEOPLE: [&str; 4] = ["anna", "bert", "cleo", "dora"];
/// Different samples in all.
const SAMPLES: usize = 12;
/// Successes of each operation that all seeds together must reach: most others are refused, since the person is not there.
const SUCCESSES_MIN: [(Operation, usize); 5] = [
    (Operation::Enroll, 30),
    (Operation::Rename, 4),
    (Operation::Erase, 2),
    (Operation::EraseEverywhere, 2),
    (Operation::EnrollCentrally, 4),
];

/// An operation that may be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Enroll,
    Rename,
    Erase,
    EraseEverywhere,
    EnrollCentrally,
}

type Successes = BTreeMap<Operation, usize>;

struct Model {
    deployment: Deployment,
    houses: Vec<House>,
    online: Vec<bool>,
    random: Rng,
    names: usize,
    /// People not enrolled again since an erasure that reached all appliances.
    gone: BTreeMap<&'static str, bool>,
    successes: Successes,
}

impl Model {
    async fn new(seed: u64) -> Self {
        let deployment = Deployment::new(&format!("peoplemodel{seed}")).await;
        let mut houses = Vec::new();
        for nth in 0..HOUSES {
            houses.push(deployment.house(&format!("house-{nth}")).await);
        }
        let random = Rng::with_seed(seed);
        Self {
            deployment,
            houses,
            online: vec![false; HOUSES],
            random,
            names: 0,
            gone: BTreeMap::new(),
            successes: Successes::new(),
        }
    }

    async fn step(&mut self) {
        let (at, id) = (self.random.usize(0..HOUSES), *self.random.choice(&PEOPLE).unwrap());
        match self.random.u8(0..14) {
            0..=4 => self.enrol(at, id).await,
            5 | 6 => {
                self.names += 1;
                let name = format!("Name {}", self.names);
                let renamed = self.houses[at].store.people.rename(id, &name).await;
                self.count(Operation::Rename, renamed.is_ok());
            }
            7 => {
                let erased = self.houses[at].store.people.erase(id, OrderedBy::User(0)).await;
                self.count(Operation::Erase, erased.is_ok());
            }
            8 => self.erase_before_all(id).await,
            9 => self.enrol_centrally(id).await,
            _ => self.switch(at).await,
        }
    }

    /// Notes a success. A refusal is allowed: the person may be missing here.
    fn count(&mut self, operation: Operation, is_success: bool) {
        *self.successes.entry(operation).or_default() += usize::from(is_success);
    }

    async fn enrol(&mut self, at: usize, id: &'static str) {
        let store = &self.houses[at].store;
        let name = store.people.get(id).map_or_else(|| format!("{id} of {at}"), |person| person.name);
        let sample = encoding(self.random.usize(0..SAMPLES));
        // Refused if the person was renamed by another appliance meanwhile.
        let enrolled = store
            .people
            .enroll_reviewed(Enrollment {
                id,
                name: &name,
                encodings: vec![sample],
                gallery: None,
                force: true,
                consent: Consent::default(),
            })
            .await
            .is_ok();
        self.count(Operation::Enroll, enrolled);
        if enrolled {
            self.gone.remove(id);
        }
    }

    async fn enrol_centrally(&mut self, id: &'static str) {
        let central = self.deployment.central().await;
        let name = central.list().await.unwrap().into_iter().find(|person| person.id == id);
        let person =
            Person { id: id.into(), name: name.map_or_else(|| format!("{id} of all"), |person| person.name) };
        let sample = encoding(self.random.usize(0..SAMPLES));
        let new = NewPerson { person, encodings: vec![sample], force: true, consent: Consent::default() };
        let enrolled = central.enrol(new, gallery_settings()).await.is_ok();
        self.count(Operation::EnrollCentrally, enrolled);
        if enrolled {
            self.gone.remove(id);
        }
    }

    /// Erases a person that every appliance has.
    async fn erase_before_all(&mut self, id: &'static str) {
        self.agree().await;
        let erased = self.houses[0].store.people.erase(id, OrderedBy::User(0)).await.is_ok();
        self.count(Operation::EraseEverywhere, erased);
        if erased {
            self.agree().await;
            self.gone.insert(id, true);
        }
    }

    async fn switch(&mut self, at: usize) {
        match self.online[at] {
            true => self.houses[at].go_offline().await,
            false => self.houses[at].go_online(),
        }
        self.online[at] ^= true;
    }

    /// All appliances are online, and agree with each other and with the database in the end.
    async fn agree(&mut self) {
        for at in 0..HOUSES {
            if !self.online[at] {
                self.switch(at).await;
            }
        }
        for house in self.houses.iter().chain(&self.houses) {
            house.settled().await;
        }
        let central = self.deployment.central().await;
        let agreed = wait::until_async("all to agree", WAIT_TIMEOUT, || async {
            let reported: Vec<_> = central.list().await.unwrap();
            let reported: Vec<_> = reported
                .into_iter()
                .map(|person| (person.id, person.name, person.samples as usize))
                .collect();
            self.houses.iter().all(|house| house.people() == reported)
        })
        .await;
        if agreed.is_err() {
            let people: Vec<_> = self.houses.iter().map(House::people).collect();
            panic!("they do not agree: {people:?}, centrally {:?}", central.list().await.unwrap());
        }
        for id in self.gone.keys() {
            assert!(self.houses[0].store.people.get(id).is_none(), "{id} was erased and not enrolled again");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_done_in_whatever_partition_all_agree_in_the_end() {
    let mut successes = Successes::new();
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let mut model = Model::new(seed).await;
        for _ in 0..STEPS {
            model.step().await;
        }
        model.agree().await;
        model.deployment.erasures_applied().await;
        for (operation, count) in model.successes {
            *successes.entry(operation).or_default() += count;
        }
    }
    println!("{successes:?}");
    for (operation, least) in SUCCESSES_MIN {
        assert!(successes[&operation] >= least, "{operation:?} hardly ever succeeded: {successes:?}");
    }
}
