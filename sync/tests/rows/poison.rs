use crate::support::{Bed, NOON, at, but, deliver_all, event, events, face, file};
use gatehouse_model::Timestamp;
use gatehouse_store::store::Change;

#[tokio::test]
async fn text_that_postgres_cannot_keep_arrives_with_a_mark_in_its_place() {
    let bed = Bed::new("nul").await;
    let change = but(event(1, 1), |event, answer| {
        event.kind = "fa\0ce".into();
        event.attributes = r#"{"a":"x\u0000y","b":"\ud800","c":"\\u0000","d":"\ud83d\ude00"}"#.into();
        answer.faces = vec![face(Some("an\0na"))];
    });
    let mut writer = bed.writer("edge-1").await;
    assert!(deliver_all(&mut writer, &[change]).await.unwrap().is_empty(), "nothing had to be set aside");
    let row = "select concat_ws('|', kind, attributes ->> 'a', attributes ->> 'b', attributes ->> 'c', \
               attributes ->> 'd', identification #>> '{faces,0,person,id}') from gatehouse.events";
    assert_eq!(bed.text(row).await, "fa\u{fffd}ce|x\u{fffd}y|\u{fffd}|\\u0000|\u{1f600}|an\u{fffd}na");
    let correlation = "select identification ->> 'correlation_id' from gatehouse.events";
    assert_eq!(bed.text(correlation).await, crate::support::key("e1").correlation());
}

#[tokio::test]
async fn a_poisonous_row_is_set_aside_in_reduced_form_and_the_others_are_whole() {
    let bed = Bed::new("poison").await;
    let mut changes = events(1..=200);
    for (n, attributes) in [
        (38, r#"{"a":1e4000000}"#.to_owned()),
        (99, "[".repeat(100_000) + &"]".repeat(100_000)),
        (100, "{\"broken".to_owned()),
    ] {
        changes[n - 1] = but(event(n as u64, n as u64), |event, _| event.attributes = attributes);
    }
    let mut writer = bed.writer("edge-1").await;
    let notes = deliver_all(&mut writer, &changes).await.unwrap();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes[0].starts_with("event 38 (") && notes[0].contains("22003"), "{notes:?}");
    bed.assert_whole("edge-1", 200).await;
    let aside = "select string_agg(seq || ':' || (attributes ->> 'set_aside'), ' ' order by seq) \
                 from gatehouse.events where attributes ? 'set_aside'";
    assert_eq!(bed.text(aside).await, "38:22003 99:54001 100:22P02");
    let whole = "select count(*) from gatehouse.events where attributes ->> 'zone' = 'porch' \
                 and jsonb_array_length(identification -> 'faces') = 1";
    assert_eq!(bed.count(whole).await, 197);
}

#[tokio::test]
async fn a_row_that_is_refused_even_without_attributes_keeps_its_place() {
    let bed = Bed::new("bare").await;
    let client = bed.database.connect().await.unwrap();
    // Stands for whatever a later server may refuse.
    let rule = "alter table gatehouse.events add check (event_id <> 'e5' or identification ? 'set_aside'); \
                alter table gatehouse.files add check (s3_key not like '%poison%')";
    client.batch_execute(rule).await.unwrap();
    let mut changes = events(1..=9);
    changes.push(file(10, 9, "poison.jpg"));
    changes.push(file(11, 9, "good.jpg"));
    let mut writer = bed.writer("edge-1").await;
    let notes = deliver_all(&mut writer, &changes).await.unwrap();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].starts_with("event 5 (") && notes[1].starts_with("file "), "{notes:?}");
    bed.assert_whole("edge-1", 9).await;
    assert_eq!(bed.count("select count(*) from gatehouse.files").await, 1);
    let row = "select kind || identification::text from gatehouse.events where seq = 5";
    let bare = bed.text(row).await;
    assert!(
        bare.starts_with("set_aside") && bare.contains("correlation_id") && bare.contains("23514"),
        "{bare}"
    );
}

#[tokio::test]
async fn events_that_the_local_disk_lost_are_marked_and_what_follows_arrives() {
    let bed = Bed::new("lost").await;
    let mut writer = bed.writer("edge-1").await;
    // 3 to 5 are missing before an event, 8 and 9 before a record of no interest.
    let changes =
        [event(1, 1), event(2, 2), event(6, 6), event(7, 7), Change::Nothing { position: at(20, 9) }];
    let notes = deliver_all(&mut writer, &changes).await.unwrap();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].contains("events 3 to 5"), "{notes:?}");
    bed.assert_whole("edge-1", 9).await;
    assert_eq!(bed.count("select lost from gatehouse.completeness").await, 5);
    assert_eq!(writer.cursor(), at(20, 9));
}

#[tokio::test]
async fn implausible_times_are_kept_without_a_partition_each() {
    let bed = Bed::new("times").await;
    let times = [0, NOON, NOON + 4000 * crate::support::DAY, i64::MAX, i64::MIN];
    let changes: Vec<_> = (1..)
        .zip(times)
        .map(|(n, time)| {
            but(event(n, n), |event, _| {
                event.received_at = Timestamp(time);
                event.occurred_at = Some(Timestamp(time));
            })
        })
        .collect();
    let mut writer = bed.writer("edge-1").await;
    assert!(deliver_all(&mut writer, &changes).await.unwrap().is_empty());
    bed.assert_whole("edge-1", 5).await;
    assert_eq!(bed.count("select count(*) from gatehouse.events_default").await, 4);
    // The default partition holds rows of a month already: they stay there, and so do new ones.
    let client = bed.database.connect().await.unwrap();
    let stray = "update gatehouse.events set received_at = now() + interval '300 days' where seq = 1";
    client.execute(stray, &[]).await.unwrap();
    let made =
        client.query_one("select gatehouse.ensure_month(now() + interval '300 days')", &[]).await.unwrap();
    assert!(!made.get::<_, bool>(0));
    bed.assert_whole("edge-1", 5).await;
}
