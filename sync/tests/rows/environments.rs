//! All nine combinations of an appliance with a database and a bucket of an environment: three agree, six write nothing.

use std::time::Duration;

use gatehouse_admin as central;
use gatehouse_config::Config;
use gatehouse_model::SinkState;
use gatehouse_store::Store;
use gatehouse_sync::Sync;
use gatehouse_testkit::objects::Objects;
use gatehouse_testkit::s3::S3Server;
use gatehouse_testkit::wait;

use crate::delivery::{WAIT_TIMEOUT, open, visits};
use crate::support::{Bed, key};

const ENVIRONMENTS: [&str; 3] = ["dev", "staging", "prod"];
const BUCKET: &str = "central";

/// The settings of an appliance for database and bucket.
fn config(environment: &str, bed: &Bed, server: &Objects) -> Config {
    let file = |name: &str, text: &str| {
        let path = bed.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (access, secret) = (file("access", &server.access_key), file("secret", &server.secret_key));
    let password = bed.rows().password_file.unwrap();
    Config::from_text(&format!(
        "[device]\nid = \"edge-1\"\nenvironment = \"{environment}\"\n\
         [central.rows]\nurl = \"{}\"\npassword_file = {password:?}\n\
         [central.objects]\nendpoint = \"{}\"\naccess_key_file = {access:?}\nsecret_key_file = {secret:?}\n\
         bucket = \"{BUCKET}\"\n",
        bed.database.url(),
        server.endpoint
    ))
    .unwrap()
}

/// A store with a visit and its picture.
async fn visited(folder: &std::path::Path) -> Store {
    let store = open(folder);
    visits(&store, 1..=1, 0).await;
    store.media.put(key("e1"), "a.jpg".try_into().unwrap(), vec![7; 3000]).await.unwrap();
    store
}

/// Delivers until both sinks are idle or stopped. Returns their errors: database, bucket.
async fn reported(config: &Config, store: Store) -> [Option<String>; 2] {
    let sync = Sync::start(config, &store);
    wait::until_async("both to stand still", WAIT_TIMEOUT, || async {
        let still = |state: SinkState, pending: u64| {
            state == SinkState::Stopped || (state == SinkState::Idle && pending == 0)
        };
        sync.status().await.unwrap().sinks.iter().all(|sink| still(sink.state, sink.pending))
    })
    .await
    .unwrap();
    // The row of a file follows its object.
    sync.now(WAIT_TIMEOUT).await;
    let reported = sync.status().await.unwrap().sinks.into_iter().map(|sink| sink.error).collect::<Vec<_>>();
    sync.stop(Duration::from_secs(5)).await;
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    reported.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_nine_meetings_six_are_refused_in_words_and_write_nothing() {
    let server = S3Server::start().unwrap();
    let looker = server.objects();
    for theirs in ENVIRONMENTS {
        let bed = Bed::empty("nine").await;
        if theirs != ENVIRONMENTS[0] {
            looker
                .put(BUCKET, "environment.json", format!("{{\"environment\":\"{theirs}\"}}").into())
                .await
                .unwrap();
        }
        central::init(&config(theirs, &bed, &looker)).await.unwrap();
        let before = looker.list(BUCKET, "").await.unwrap();
        for ours in ENVIRONMENTS.into_iter().filter(|ours| *ours != theirs) {
            let state = tempfile::tempdir().unwrap();
            let message = reported(&config(ours, &bed, &looker), visited(state.path()).await).await;
            for (place, message) in ["the database", "the bucket"].iter().zip(message) {
                let wanted = format!(
                    "{place} is of environment `{theirs}`, this appliance of `{ours}`: nothing was written"
                );
                assert!(message.as_ref().is_some_and(|message| message.contains(&wanted)), "{message:?}");
            }
            let rows = "select (select count(*) from gatehouse.devices) + (select count(*) from gatehouse.device_cursors) \
                        + (select count(*) from gatehouse.events) + (select count(*) from gatehouse.files)";
            assert_eq!(bed.count(rows).await, 0, "{ours} in {theirs}");
            assert_eq!(looker.list(BUCKET, "").await.unwrap(), before, "{ours} in {theirs}");
        }
        let state = tempfile::tempdir().unwrap();
        let message = reported(&config(theirs, &bed, &looker), visited(state.path()).await).await;
        assert_eq!(message, [None, None], "{theirs}");
        bed.assert_whole("edge-1", 1).await;
        assert_eq!(bed.count("select count(*) from gatehouse.files").await, 1);
        assert_eq!(looker.list(BUCKET, "").await.unwrap().len(), before.len().max(2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_bucket_holds_up_pictures_and_a_wrong_database_rows_and_neither_the_other() {
    let server = S3Server::start().unwrap();
    let looker = server.objects();
    let (dev, prod) = (Bed::new("right").await, Bed::empty("wrong").await);
    central::init(&config("dev", &dev, &looker)).await.unwrap();
    central::init(&prod.config("prod")).await.unwrap();

    let state = tempfile::tempdir().unwrap();
    let [rows, objects] = reported(&config("dev", &prod, &looker), visited(state.path()).await).await;
    assert!(rows.is_some_and(|message| message.contains("the database is of environment `prod`")));
    assert_eq!(objects, None);
    assert_eq!(looker.list(BUCKET, "devices/").await.unwrap().len(), 1);
    assert_eq!(prod.count("select count(*) from gatehouse.devices").await, 0);

    looker.put(BUCKET, "environment.json", b"{\"environment\":\"staging\"}".to_vec()).await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let [rows, objects] = reported(&config("dev", &dev, &looker), visited(state.path()).await).await;
    assert_eq!(rows, None);
    assert!(objects.is_some_and(|message| message.contains("the bucket is of environment `staging`")));
    assert_eq!(looker.list(BUCKET, "devices/").await.unwrap().len(), 1, "the one from before");
    dev.assert_whole("edge-1", 1).await;
    // No row of a file before its object.
    assert_eq!(dev.count("select count(*) from gatehouse.files").await, 0);
}
