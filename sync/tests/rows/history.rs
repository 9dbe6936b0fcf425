//! What was before: history by trigger, and changes as others follow them.

use std::process::Command;

use gatehouse_central::rows::migrate;
use gatehouse_testkit::postgres::{PASSWORD, Postgres, SUPERUSER, installation};

use crate::support::{Bed, deliver_all, erasure, event, events, file, named};

#[tokio::test]
async fn every_version_of_a_file_is_kept_with_its_time_and_author() {
    let bed = Bed::new("history").await;
    let mut writer = bed.writer("edge-1").await;
    deliver_all(&mut writer, &[event(1, 1), file(2, 1, "a.jpg")]).await.unwrap();
    let client = bed.database.connect().await.unwrap();
    for change in [
        "update gatehouse.files set status = 'active'",
        "begin; set local gatehouse.author = 'anna of the archive'; \
         update gatehouse.files set status = 'archived'; commit",
        "update gatehouse.files set status = 'marked'",
        "delete from gatehouse.files",
    ] {
        client.batch_execute(change).await.unwrap();
    }
    let versions = "select string_agg(concat_ws(' ', version, status, operation, author), ', ' order by version) \
                    from gatehouse.files_history";
    let reported =
        "1 active update anna of the archive, 2 archived update postgres, 3 marked delete postgres";
    assert_eq!(bed.text(versions).await, reported);
    let holes = "select count(*) from (select valid_from, valid_to, lag(valid_to) over (order by version) as before \
                 from gatehouse.files_history) h \
                 where valid_from is null or valid_from >= valid_to or before <> valid_from";
    assert_eq!(bed.count(holes).await, 0);
}

#[tokio::test]
async fn one_trigger_keeps_the_history_of_any_table() {
    let bed = Bed::new("anytable").await;
    let client = bed.database.connect().await.unwrap();
    // Two columns as key, a name that must be quoted, a history in another order, types that do not go through text.
    client
        .batch_execute(
            "create extension if not exists vector; \
             create table gatehouse.things (a int, \"B c\" text, v vector(3), j json, b bytea, primary key (a, \"B c\")); \
             create table gatehouse.things_history (version int not null, valid_from timestamptz, \
                 valid_to timestamptz not null, author text not null, operation text not null, \
                 b bytea, v vector(3), j json, \"B c\" text, a int, primary key (a, \"B c\", version)); \
             create trigger keep_history after update or delete on gatehouse.things \
                 for each row execute function gatehouse.keep_history(); \
             insert into gatehouse.things values (1, 'x, y', '[1,2,3]', '{\"k\": 1}', '\\x00ff'), (2, 'x, y', null, null, null); \
             update gatehouse.things set v = '[3,2,1]' where a = 1; \
             update gatehouse.things set v = v; \
             delete from gatehouse.things",
        )
        .await
        .unwrap();
    let reported = "select string_agg(concat_ws(' ', a, version, v, j, b, operation, valid_from is null), '; ' order by a, version) \
                from gatehouse.things_history where \"B c\" = 'x, y'";
    let versions =
        "1 1 [1,2,3] {\"k\": 1} \\x00ff update t; 1 2 [3,2,1] {\"k\": 1} \\x00ff delete f; 2 1 delete t";
    assert_eq!(bed.text(reported).await, versions);
}

#[tokio::test]
async fn people_go_down_and_up_again_without_a_loss_of_events() {
    let bed = Bed::new("peopledown").await;
    let mut writer = bed.writer("edge-1").await;
    let first: Vec<_> = events(1..=3).into_iter().map(|event| named(event, "anna")).collect();
    deliver_all(&mut writer, &first).await.unwrap();
    for (target, seq) in [(1, 4), (2, 5)] {
        migrate(&bed.rows(), Some(target)).await.unwrap();
        // The appliance delivers to both versions.
        let mut writer = bed.writer("edge-1").await;
        let changes = [named(event(2 * seq, seq), "anna"), erasure(2 * seq + 1, seq, "anna")];
        deliver_all(&mut writer, &changes).await.unwrap();
        let scrubbed = "select sum(events_scrubbed)::bigint from gatehouse.erasures";
        assert_eq!(bed.count(scrubbed).await, i64::try_from(seq).unwrap());
    }
    bed.assert_whole("edge-1", 5).await;
    assert_eq!(bed.count("select count(*) from gatehouse.audit_log").await, 2);
}

#[tokio::test]
async fn changes_can_be_followed_under_the_name_of_the_whole_table() {
    let server = Postgres::start_with(&["wal_level=logical"]).unwrap();
    let bed = Bed::on(&server, "follow").await;
    bed.database.ready().await.unwrap();
    gatehouse_admin::init(&bed.config("dev")).await.unwrap();
    let follow = |arguments: &[&str]| {
        let done = Command::new(installation().unwrap().join("bin/pg_recvlogical"))
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &server.port().to_string(),
                "-U",
                SUPERUSER,
                "-d",
                &bed.database.name,
            ])
            .args(["--slot", "tool"])
            .args(arguments)
            .env("PGPASSWORD", PASSWORD)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    follow(&["--create-slot", "--plugin", "pgoutput"]);
    let mut writer = bed.writer("edge-1").await;
    let changes = [named(event(1, 1), "anna"), event(2, 2), file(3, 2, "a.jpg"), erasure(4, 2, "anna")];
    deliver_all(&mut writer, &changes).await.unwrap();
    let end = bed.text("select pg_current_wal_flush_lsn()::text").await;
    let file = bed.folder.path().join("changes");
    let options = ["-o", "proto_version=1", "-o", "publication_names=gatehouse"];
    let until = ["--start", "--no-loop", "--endpos", &end, "--file", file.to_str().unwrap()];
    follow(&[&until[..], &options[..]].concat());
    let reported = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
    for word in
        ["events\0", "device_cursors\0", "files\0", "erasures\0", "audit_log\0", "e1", "e2", "anna", "a.jpg"]
    {
        assert!(reported.contains(word), "{word:?} in {reported:?}");
    }
    // An insert names its table by the number that came with the name before.
    let bytes = std::fs::read(file).unwrap();
    let place = |needle: &[u8]| bytes.windows(needle.len()).position(|window| window == needle);
    let name = place(b"gatehouse\0events\0").unwrap();
    assert!(place(&[b"I", &bytes[name - 4..name], b"N"].concat()).is_some(), "{reported:?}");
}
