//! Central files: orphans of both kinds, and objects that differ from their rows.

use std::time::{Duration, SystemTime};

use gatehouse_admin as central;
use gatehouse_admin::delete::{mark, purge, unmark};
use gatehouse_admin::orphans::{Order, Orphan, Orphans, orphans};
use gatehouse_admin::verify::{Scope, verify};
use gatehouse_central::SyncError;
use gatehouse_config::Config;
use gatehouse_model::Sha256;
use gatehouse_testkit::minio::Minio;
use gatehouse_testkit::objects::Objects;
use gatehouse_testkit::s3::{Manner, S3Server};

use crate::support::{Bed, deliver_all, event};

pub(crate) const BUCKET: &str = "gatehouse-dev";
const DAY: Duration = Duration::from_secs(86_400);
const FIX: Order = Order::Fix { force: false };
const FORCE: Order = Order::Fix { force: true };

fn key(number: usize) -> String {
    format!("devices/edge-1/events/2026/11/20/door/e{number}/a.jpg")
}

/// Of a size of its own.
fn bytes(number: usize) -> Vec<u8> {
    let mut bytes = vec![0; 100 + number];
    fastrand::Rng::with_seed(number as u64).fill(&mut bytes);
    bytes
}

pub(crate) fn settings(bed: &Bed, server: &Objects, environment: &str) -> Config {
    let file = |name: &str, text: &str| {
        let path = bed.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (access, secret) = (file("access", &server.access_key), file("secret", &server.secret_key));
    Config::from_text(&format!(
        "[device]\nid = \"edge-1\"\nenvironment = \"{environment}\"\n\
         [central.rows]\nurl = \"{}\"\npassword_file = {:?}\n\
         [central.objects]\nendpoint = \"{}\"\naccess_key_file = {access:?}\nsecret_key_file = {secret:?}\nbucket = \"{BUCKET}\"\n",
        bed.database.url(),
        bed.folder.path().join("password"),
        server.endpoint
    ))
    .unwrap()
}

/// A database and a bucket, both ready, with `files` files and their rows.
async fn filled(bed: &Bed, server: &Objects, files: usize) -> Config {
    let config = settings(bed, server, "dev");
    central::init(&config).await.unwrap();
    drop(bed.writer("edge-1").await);
    for number in 0..files {
        server.put(BUCKET, &key(number), bytes(number)).await.unwrap();
        row(bed, number).await;
    }
    config
}

async fn row(bed: &Bed, number: usize) {
    let mut hash = Sha256::new();
    hash.update(&bytes(number));
    let insert = format!(
        "insert into gatehouse.files (id, s3_bucket, s3_key, file_size, mime_type, checksum, uploaded_by, \
         associated_entity_type, associated_entity_id) values (gen_random_uuid(), '{BUCKET}', '{}', {}, 'image/jpeg', \
         'sha256:{}', 'edge-1', 'event', 'door/e{number}')",
        key(number),
        bytes(number).len(),
        hex::encode(hash.finish())
    );
    bed.database.connect().await.unwrap().batch_execute(&insert).await.unwrap();
}

/// As if an object had been stored three days ago.
fn age(server: &S3Server, key: &str) {
    let file = std::fs::File::options().write(true).open(server.files().join(BUCKET).join(key)).unwrap();
    file.set_modified(SystemTime::now() - 3 * DAY).unwrap();
}

pub(crate) async fn keys(server: &Objects) -> Vec<String> {
    server.list(BUCKET, "").await.unwrap()
}

pub(crate) async fn lines(bed: &Bed) -> String {
    bed.text("select coalesce(string_agg(action, ' ' order by id), '') from gatehouse.audit_log").await
}

fn numbers(found: &Orphans) -> [u64; 5] {
    [found.objects, found.rows, found.waiting, found.without_row, found.without_object]
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_reported_and_repaired_when_their_row_is_overdue() {
    let (bed, s3) = (Bed::new("orphans").await, S3Server::start().unwrap());
    let server = s3.objects();
    let config = filled(&bed, &server, 30).await;
    // Old and young without a row, old of an appliance that is not known, a row without an object, and one that says so.
    let strange = "devices/edge-2/events/2026/11/20/door/e1/a.jpg";
    for (key, number) in [(key(40), 40), (key(41), 41), (strange.to_owned(), 42)] {
        server.put(BUCKET, &key, bytes(number)).await.unwrap();
    }
    age(&s3, &key(40));
    let other = "devices/edge-1/lines/s/1.ndjson";
    server.put(BUCKET, other, bytes(43)).await.unwrap();
    age(&s3, other);
    age(&s3, strange);
    row(&bed, 50).await;
    row(&bed, 51).await;
    let client = bed.database.connect().await.unwrap();
    let deleted = "update gatehouse.files set status = 'deleted' where associated_entity_id = 'door/e51'";
    client.batch_execute(deleted).await.unwrap();

    // Nothing that the appliance delivered is younger than the old one: its row may be on its way.
    let found = orphans(&config, Order::Look).await.unwrap();
    assert_eq!(numbers(&found), [33, 32, 3, 0, 1]);
    deliver_all(&mut bed.writer("edge-1").await, &[event(1, 1)]).await.unwrap();
    let reach =
        |days: u32| format!("update gatehouse.events set received_at = now() - interval '{days} days'");
    client.batch_execute(&reach(3)).await.unwrap();
    assert_eq!(orphans(&config, Order::Look).await.unwrap().without_row, 0);
    client.batch_execute(&reach(1)).await.unwrap();
    let before = keys(&server).await;
    let found = orphans(&config, Order::Look).await.unwrap();
    assert_eq!((numbers(&found), found.fixed), ([33, 32, 2, 1, 1], None));
    let lost = bed.text("select id::text from gatehouse.files where associated_entity_id = 'door/e50'").await;
    let reported = [Orphan { key: key(40), id: None }, Orphan { key: key(50), id: Some(lost.clone()) }];
    assert_eq!(found.orphans, reported);
    assert_eq!(
        (keys(&server).await, lines(&bed).await.as_str()),
        (before.clone(), ""),
        "looking changes nothing"
    );

    assert_eq!(orphans(&config, FIX).await.unwrap().fixed, Some(2));
    let mut after: Vec<_> = before.into_iter().filter(|one| *one != key(40)).collect();
    after.push(format!("quarantine/{}", key(40)));
    after.sort();
    assert_eq!(keys(&server).await, after);
    assert_eq!(server.get(BUCKET, &format!("quarantine/{}", key(40))).await.unwrap(), bytes(40));
    assert_eq!(bed.text(&format!("select status from gatehouse.files where id = '{lost}'")).await, "deleted");
    assert_eq!(lines(&bed).await, "file.quarantine file.lost");
    let again = orphans(&config, FIX).await.unwrap();
    assert_eq!((numbers(&again), again.fixed), ([32, 32, 2, 0, 0], Some(0)));
}

async fn refused(config: &Config, order: Order, message: &str) {
    let error: SyncError = orphans(config, order).await.unwrap_err();
    assert!(error.to_string().contains(message), "{message}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_touched_where_one_side_is_empty_strange_or_mostly_missing() {
    let (bed, s3) = (Bed::new("untouched").await, S3Server::start().unwrap());
    let server = s3.objects();
    let config = filled(&bed, &server, 10).await;
    let client = bed.database.connect().await.unwrap();
    deliver_all(&mut bed.writer("edge-1").await, &[event(1, 1)]).await.unwrap();
    client.batch_execute("update gatehouse.events set received_at = now()").await.unwrap();
    (0..10).for_each(|number| age(&s3, &key(number)));
    let before = keys(&server).await;

    // Two of ten are more than a tenth.
    client.batch_execute("create table kept as select * from gatehouse.files").await.unwrap();
    client
        .batch_execute("delete from gatehouse.files where associated_entity_id in ('door/e1', 'door/e2')")
        .await
        .unwrap();
    assert_eq!(orphans(&config, Order::Look).await.unwrap().without_row, 2);
    refused(&config, FIX, "2 of 10 would be touched").await;
    // All rows are gone: not even by force.
    client.batch_execute("delete from gatehouse.files").await.unwrap();
    assert_eq!(orphans(&config, Order::Look).await.unwrap().without_row, 10);
    refused(&config, FORCE, "no row of this bucket").await;
    client.batch_execute("insert into gatehouse.files select * from kept").await.unwrap();

    // Of another environment, one side or the other.
    refused(&settings(&bed, &server, "prod"), FORCE, "the database is of environment").await;
    server.put(BUCKET, "environment.json", b"{\"environment\":\"prod\"}".to_vec()).await.unwrap();
    refused(&config, FORCE, "the bucket is of environment").await;
    server.put(BUCKET, "environment.json", b"{\"environment\":\"dev\"}".to_vec()).await.unwrap();

    // An appliance's own role sees only its own files.
    bed.enrolled("edge-2").await;
    let role = bed.role("edge-2").await;
    let mut as_device = config.clone();
    let rows = as_device.central.rows.as_mut().unwrap();
    rows.url = rows.url.replace("//postgres@", &format!("//{role}@"));
    rows.password_file = Some(bed.folder.path().join("edge-2"));
    refused(&as_device, FORCE, "sees only its own files").await;
    let mut nowhere = config.clone();
    nowhere.central.rows.as_mut().unwrap().url = "postgres://postgres@127.0.0.1:9/x".to_owned();
    refused(&nowhere, FORCE, "connect to Postgres").await;
    assert_eq!(keys(&server).await, before);

    // The bucket is empty: no row is given up, not even by force.
    (0..10).for_each(|number| std::fs::remove_file(s3.files().join(BUCKET).join(key(number))).unwrap());
    refused(&config, FORCE, "no object below devices/").await;
    assert_eq!(bed.count("select count(*) from gatehouse.files where status = 'active'").await, 10);
    assert_eq!(lines(&bed).await, "device.enroll");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_a_flipped_byte_a_wrong_size_and_a_missing_object() {
    let here = S3Server::start().unwrap();
    let minio = Minio::start_if_present().unwrap();
    let servers = [Some(here.objects()), minio.as_ref().map(Minio::objects)];
    for server in servers.into_iter().flatten() {
        let bed = Bed::new("verify").await;
        let config = filled(&bed, &server, 12).await;
        let good = verify(&config, Scope::All).await.unwrap();
        let size: usize = (0..12).map(|number| bytes(number).len()).sum();
        assert_eq!((good.files, good.bytes, good.differ), (12, size as u64, 0));

        let mut flipped = bytes(3);
        flipped[50] ^= 1;
        server.put(BUCKET, &key(3), flipped).await.unwrap();
        server.put(BUCKET, &key(4), bytes(5)).await.unwrap();
        row(&bed, 20).await;
        let bad = verify(&config, Scope::All).await.unwrap();
        assert_eq!((bad.files, bad.differ), (13, 3), "{bad:?}");
        let message = |number: usize| {
            let found = bad.differing.iter().find(|one| one.key == key(number));
            found.map(|one| one.message.clone()).unwrap_or_default()
        };
        assert_eq!(message(3), "its SHA-256 differs");
        assert_eq!(message(4), "105 bytes there, 104 in the row");
        assert_eq!(message(20), "there is no object");
        let sample = verify(&config, Scope::Sample(5)).await.unwrap();
        assert_eq!(sample.files, 5);
        let reported = "select details ->> 'differ' from gatehouse.audit_log where action = 'files.verify' order by id offset 1 limit 1";
        assert_eq!(bed.text(reported).await, "3");
        assert_eq!(bed.count("select count(*) from gatehouse.audit_log").await, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_file_can_be_had_back_for_a_month_and_is_gone_after_it() {
    let (bed, s3) = (Bed::new("deleted").await, S3Server::start().unwrap());
    let server = s3.objects();
    let config = filled(&bed, &server, 4).await;
    let client = bed.database.connect().await.unwrap();
    let mut ids = Vec::new();
    for number in 0..4 {
        let query =
            format!("select id::text from gatehouse.files where associated_entity_id = 'door/e{number}'");
        ids.push(bed.text(&query).await);
    }
    for id in &ids[..3] {
        assert_eq!(mark(&config, id).await.unwrap().status, "marked");
    }
    for (file, message) in [
        (&*ids[0], "is marked"),
        ("a.jpg", "not the id"),
        ("00000000-0000-0000-0000-000000000001", "no file"),
    ] {
        let error = mark(&config, file).await.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let early = purge(&config).await.unwrap();
    assert_eq!((early.files, early.waiting), (0, 3));

    // A month goes by for two of them; one of these is had back.
    let past = format!(
        "update gatehouse.files_history set valid_to = now() - interval '31 days' where id in ('{}', '{}')",
        ids[0], ids[1]
    );
    client.batch_execute(&past).await.unwrap();
    assert_eq!(unmark(&config, &ids[1]).await.unwrap().status, "active");
    assert!(unmark(&config, &ids[1]).await.unwrap_err().to_string().contains("is active"));
    s3.behave(Manner::Refuses(503, "SlowDown"));
    purge(&config).await.unwrap_err();
    s3.behave(Manner::Serves);
    let purged = purge(&config).await.unwrap();
    assert_eq!((purged.files, purged.waiting), (1, 1));
    assert_eq!(server.list(BUCKET, "devices/").await.unwrap(), [key(1), key(2), key(3)]);
    let states = "select string_agg(status, ' ' order by s3_key) from gatehouse.files";
    assert_eq!(bed.text(states).await, "deleted active marked active");
    assert_eq!(lines(&bed).await, "file.mark file.mark file.mark file.unmark file.purge");
    assert!(unmark(&config, &ids[0]).await.unwrap_err().to_string().contains("is deleted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bucket_and_rows_are_walked_side_by_side_over_many_pages() {
    let (bed, s3) = (Bed::new("pages").await, S3Server::start().unwrap());
    let server = s3.objects();
    let config = filled(&bed, &server, 0).await;
    // 2,100 rows: two pages and a bit. Names whose order differs between languages and bytes.
    let name = |number: u32| {
        let word = ["a", "B", "c-", "C.", "d_"][number as usize % 5];
        format!("devices/edge-1/events/2026/11/20/door/{word}{number}/x.jpg")
    };
    let rows = format!(
        "insert into gatehouse.files (id, s3_bucket, s3_key, file_size, mime_type, checksum, uploaded_by, \
         associated_entity_type, associated_entity_id) select gen_random_uuid(), '{BUCKET}', \
         'devices/edge-1/events/2026/11/20/door/' || (array['a', 'B', 'c-', 'C.', 'd_'])[n % 5 + 1] || n || '/x.jpg', 1, '', \
         '', 'edge-1', 'event', '' from generate_series(0, 2099) n"
    );
    bed.database.connect().await.unwrap().batch_execute(&rows).await.unwrap();
    let folder = s3.files().join(BUCKET);
    for number in (0..2100).filter(|number| number % 700 != 0).chain([5000]) {
        let file = folder.join(name(number));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, [1]).unwrap();
    }
    let found = orphans(&config, Order::Look).await.unwrap();
    assert_eq!(numbers(&found), [2098, 2100, 1, 0, 3]);
    let mut lost = [0, 700, 1400].map(name);
    lost.sort();
    assert_eq!(found.orphans.iter().map(|orphan| orphan.key.clone()).collect::<Vec<_>>(), lost);
}
