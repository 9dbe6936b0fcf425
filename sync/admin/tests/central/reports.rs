//! What people ask: the views, and `gatehouse central report`.

use gatehouse_admin as central;
use gatehouse_central::SyncError;
use gatehouse_central::rows::{Waiting, migrate};
use gatehouse_model::Timestamp;
use gatehouse_sync::rows::Writer;

use crate::support::{Bed, DAY, but, deliver_all, erasure, event, face, file, identity, named};

/// Today, yesterday and long ago at one door: Anna twice, once with a stranger; a stranger alone; no face; a lost event.
async fn visited(name: &str) -> Bed {
    let bed = Bed::new(name).await;
    let now = Timestamp::now().0;
    let when = |change, days: i64| but(change, |event, _| event.received_at = Timestamp(now - days * DAY));
    let both = but(event(2, 2), |_, answer| answer.faces = vec![face(Some("anna")), face(None)]);
    let without_faces = but(event(4, 4), |_, answer| answer.faces.clear());
    let changes = [
        when(named(event(1, 1), "anna"), 0),
        when(both, 0),
        when(event(3, 3), 1),
        when(without_faces, 1),
        when(event(5, 5), 40),
        when(event(7, 7), 40),
        file(8, 7, "a.jpg"),
    ];
    let mut writer = bed.writer("edge-1").await;
    deliver_all(&mut writer, &changes).await.unwrap();
    writer.announce(Waiting { events: 3, files: 2, oldest: Some(Timestamp(now - DAY)) }).await.unwrap();
    bed.enrolled("edge-2").await;
    bed
}

#[tokio::test]
async fn the_report_shows_the_fleet_the_days_and_unknown_visitors() {
    let bed = visited("report").await;
    let report = central::report(&bed.config("dev"), 2).await.unwrap();
    let [never, one] = &report.fleet[..] else { panic!("{report:?}") };
    assert_eq!((never.device_id.as_str(), never.enrolled, &never.last_seen), ("edge-2", true, &None));
    assert_eq!((one.device_id.as_str(), one.enrolled, one.delivered, one.lost), ("edge-1", false, 7, 1));
    assert_eq!((one.pending_events, one.pending_files), (Some(3), Some(2)));
    assert!(one.last_seen.is_some() && one.oldest_pending.is_some() && !one.version.is_empty());
    let days: Vec<_> = report.days.iter().map(|day| (day.visits, day.recognised, day.unknown)).collect();
    assert_eq!(days, [(2, 2, 1), (2, 0, 1)]);
    let unknown: Vec<_> = report.unknown.iter().map(|one| one.event_id.as_str()).collect();
    assert_eq!(unknown, ["e2", "e3"]);
    assert_eq!(central::report(&bed.config("dev"), 100).await.unwrap().unknown.len(), 4);
}

#[tokio::test]
async fn a_persons_data_is_theirs_alone_and_asking_for_it_is_noted() {
    let bed = visited("access").await;
    let config = bed.config("dev");
    let person = central::person(&config, "anna").await.unwrap();
    let visits: Vec<_> = person.visits.iter().map(|visit| visit.event_id.as_str()).collect();
    assert_eq!(visits, ["e1", "e2"]);
    assert_eq!(person.visits[1].faces.as_array().unwrap().len(), 1, "no other face");
    assert_eq!(person.visits[0].files, ["devices/edge-1/a.jpg"]);
    let again = central::person(&config, "anna").await.unwrap();
    assert_eq!(again.records["audit_log"].as_array().unwrap().len(), 1);
    assert_eq!(again.records["audit_log"][0]["actor"], "postgres");

    deliver_all(&mut bed.writer("edge-1").await, &[erasure(9, 7, "anna")]).await.unwrap();
    let erased = central::person(&config, "anna").await.unwrap();
    assert!(erased.visits.is_empty());
    let kept = "select count(*) from gatehouse.audit_log l where l::text like '%anna%'";
    assert_eq!(bed.count(kept).await, 0, "the audit log names no person");
    assert!(central::person(&config, "unknown").await.unwrap().visits.is_empty());
}

#[tokio::test]
async fn the_roles_of_people_are_enough_for_what_they_ask() {
    let bed = visited("report_roles").await;
    let admin = bed.database.connect().await.unwrap();
    for (group, may) in [("analyst", false), ("privacy", true)] {
        let role = format!("{}_{group}", bed.database.name);
        let make = format!("create role \"{role}\" login password 'secret' in role gatehouse_{group}");
        admin.batch_execute(&make).await.unwrap();
        std::fs::write(bed.folder.path().join("password"), "secret").unwrap();
        let mut config = bed.config("dev");
        let rows = config.central.rows.as_mut().unwrap();
        rows.url = rows.url.replace("//postgres@", &format!("//{role}@"));
        assert_eq!(central::report(&config, 7).await.unwrap().fleet.len(), 2);
        let asked = central::person(&config, "anna").await;
        assert_eq!(asked.is_ok(), may, "{group}: {asked:?}");
        let lines = "select count(*) from gatehouse.audit_log where action = 'person.report'";
        assert_eq!(bed.count(lines).await, i64::from(may));
    }
}

#[tokio::test]
async fn an_appliance_cannot_report_and_updates_only_its_own_backlog() {
    let bed = visited("report_rights").await;
    let mut config = bed.config("dev");
    config.central.rows = Some(bed.enrolled("edge-3").await);
    for error in
        [central::report(&config, 7).await.unwrap_err(), central::person(&config, "anna").await.unwrap_err()]
    {
        assert!(matches!(&error, SyncError::Denied { code, .. } if code == "42501"), "{error}");
    }
    assert_eq!(bed.count("select count(*) from gatehouse.audit_log where action = 'person.report'").await, 0);
    let rows = config.central.rows.unwrap();
    let writer = Writer::open(&rows, identity("edge-3")).await.unwrap();
    writer.announce(Waiting { events: 9, ..Waiting::default() }).await.unwrap();
    let reported = "select string_agg(pending_events::text, ' ' order by device_id) from gatehouse.fleet";
    assert_eq!(bed.text(reported).await, "3 9");
}

#[tokio::test]
async fn a_schema_without_people_has_the_fleet_report_but_no_report_of_a_person() {
    let bed = visited("report_no_people").await;
    migrate(&bed.rows(), Some(1)).await.unwrap();
    let writer = bed.writer("edge-1").await;
    writer.announce(Waiting { events: 9, ..Waiting::default() }).await.unwrap();
    let fleet = central::report(&bed.config("dev"), 7).await.unwrap().fleet;
    let one = fleet.iter().find(|one| one.device_id == "edge-1").unwrap();
    assert_eq!(one.pending_events, Some(9));
    let error = central::person(&bed.config("dev"), "anna").await.unwrap_err();
    assert!(error.to_string().contains("central init"), "{error}");
}

#[tokio::test]
async fn what_is_asked_often_does_not_read_all_events() {
    let bed = visited("report_plans").await;
    let client = bed.database.connect().await.unwrap();
    client
        .batch_execute(
            "insert into gatehouse.events select 'bulk', n, n::text, 'door', 'face', null, \
                 now() - n * interval '1 minute', null, '{\"faces\": []}', '{}' from generate_series(1, 200000) n; \
             analyze gatehouse.events",
        )
        .await
        .unwrap();
    for (question, index) in [
        ("select * from gatehouse.visits where day = current_date", "day"),
        ("select * from gatehouse.visits where received_at > now() - interval '1 day'", "received_at"),
        ("select * from gatehouse.visits_of('anna')", "jsonb_path_query_array"),
        ("select * from gatehouse.unknown_visitors where day = current_date", "day"),
    ] {
        let plan = client.query(&format!("explain {question}"), &[]).await.unwrap();
        let plan: String = plan.iter().map(|row| row.get::<_, String>(0) + "\n").collect();
        assert!(plan.contains("Index Cond"), "{index}: {question}\n{plan}");
    }
}
