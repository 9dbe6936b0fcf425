//! What the holder of a stolen device and its role can do: the work of that device, and nothing else.

use gatehouse_central::rows::Waiting;
use gatehouse_central::{GuardFault, SyncError};
use gatehouse_sync::rows::Writer;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::support::{Bed, at, deliver_all, erasure, event, events, file, file_of, identity, named};

/// The database with two devices that have delivered three visits of Anna each, and a session with the role of `one`.
async fn stolen(name: &str) -> (Bed, Client) {
    let bed = Bed::new(name).await;
    for (file, device) in [(4, "one"), (5, "two")] {
        let rows = bed.enrolled(device).await;
        let mut writer = Writer::open(&rows, identity(device)).await.unwrap();
        let mut changes: Vec<_> = events(1..=3).into_iter().map(|e| named(e, "anna")).collect();
        changes.push(file_of(device, file, 3, "a.jpg"));
        deliver_all(&mut writer, &changes).await.unwrap();
    }
    let role = bed.role("one").await;
    let thief = bed.database.connect_as(&role, crate::support::DEVICE_PASSWORD).await.unwrap();
    (bed, thief)
}

#[tokio::test]
async fn a_device_delivers_with_its_own_role() {
    let bed = Bed::new("ownrole").await;
    let rows = bed.enrolled("edge-1").await;
    let mut writer = Writer::open(&rows, identity("edge-1")).await.unwrap();
    assert_eq!(writer.cursor(), at(0, 0));
    writer.announce(Waiting::default()).await.unwrap();
    let mut changes = vec![named(event(1, 1), "anna"), event(2, 2), file(3, 2, "a.jpg")];
    // A jump of the number: rows that stand in for what the disk lost.
    changes.extend([event(7, 5), file(8, 5, "a.jpg"), erasure(9, 5, "anna")]);
    deliver_all(&mut writer, &changes).await.unwrap();
    bed.assert_whole("edge-1", 5).await;
    assert_eq!(bed.count("select events_scrubbed from gatehouse.erasures").await, 1);
    assert_eq!(bed.text("select state_id from gatehouse.devices").await, "state of edge-1");
    let line = "select l.actor || ' ' || l.device_id from gatehouse.audit_log l join gatehouse.erasures e \
                on l.subject = e.order_id::text where l.action = 'person.erase'";
    assert_eq!(bed.text(line).await, format!("{} edge-1", bed.role("edge-1").await));

    // Bound at the first sign-in: a second state directory is refused, and one that was not enrolled is too.
    let other = gatehouse_central::rows::Identity { state_id: "another".into(), ..identity("edge-1") };
    let error = Writer::open(&rows, other).await.err().unwrap();
    assert!(matches!(error, SyncError::Guard(GuardFault::ForeignState { .. })), "{error}");
    let error = Writer::open(&rows, identity("edge-2")).await.err().unwrap();
    assert!(matches!(&error, SyncError::Denied { code, .. } if code == "42501"), "{error}");
}

#[tokio::test]
async fn a_stolen_device_sees_its_own_rows_only() {
    let (_bed, thief) = stolen("see").await;
    for (table, rows) in [("devices", 1), ("device_cursors", 1), ("events", 3), ("files", 1), ("erasures", 0)]
    {
        let count = format!("select count(*) from gatehouse.{table}");
        assert_eq!(thief.query_one(&count, &[]).await.unwrap().get::<_, i64>(0), rows, "{table}");
    }
    for query in [
        "select from gatehouse.events where device_id = 'two'",
        "select from gatehouse.files where uploaded_by = 'two'",
        "select from gatehouse.completeness where device_id = 'two'",
        "select from gatehouse.devices where role_name <> session_user",
    ] {
        assert_eq!(thief.query(query, &[]).await.unwrap().len(), 0, "{query}");
    }
}

/// Statements that the server must refuse to the role of an appliance.
const DENIED: [&str; 40] = [
    "insert into gatehouse.devices (device_id, site, state_id, version) values ('three', '', '', '')",
    "insert into gatehouse.device_cursors (device_id) values ('three')",
    "select gatehouse.erase_person('two', gen_random_uuid(), 99, 99, 'anna', now())",
    "update gatehouse.device_cursors set device_id = 'two'",
    "update gatehouse.devices set role_name = null",
    "update gatehouse.files set uploaded_by = 'two'",
    // What has happened, also its own.
    "update gatehouse.events set kind = 'motion'",
    "delete from gatehouse.events",
    "delete from gatehouse.files",
    "delete from gatehouse.erasures",
    "truncate gatehouse.events",
    "update gatehouse.environment set name = 'prod'",
    // The traces.
    "select from gatehouse.audit_log",
    "delete from gatehouse.audit_log",
    "update gatehouse.audit_log set actor = 'two'",
    "insert into gatehouse.audit_log (actor, action, subject) values ('two', 'a', 's')",
    "select from gatehouse.files_history",
    "delete from gatehouse.files_history",
    // Ways around.
    "select from gatehouse.events_default",
    "select from gatehouse.events_2026_11",
    "copy gatehouse.audit_log to stdout",
    "copy gatehouse.events (device_id) from stdin",
    "copy (select 1) to '/tmp/x'",
    "copy (select 1) to program 'true'",
    "select pg_read_file('/etc/passwd')",
    "set role gatehouse_privacy",
    "set role postgres",
    "set session authorization postgres",
    "grant gatehouse_privacy to current_user",
    "alter role postgres password 'x'",
    "alter table gatehouse.events disable row level security",
    "drop policy own on gatehouse.events",
    "create policy all_of_it on gatehouse.events using (true)",
    "create or replace function gatehouse.session_device() returns text language sql as 'select ''two'''",
    "create table gatehouse.mine ()",
    "drop table gatehouse.events",
    "drop schema gatehouse cascade",
    "alter publication gatehouse drop table gatehouse.events",
    "select gatehouse.keep_history()",
    "select gatehouse.may_act_for('two')",
];

#[tokio::test]
async fn a_stolen_device_can_change_nothing_of_another() {
    let (bed, thief) = stolen("change").await;
    // Not an error, but without effect: the rows are not there for it.
    for nothing in [
        "update gatehouse.device_cursors set seq = 0, lsn = 0 where device_id = 'two'",
        "update gatehouse.devices set state_id = 'mine' where device_id = 'two'",
        "update gatehouse.files set status = 'deleted' where uploaded_by = 'two'",
        "update gatehouse.files set status = 'quarantine' where s3_key like '%two%'",
    ] {
        assert_eq!(thief.execute(nothing, &[]).await.unwrap(), 0, "{nothing}");
    }
    let event = "insert into gatehouse.events (device_id, seq, event_id, camera, kind, received_at, identification, \
                 attributes) values";
    let file = "insert into gatehouse.files (id, s3_bucket, s3_key, file_size, mime_type, checksum, uploaded_by, \
                associated_entity_type, associated_entity_id) values (gen_random_uuid(), 'b',";
    // Rows in another's name, or on another's key.
    let of_another = [
        format!("{event} ('two', 4, 'x', 'door', 'face', now(), '{{}}', '{{}}')"),
        format!("{file} 'devices/two/new.jpg', 1, 'm', 'c', 'two', 'event', 'e')"),
        format!("{file} 'devices/two/new.jpg', 1, 'm', 'c', 'one', 'event', 'e')"),
    ];
    for attack in of_another.iter().map(String::as_str).chain(DENIED) {
        let error = match thief.simple_query(attack).await {
            Ok(_) => panic!("went through: {attack}"),
            Err(error) => error,
        };
        let code = error.code().cloned().unwrap_or(SqlState::SUCCESSFUL_COMPLETION);
        // A trigger's function cannot be called; COPY says in words that it is not for this role.
        let refusals = [SqlState::INSUFFICIENT_PRIVILEGE, SqlState::FEATURE_NOT_SUPPORTED];
        assert!(refusals.contains(&code), "{attack}: {code:?} {error}");
    }
    // A function of its own in front of ours must not be found by those with the owner's rights.
    thief
        .batch_execute(
            "create function pg_temp.now() returns timestamptz language sql as 'select null::timestamptz'",
        )
        .await
        .unwrap();
    thief.execute("select gatehouse.audit('a.test', 'x')", &[]).await.unwrap();
    thief.batch_execute("set gatehouse.author = 'another'").await.unwrap();
    thief.execute("update gatehouse.files set file_size = 7", &[]).await.unwrap();
    let role = bed.role("one").await;
    assert_eq!(bed.text("select author from gatehouse.files_history").await, role);
    assert_eq!(
        bed.text("select actor from gatehouse.audit_log where action = 'a.test' and at is not null").await,
        role
    );
    for device in ["one", "two"] {
        bed.assert_whole(device, 3).await;
    }
    let anna =
        "select count(*) from gatehouse.events where identification #>> '{faces,0,person,id}' = 'anna'";
    assert_eq!(bed.count(anna).await, 6);
    assert_eq!(bed.count("select count(*) from gatehouse.files where status = 'active'").await, 2);
}

#[tokio::test]
async fn a_role_of_another_database_of_the_server_sees_nothing() {
    let (bed, other) = (Bed::new("mine").await, Bed::new("theirs").await);
    let mut writer = other.writer("edge-1").await;
    writer.deliver(&events(1..=3)).await.unwrap();
    let rows = bed.enrolled("edge-1").await;
    // Same server, same group, same id of the device: but not one that this database knows by its role.
    let url = rows.url.replace(&format!("/{}", bed.database.name), &format!("/{}", other.database.name));
    let there = gatehouse_config::Rows {
        url: url.replace(&format!("//{}", other.database.name), &format!("//{}", bed.database.name)),
        ..rows
    };
    let error = Writer::open(&there, identity("edge-1")).await.err().unwrap();
    assert!(matches!(&error, SyncError::Denied { code, .. } if code == "42501"), "{error}");
    let client =
        other.database.connect_as(&bed.role("edge-1").await, crate::support::DEVICE_PASSWORD).await.unwrap();
    assert_eq!(client.query("select from gatehouse.events", &[]).await.unwrap().len(), 0);
    assert_eq!(client.query("select from gatehouse.devices", &[]).await.unwrap().len(), 0);
    let error = client
        .execute("select gatehouse.erase_person('edge-1', gen_random_uuid(), 9, 9, 'anna', now())", &[])
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
}

#[tokio::test]
async fn analysts_read_and_privacy_erases_and_neither_more() {
    let (bed, _thief) = stolen("people").await;
    let admin = bed.database.connect().await.unwrap();
    let name = &bed.database.name;
    for group in ["analyst", "privacy"] {
        let make =
            format!("create role \"{name}_{group}\" login password 'secret' in role gatehouse_{group}");
        admin.batch_execute(&make).await.unwrap();
    }
    let analyst = bed.database.connect_as(&format!("{name}_analyst"), "secret").await.unwrap();
    let privacy = bed.database.connect_as(&format!("{name}_privacy"), "secret").await.unwrap();
    let rows = async |client: &Client, table: &str| {
        client.query(&format!("select from gatehouse.{table}"), &[]).await.ok().map(|rows| rows.len())
    };
    for (table, to_analyst, to_privacy) in [
        ("events", Some(6), Some(6)),
        ("devices", Some(2), Some(2)),
        ("files", Some(2), Some(2)),
        ("completeness", Some(2), Some(2)),
        ("files_history", Some(0), Some(0)),
        ("erasures", None, Some(0)),
        // Both enrolments.
        ("audit_log", None, Some(2)),
    ] {
        assert_eq!(rows(&analyst, table).await, to_analyst, "analyst, {table}");
        assert_eq!(rows(&privacy, table).await, to_privacy, "privacy, {table}");
    }
    let erase = "select gatehouse.erase_person('two', gen_random_uuid(), 99, 99, 'anna', now())";
    assert!(analyst.execute(erase, &[]).await.is_err());
    let erased: i64 = privacy.query_one(erase, &[]).await.unwrap().get(0);
    assert_eq!(erased, 3);
    for change in [
        "delete from gatehouse.events",
        "delete from gatehouse.audit_log",
        "update gatehouse.files set file_size = 1",
    ] {
        assert!(analyst.execute(change, &[]).await.is_err(), "{change}");
        assert!(privacy.execute(change, &[]).await.is_err(), "{change}");
    }
}
