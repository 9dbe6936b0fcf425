//! Months of events that are in the archive as a whole, and those that are not.

use gatehouse_admin as central;
use gatehouse_admin::archive::{archive, check};
use gatehouse_admin::retention::{Retained, audit, retention};
use gatehouse_testkit::s3::S3Server;

use crate::archive::{MARCH, deliver, prepared, visit};
use crate::files::{BUCKET, lines};
use crate::support::{Bed, DAY};

fn stays(retained: &Retained) -> Vec<(&str, u64, bool, bool)> {
    retained
        .months
        .iter()
        .map(|one| (one.month.as_str(), one.events, one.stays.is_some(), one.dropped))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_goes_when_all_of_it_is_in_the_archive_and_nothing_is_missing_then() {
    let (bed, s3) = (Bed::new("retention").await, S3Server::start().unwrap());
    let server = s3.objects();
    let config = prepared(&bed, &server).await;
    // March, April and a day of May.
    let days: Vec<_> = (0..=61).map(|day| visit(day + 1, MARCH + day as i64 * DAY)).collect();
    deliver(&bed, "edge-1", &days).await;
    // The other's disk lost an event.
    deliver(&bed, "edge-2", &[&days[..8], &days[9..10]].concat()).await;
    let parts =
        "select string_agg(relname, ' ' order by relname) from pg_class where relname ~ '^events_2024_..$'";
    assert_eq!(bed.text(parts).await, "events_2024_03 events_2024_04 events_2024_05");

    // Archived but for the last event of one appliance, whose day is the first of May.
    let none = retention(&config, 1, true).await.unwrap();
    assert_eq!(stays(&none)[..2], [("2024-03", 41, true, false), ("2024-04", 30, true, false)]);
    let message = none.months[0].stays.clone().unwrap_or_default();
    assert!(message.contains("edge-1, 2024-03-01: 1 events, 0 of them archived"), "{message}");
    archive(&config, "2024-04-30".parse().ok()).await.unwrap();
    let looked = retention(&config, 1, false).await.unwrap();
    assert_eq!(
        stays(&looked),
        [("2024-03", 41, false, false), ("2024-04", 30, false, false), ("2024-05", 1, true, false)]
    );
    assert_eq!(bed.count("select count(*) from gatehouse.events").await, 72, "looking changes nothing");
    assert_eq!(retention(&config, 1200, true).await.unwrap().months, []);

    // A file that is not what was archived keeps its month.
    let name = "archive/events/date=2024-03-05/device=edge-2/5-5.parquet";
    let whole = server.get(BUCKET, name).await.unwrap();
    let mut flipped = whole.clone();
    flipped[9] ^= 1;
    server.put(BUCKET, name, flipped).await.unwrap();
    let kept = retention(&config, 1, true).await.unwrap();
    assert_eq!(stays(&kept)[..2], [("2024-03", 41, true, false), ("2024-04", 30, false, true)]);
    server.put(BUCKET, name, whole).await.unwrap();
    assert_eq!(stays(&retention(&config, 1, true).await.unwrap())[0], ("2024-03", 41, false, true));
    assert_eq!(bed.text(parts).await, "events_2024_05");
    assert_eq!(bed.count("select count(*) from gatehouse.events").await, 1);
    assert_eq!(lines(&bed).await, "events.drop events.drop");

    // Nothing is missing: not by the view, not in the archive, and appliances and reports go on.
    bed.assert_whole("edge-1", 62).await;
    bed.assert_whole("edge-2", 10).await;
    for (query, number) in [
        ("select dropped from gatehouse.completeness where device_id = 'edge-1'", 61),
        ("select lost from gatehouse.completeness where device_id = 'edge-2'", 1),
    ] {
        assert_eq!(bed.count(query).await, number, "{query}");
    }
    assert_eq!(check(&config).await.unwrap().wrong, 0);
    central::report(&config, 7).await.unwrap();

    // Late events create their month again, and are dropped once they are archived as well.
    deliver(&bed, "edge-2", &[visit(11, MARCH)]).await;
    assert_eq!(stays(&retention(&config, 1, true).await.unwrap())[0], ("2024-03", 1, true, false));
    archive(&config, None).await.unwrap();
    let last = retention(&config, 1, true).await.unwrap();
    assert_eq!(stays(&last), [("2024-03", 1, false, true), ("2024-05", 1, false, true)]);
    bed.assert_whole("edge-2", 11).await;
    assert_eq!(check(&config).await.unwrap().events, 73);
}

#[tokio::test]
async fn old_lines_of_the_audit_log_go_and_leave_word_of_it() {
    let bed = Bed::new("audit_retention").await;
    let client = bed.database.connect().await.unwrap();
    client.batch_execute("delete from gatehouse.audit_log").await.unwrap();
    let lines = "insert into gatehouse.audit_log (at, actor, action, subject) \
                 select now() - make_interval(months => n), 'an operator', 'person.report', 'p' from generate_series(0, 9) n";
    client.batch_execute(lines).await.unwrap();
    let config = bed.config("dev");
    let reported = audit(&config, 3, false).await.unwrap();
    assert_eq!((reported.lines, reported.dropped), (6, false), "this month and the three before it stay");
    assert_eq!(bed.count("select count(*) from gatehouse.audit_log").await, 10);
    let done = audit(&config, 3, true).await.unwrap();
    assert_eq!((done.lines, done.dropped), (6, true));
    assert_eq!(bed.count("select count(*) from gatehouse.audit_log where action = 'person.report'").await, 4);
    let word =
        "select count(*) from gatehouse.audit_log where action = 'audit.drop' and details ->> 'lines' = '6'";
    assert_eq!(bed.count(word).await, 1);
    assert_eq!(audit(&config, 3, true).await.unwrap().lines, 0);
    assert_eq!(bed.count(word).await, 1, "nothing was dropped, so nothing is reported");
}
