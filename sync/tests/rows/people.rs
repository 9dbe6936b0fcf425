//! People of a deployment: appliances with a role of their own each, stores of their own, one database.

use std::time::Duration;

use gatehouse_admin::shared_people::{Absence, NewPerson, People};
use gatehouse_model::{Outcome, Person, SinkState};
use gatehouse_store::Store;
use gatehouse_store::deployment::DeploymentKey;
use gatehouse_store::store::{Change, OrderedBy, ProbeFace};
use gatehouse_store::terms::Consent;
use gatehouse_sync::Sync;
use gatehouse_testkit::wait;

use crate::delivery::{encoding, open, rows_of};
use crate::support::{Bed, DEVICE_PASSWORD, deliver_all, event, named};

pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// A database and the key of those who share people through it.
pub(crate) struct Deployment {
    pub(crate) bed: Bed,
    pub(crate) secret: String,
}

/// An appliance.
pub(crate) struct House {
    pub(crate) device: String,
    pub(crate) store: Store,
    config: gatehouse_config::Config,
    sync: Option<Sync>,
    state: tempfile::TempDir,
}

impl Deployment {
    pub(crate) async fn new(name: &str) -> Self {
        let bed = Bed::new(name).await;
        Self { bed, secret: DeploymentKey::generate().to_string() }
    }

    /// An appliance that is offline.
    pub(crate) async fn house(&self, device: &str) -> House {
        self.house_with(device, &self.secret).await
    }

    pub(crate) async fn house_with(&self, device: &str, secret: &str) -> House {
        self.house_in(device, secret, tempfile::tempdir().unwrap()).await
    }

    /// An appliance with a copy of the state directory of another one.
    pub(crate) async fn house_from(&self, device: &str, state: tempfile::TempDir) -> House {
        self.house_in(device, &self.secret, state).await
    }

    async fn house_in(&self, device: &str, secret: &str, state: tempfile::TempDir) -> House {
        let rows = self.bed.enrolled(device).await;
        let password = self.bed.folder.path().join("device-password");
        std::fs::write(&password, DEVICE_PASSWORD).unwrap();
        let text = format!(
            "[device]\nid = \"{device}\"\nenvironment = \"dev\"\n\
             [central.rows]\nurl = \"{}\"\npassword_file = \"{}\"\n",
            rows.url,
            password.display()
        );
        let store = open(state.path());
        store.people.share(std::sync::Arc::new(DeploymentKey::new(secret.as_bytes()).unwrap()));
        let config = gatehouse_config::Config::from_text(&text).unwrap();
        House { device: device.to_owned(), store, config, sync: None, state }
    }

    /// Erasures that some appliance has not applied yet.
    pub(crate) async fn erasures_under_way(&self) -> i64 {
        let left = "select count(*) from gatehouse.erasure_orders o where o.change_no > \
                    (select min(c.people_applied) from gatehouse.device_cursors c)";
        self.bed.count(left).await
    }

    /// Waits until every appliance has applied every erasure.
    pub(crate) async fn erasures_applied(&self) {
        wait::until_async("every erasure to be applied by all", WAIT_TIMEOUT, || async {
            self.erasures_under_way().await == 0
        })
        .await
        .unwrap();
    }

    /// Central administration of people.
    pub(crate) async fn central(&self) -> People {
        self.central_with(|_| {}).await
    }

    /// Central administration of people with other settings.
    pub(crate) async fn central_with(&self, change: impl FnOnce(&mut gatehouse_config::Config)) -> People {
        let mut config = self.central_config();
        change(&mut config);
        People::open(&config).await.unwrap()
    }

    pub(crate) fn central_config(&self) -> gatehouse_config::Config {
        let mut config = self.bed.config("dev");
        let file = self.bed.folder.path().join("deployment-key");
        std::fs::write(&file, &self.secret).unwrap();
        config.central.people.key_file = Some(file);
        config
    }
}

impl House {
    pub(crate) fn go_online(&mut self) {
        self.sync = Some(Sync::start(&self.config, &self.store));
    }

    pub(crate) async fn go_offline(&mut self) {
        if let Some(sync) = self.sync.take() {
            sync.stop(WAIT_TIMEOUT).await;
        }
    }

    pub(crate) fn sync(&self) -> &Sync {
        self.sync.as_ref().unwrap()
    }

    /// Waits until all is given and taken.
    pub(crate) async fn settled(&self) {
        let sync = self.sync.as_ref().unwrap();
        sync.now(WAIT_TIMEOUT).await;
        wait::until_async("everything to be given and taken", WAIT_TIMEOUT, || async {
            let status = rows_of(sync).await;
            assert_eq!(status.error, None);
            let left = self.store.feed.changes(self.store.feed.rows_cursor(), 1000).unwrap();
            let all = left.iter().all(|change| matches!(change, Change::Nothing { .. }));
            status.state == SinkState::Idle && all
        })
        .await
        .unwrap();
    }

    /// Stops the appliance, copies its state directory, and starts it again.
    pub(crate) async fn copy_state(&mut self, secret: &str) -> tempfile::TempDir {
        let online = self.sync.is_some();
        self.go_offline().await;
        self.store.close();
        let copy = tempfile::tempdir().unwrap();
        let copied = std::process::Command::new("cp")
            .args(["-a", "--reflink=auto"])
            .arg(self.state.path().join("."))
            .arg(copy.path())
            .status()
            .unwrap();
        assert!(copied.success());
        self.store = open(self.state.path());
        self.store.people.share(std::sync::Arc::new(DeploymentKey::new(secret.as_bytes()).unwrap()));
        if online {
            self.go_online();
        }
        copy
    }

    /// Id, name and number of samples of all people.
    pub(crate) fn people(&self) -> Vec<(String, String, usize)> {
        self.store.people.list().into_iter().map(|person| (person.id, person.name, person.samples)).collect()
    }

    pub(crate) async fn waits_for(&self, what: &str, people: &[(&str, &str, usize)]) {
        let wanted: Vec<_> =
            people.iter().map(|(id, name, samples)| (id.to_string(), name.to_string(), *samples)).collect();
        let seen = wait::until_async(what, WAIT_TIMEOUT, || async { self.people() == wanted }).await;
        assert!(seen.is_ok(), "{what} at {}: {:?} instead of {wanted:?}", self.device, self.people());
    }

    pub(crate) fn knows(&self, of: usize) -> Option<String> {
        let camera = "door".try_into().unwrap();
        let answer =
            self.store.galleries.identify(&camera, &[ProbeFace { encoding: encoding(of), quality: None }]);
        let face = &answer.faces[0];
        assert_eq!(face.person.is_some(), face.outcome == Outcome::Match);
        face.person.as_ref().map(|person| person.id.clone())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_enrolled_at_one_door_is_known_at_the_others_and_erased_at_all() {
    let deployment = Deployment::new("people").await;
    let (mut one, mut two, mut late) =
        (deployment.house("one").await, deployment.house("two").await, deployment.house("late").await);
    // Before people were shared, as far as the database is concerned.
    one.store.people.enroll("anna", "Anna", vec![encoding(0), encoding(1)]).await.unwrap();
    one.go_online();
    two.go_online();
    two.waits_for("who was there before", &[("anna", "Anna", 2)]).await;
    assert_eq!((two.knows(0), two.knows(1), two.knows(2)), (Some("anna".into()), Some("anna".into()), None));

    // While both are online there is no polling: notifications arrive by themselves.
    two.store.people.enroll("bert", "Bert", vec![encoding(5)]).await.unwrap();
    two.store.people.enroll("anna", "Anna", vec![encoding(2)]).await.unwrap();
    two.store.people.rename("anna", "Anna B.").await.unwrap();
    one.waits_for("news of the other", &[("anna", "Anna B.", 3), ("bert", "Bert", 1)]).await;
    assert_eq!(one.knows(2), Some("anna".into()));

    // A late one downloads all people at once; what it enrolled by itself is one person with theirs.
    late.store.people.enroll("anna", "Anna of late", vec![encoding(0), encoding(9)]).await.unwrap();
    late.store.people.rename("anna", "Anna at last").await.unwrap();
    late.go_online();
    let all = [("anna", "Anna at last", 4), ("bert", "Bert", 1)];
    for house in [&one, &two, &late] {
        house.waits_for("all to agree", &all).await;
    }
    assert_eq!(late.sync.as_ref().unwrap().conflicts().await.unwrap().len(), 1, "two names for one person");

    one.store.people.erase("anna", OrderedBy::User(0)).await.unwrap();
    for house in [&one, &two, &late] {
        house.waits_for("the erasure", &[("bert", "Bert", 1)]).await;
        assert_eq!(house.knows(9), None);
    }
    for house in [&one, &two, &late] {
        house.settled().await;
    }
    for table in ["persons", "persons_history", "face_encodings"] {
        let left = format!("select count(*) from gatehouse.{table} t where t::text like '%nna%'");
        assert_eq!(deployment.bed.count(&left).await, 0, "{table}");
    }
    assert_eq!(deployment.bed.count("select count(*) from gatehouse.face_encodings").await, 1);
    // Each appliance erases what it has of the person and confirms it.
    assert_eq!(deployment.bed.count("select count(*) from gatehouse.erasures").await, 3);
    deployment.erasures_applied().await;

    // The same id, later: a new person.
    two.store.people.enroll("anna", "Another Anna", vec![encoding(7)]).await.unwrap();
    one.waits_for("who is enrolled again", &[("anna", "Another Anna", 1), ("bert", "Bert", 1)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_wins_over_a_month_offline() {
    let deployment = Deployment::new("erasewins").await;
    let (mut one, mut away) = (deployment.house("one").await, deployment.house("away").await);
    one.store.people.enroll("anna", "Anna", vec![encoding(0)]).await.unwrap();
    one.go_online();
    away.go_online();
    away.waits_for("all people", &[("anna", "Anna", 1)]).await;
    away.settled().await;
    away.go_offline().await;

    one.store.people.erase("anna", OrderedBy::User(0)).await.unwrap();
    one.settled().await;
    // Later, by whatever clock, and in good faith.
    away.store.people.rename("anna", "Anna for ever").await.unwrap();
    away.store.people.enroll("anna", "Anna for ever", vec![encoding(1)]).await.unwrap();
    // One that was retired is not waited for, this one is.
    deployment.house("retired").await;
    let retire = "update gatehouse.devices set role_name = null where device_id = 'retired'";
    deployment.bed.database.connect().await.unwrap().batch_execute(retire).await.unwrap();
    one.settled().await;
    assert_eq!(deployment.erasures_under_way().await, 1, "it waits for the other");
    away.go_online();
    away.waits_for("the erasure", &[]).await;
    away.settled().await;
    assert_eq!(one.people(), []);
    assert_eq!(deployment.bed.count("select count(*) from gatehouse.persons").await, 0);
    deployment.erasures_applied().await;
    let conflicts = one.sync.as_ref().unwrap().conflicts().await.unwrap();
    assert_eq!((conflicts[0].field.as_str(), conflicts[0].kept_by.as_str()), ("erased", "one"));
    assert_eq!((conflicts[0].lost_by.as_str(), &conflicts[0].person), ("away", &None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_central_side_enrols_renames_finds_and_erases() {
    let deployment = Deployment::new("centralpeople").await;
    let mut house = deployment.house("one").await;
    house.go_online();
    let central = deployment.central().await;
    let (person, settings) = (
        |id: &str, name: &str| Person { id: id.into(), name: name.into() },
        || crate::delivery::gallery_settings(),
    );
    let both = || vec![encoding(0), encoding(1)];
    let enrol = async |person, encodings| {
        let new = NewPerson { person, encodings, force: false, consent: Consent::default() };
        central.enrol(new, settings()).await
    };
    assert_eq!(enrol(person("anna", "Anna"), both()).await.unwrap(), 2);
    house.waits_for("who is enrolled centrally", &[("anna", "Anna", 2)]).await;
    assert_eq!(house.knows(1), Some("anna".into()));
    // Again, and foreign: nothing and a refusal.
    assert_eq!(enrol(person("anna", "Anna"), both()).await.unwrap(), 0);
    assert!(enrol(person("bert", "Bert"), both()).await.is_err());
    assert!(enrol(person("anna", "Berta"), both()).await.is_err());

    house.store.people.enroll("bert", "Bert", vec![encoding(5)]).await.unwrap();
    house.settled().await;
    // Whom the search finds, the appliance finds; whom it does not, neither.
    let probes: Vec<_> = (0..8).map(encoding).collect();
    let faces = central.identify(&probes, settings()).await.unwrap();
    for (of, face) in faces.iter().enumerate() {
        assert_eq!(face.person.as_ref().map(|person| person.id.clone()), house.knows(of), "probe {of}");
    }
    assert!(faces[5].person.is_some() && faces[7].outcome == Outcome::Stranger);

    central.rename("bert", "Bert at home").await.unwrap();
    house.waits_for("the name", &[("anna", "Anna", 2), ("bert", "Bert at home", 1)]).await;
    let listed = central.list().await.unwrap();
    assert_eq!(listed.iter().map(|one| one.named_by.as_str()).collect::<Vec<_>>(), ["central", "central"]);
    central.erase("anna").await.unwrap();
    house.waits_for("the erasure", &[("bert", "Bert at home", 1)]).await;
    assert!(central.erase("anna").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_shares_no_person_and_delays_no_visit() {
    let deployment = Deployment::new("wrongkey").await;
    let mut one = deployment.house("one").await;
    let mut foreign = deployment.house_with("foreign", &DeploymentKey::generate()).await;
    one.store.people.enroll("anna", "Anna", vec![encoding(0)]).await.unwrap();
    one.go_online();
    one.settled().await;
    foreign.store.people.enroll("bert", "Bert", vec![encoding(5)]).await.unwrap();
    crate::delivery::visits(&foreign.store, 1..=3, 5).await;
    foreign.go_online();
    foreign.settled().await;
    let status = rows_of(foreign.sync.as_ref().unwrap()).await;
    assert!(status.last_set_aside.as_ref().unwrap().contains("deployment key is not that"), "{status:?}");
    deployment.bed.assert_whole("foreign", 3).await;
    assert_eq!(foreign.people(), [("bert".to_owned(), "Bert".to_owned(), 1)]);
    assert_eq!(deployment.bed.count("select count(*) from gatehouse.persons").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_role_of_a_stolen_device_lists_no_person() {
    let deployment = Deployment::new("stolenpeople").await;
    let mut one = deployment.house("one").await;
    deployment.house("two").await;
    one.store.people.enroll("anna", "Anna", vec![encoding(0)]).await.unwrap();
    one.go_online();
    one.settled().await;
    let role = deployment.bed.role("two").await;
    let thief = deployment.bed.database.connect_as(&role, DEVICE_PASSWORD).await.unwrap();
    for table in [
        "persons",
        "persons_history",
        "face_encodings",
        "erasure_orders",
        "people_changes",
        "held_people",
        "person_terms",
        "conflicts",
        "deployment",
    ] {
        let refused = thief.query(&format!("select * from gatehouse.{table}"), &[]).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{table}");
    }
    // An invented person removes no name from the visits of others, nor does a real one with the id of another.
    deployment.house("three").await;
    let mut writer = deployment.bed.writer("three").await;
    deliver_all(&mut writer, &[named(event(1, 1), "carl")]).await.unwrap();
    let bury = "select gatehouse.erase_shared_person('two', gen_random_uuid(), gen_random_uuid(), 'carl', now() + interval '1 minute')";
    thief.execute(bury, &[]).await.unwrap();
    let bury = "select gatehouse.erase_shared_person('two', gen_random_uuid(), id, 'carl', now() + interval '1 minute') \
                from gatehouse.people_changed_after('two', 0, 1)";
    thief.execute(bury, &[]).await.unwrap();
    let left =
        "select count(*) from gatehouse.events where identification #>> '{faces,0,person,id}' = 'carl'";
    assert_eq!(deployment.bed.count(left).await, 1);
    one.waits_for("what was done to Anna in the thief's name", &[]).await;
    let audit =
        "select count(*) from gatehouse.audit_log where action = 'person.erase_shared' and device_id = 'two'";
    assert_eq!(deployment.bed.count(audit).await, 2, "it is known who did it");
    one.store.people.enroll("anna", "Anna", vec![encoding(0)]).await.unwrap();
    one.settled().await;
    // What it may ask says no name, and it may ask in no other's name.
    let rows = thief
        .query(
            "select metadata from gatehouse.people_changed_after('two', 0, 10) where metadata is not null",
            &[],
        )
        .await
        .unwrap();
    let sealed: Vec<u8> = rows[0].get("metadata");
    assert!(!sealed.windows(4).any(|part| part.eq_ignore_ascii_case(b"anna")));
    for call in [
        "people_changed_after('one', 0, 10)",
        "templates_of('one', '{}')",
        "confirm_people_applied('one', 9)",
        "erase_shared_person('one', gen_random_uuid(), gen_random_uuid(), 'anna', now())",
        "merge_people('one', '{}', '{}', '{}', '{}', '{}', '{}')",
        "merge_person_terms('one', '{}', '{}', '{}', '{}', '{}', '{}', '{}')",
        "person_terms_of('one', '{}')",
        "nearest_templates('dlib-128', '{1}', 5)",
        "next_people_change()",
        "lock_people('two')",
    ] {
        let refused = thief.query(&format!("select gatehouse.{call}"), &[]).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{call}");
    }
}

#[tokio::test]
async fn the_central_search_gives_as_many_templates_as_it_is_asked_for() {
    let deployment = Deployment::new("nearest").await;
    let client = deployment.bed.database.connect().await.unwrap();
    let fill = "insert into gatehouse.persons (id, external_id, name, named_at, named_by, name_change_no, enrolled_at, encrypted_metadata, \
             change_no) select gen_random_uuid(), n::text, 'n', now(), 'x', n, now(), '', n from generate_series(1, 100) n; \
         insert into gatehouse.face_encodings (person_id, model, template, encrypted_metadata, added_by) \
             select p.id, 'dlib-128', (select array_agg(random()::real) from generate_series(1, 128) where p.id is not null), \
             '', 'x' from gatehouse.persons p, generate_series(1, 5); \
         set enable_seqscan = off; set enable_sort = off; set enable_bitmapscan = off";
    client.batch_execute(fill).await.unwrap();
    let count = "select count(*) from gatehouse.nearest_templates('dlib-128', array_fill(0.5::real, array[128]), 128)";
    assert_eq!(client.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 128);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absence_is_reported_up_to_the_slowest_appliance() {
    let deployment = Deployment::new("absent").await;
    let mut door = deployment.house("door").await;
    for (of, id) in ["comes", "stays-away", "was-changed"].into_iter().enumerate() {
        door.store.people.enroll(id, id, vec![encoding(of)]).await.unwrap();
    }
    door.go_online();
    door.settled().await;
    // Its own report would overwrite what is written here.
    door.go_offline().await;
    let client = deployment.bed.database.connect().await.unwrap();
    let aged = "update gatehouse.persons set updated_at = now() - interval '400 days' where external_id <> 'was-changed'";
    client.batch_execute(aged).await.unwrap();
    let visit = "insert into gatehouse.events (device_id, seq, event_id, camera, kind, received_at, identification, attributes) \
                 values ('door', 1000, 'v', 'front', 'face', now() - interval '20 days', \
                         '{\"faces\": [{\"person\": {\"id\": \"comes\"}}]}', '{}')";
    client.batch_execute(visit).await.unwrap();
    let central = deployment.central().await;
    let ids = |absence: &Absence| absence.people.iter().map(|person| person.id.clone()).collect::<Vec<_>>();

    let all_reported = "update gatehouse.devices set reported_at = now(), oldest_pending = null";
    client.batch_execute(all_reported).await.unwrap();
    assert_eq!(ids(&central.absent(10).await.unwrap()), ["stays-away", "comes"]);
    assert_eq!(ids(&central.absent(30).await.unwrap()), ["stays-away"]);

    // What an appliance still holds may be a visit of theirs.
    let holds =
        "update gatehouse.devices set oldest_pending = now() - interval '390 days' where device_id = 'door'";
    client.batch_execute(holds).await.unwrap();
    let behind = central.absent(30).await.unwrap();
    assert_eq!((ids(&behind).len(), behind.waits_for.as_deref()), (0, Some("door")));

    client.batch_execute(all_reported).await.unwrap();
    let dropped = "insert into gatehouse.archive (device_id, day, first_seq, last_seq, s3_bucket, s3_key, dropped_at) \
                   values ('door', current_date - 15, 900, 901, 'b', 'k', now())";
    client.batch_execute(dropped).await.unwrap();
    let error = central.absent(30).await.unwrap_err();
    assert!(error.to_string().contains("name fewer days"), "{error}");
    assert_eq!(ids(&central.absent(10).await.unwrap()), ["stays-away", "comes"]);
}
