use gatehouse_central::SyncError;
use gatehouse_sync::rows::Writer;
use gatehouse_testkit::postgres::{Postgres, Stop};

use crate::commit::{Cut, cutting_proxy};
use crate::support::{Bed, at, but, deliver_all, erasure, event, events, face, file, identity};

#[tokio::test]
async fn a_batch_that_is_sent_twice_is_written_once() {
    let bed = Bed::new("twice").await;
    let batch = events(1..=100);
    let mut writer = bed.writer("edge-1").await;
    assert_eq!(writer.cursor(), at(0, 0));
    let first = writer.deliver(&batch).await.unwrap();
    assert_eq!((first.taken, first.events, first.set_aside.len()), (100, 100, 0));
    let second = writer.deliver(&batch).await.unwrap();
    assert_eq!((second.taken, second.events), (100, 0));
    // The same from a new session, overlapping.
    let mut writer = bed.writer("edge-1").await;
    assert_eq!(writer.cursor(), at(100, 100));
    let third = writer.deliver(&events(50..=150)).await.unwrap();
    assert_eq!((third.taken, third.events), (101, 50));
    bed.assert_whole("edge-1", 150).await;
}

#[tokio::test]
async fn a_connection_cut_at_commit_leaves_each_event_once() {
    for (cut, there) in [(Cut::Before, 0), (Cut::After, 100)] {
        let bed = Bed::new("commit").await;
        let port = cutting_proxy(bed.database.port, cut).await;
        let mut writer = Writer::open(&bed.rows_at(port), identity("edge-1")).await.unwrap();
        let error = writer.deliver(&events(1..=100)).await.unwrap_err();
        assert!(matches!(error, SyncError::Unreachable { .. }), "{error}");
        // Only the database knows; the next session asks it.
        let mut writer = bed.writer("edge-1").await;
        assert_eq!(writer.cursor(), at(there, there));
        deliver_all(&mut writer, &events(1..=120)).await.unwrap();
        bed.assert_whole("edge-1", 120).await;
    }
}

#[tokio::test]
async fn two_sessions_of_one_device_cannot_both_write() {
    let bed = Bed::new("sessions").await;
    let (mut one, mut two) = (bed.writer("edge-1").await, bed.writer("edge-1").await);
    one.deliver(&events(1..=10)).await.unwrap();
    let error = two.deliver(&events(1..=10)).await.unwrap_err();
    assert!(!error.is_permanent() && !error.stops_sink(), "{error}");
    bed.assert_whole("edge-1", 10).await;
}

#[tokio::test]
async fn several_devices_begin_a_month_together() {
    let bed = Bed::new("together").await;
    // A month without a partition.
    let changes: Vec<_> = events(1..=200)
        .into_iter()
        .map(|change| but(change, |event, _| event.received_at.0 += 62 * crate::support::DAY))
        .collect();
    let writers = ["a", "b", "c", "d"].map(|device| {
        let (bed, changes) = (&bed, &changes);
        async move {
            let mut writer = bed.writer(device).await;
            for part in changes.chunks(50) {
                deliver_all(&mut writer, part).await.unwrap();
            }
        }
    });
    futures_util::future::join_all(writers).await;
    for device in ["a", "b", "c", "d"] {
        bed.assert_whole(device, 200).await;
    }
    assert_eq!(bed.count("select count(*) from gatehouse.events_2027_01").await, 800);
}

#[tokio::test]
async fn a_server_that_is_stopped_and_started_again_loses_and_doubles_nothing() {
    let server = Postgres::start().unwrap();
    let bed = Bed::on(&server, "restart").await;
    bed.database.ready().await.unwrap();
    gatehouse_admin::init(&bed.config("dev")).await.unwrap();
    let all = events(1..=600);
    let mut writer = bed.writer("edge-1").await;
    let mut failures = 0;
    for (turn, part) in all.chunks(100).enumerate() {
        if turn == 2 || turn == 4 {
            server.stop(if turn == 2 { Stop::Fast } else { Stop::Immediate }).unwrap();
        }
        while let Err(error) = deliver_all(&mut writer, part).await {
            assert!(!error.is_permanent(), "{error}");
            failures += 1;
            let refused = Writer::open(&bed.rows(), identity("edge-1")).await.err().unwrap();
            assert!(matches!(refused, SyncError::Unreachable { .. }), "{refused}");
            server.restart().unwrap();
            bed.database.ready().await.unwrap();
            writer = bed.writer("edge-1").await;
        }
    }
    assert_eq!(failures, 2);
    bed.assert_whole("edge-1", 600).await;
}

#[tokio::test]
async fn files_follow_their_objects_and_a_second_delivery_is_the_same_row() {
    let bed = Bed::new("files").await;
    let mut writer = bed.writer("edge-1").await;
    let changes = [event(1, 1), file(2, 1, "a.jpg"), file(3, 1, "b.jpg"), file(4, 1, "a.jpg")];
    deliver_all(&mut writer, &changes).await.unwrap();
    deliver_all(&mut writer, &[file(5, 1, "b.jpg")]).await.unwrap();
    assert_eq!(bed.count("select count(*) from gatehouse.files").await, 2);
    let row = "select concat_ws('|', id, s3_bucket, file_size, mime_type, left(checksum, 11), uploaded_by, status, \
               associated_entity_type, associated_entity_id) from gatehouse.files where s3_key = 'devices/edge-1/a.jpg'";
    assert_eq!(
        bed.text(row).await,
        "04040404-0404-0404-0404-040404040404|gatehouse-dev|1234|image/jpeg|sha256:0707|edge-1|active|event|door/e1"
    );
    bed.assert_whole("edge-1", 1).await;
    // A file deleted centrally does not return by a repeated delivery: its grace period starts again.
    let admin = bed.database.connect().await.unwrap();
    admin.batch_execute("update gatehouse.files set status = 'deleted'").await.unwrap();
    deliver_all(&mut writer, &[file(6, 1, "a.jpg")]).await.unwrap();
    let statuses = "select string_agg(status, ' ' order by s3_key) from gatehouse.files";
    assert_eq!(bed.text(statuses).await, "marked deleted");
}

#[tokio::test]
async fn an_erasure_reaches_the_past_of_its_device_and_nothing_else() {
    let bed = Bed::new("erase").await;
    let seen = |n: u64, people: &[&str]| {
        let faces = people.iter().map(|id| face(Some(id))).collect();
        but(event(n, n), |_, answer| answer.faces = faces)
    };
    let mut other = bed.writer("edge-2").await;
    deliver_all(&mut other, &[seen(1, &["anna"])]).await.unwrap();
    let mut writer = bed.writer("edge-1").await;
    // Enrolled again under the same id afterwards: event 4 is of the new person.
    let fourth = but(seen(5, &["anna"]), |event, _| event.key.id = "e4".try_into().unwrap());
    let gatehouse_store::store::Change::Event { event: visit, identification, time, .. } = fourth else {
        unreachable!()
    };
    let fourth =
        gatehouse_store::store::Change::Event { position: at(5, 4), event: visit, identification, time };
    let changes =
        [seen(1, &["anna"]), seen(2, &["ben", "anna"]), seen(3, &["ben"]), erasure(4, 3, "anna"), fourth];
    deliver_all(&mut writer, &changes).await.unwrap();
    let people = "select string_agg(device_id || seq || '=' || \
        jsonb_path_query_array(identification, '$.faces[*].person')::text, ' ' order by device_id, seq) \
        from gatehouse.events";
    let (anna, ben) =
        (r#"{"id": "anna", "name": "Name of anna"}"#, r#"{"id": "ben", "name": "Name of ben"}"#);
    assert_eq!(
        bed.text(people).await,
        format!("edge-11=[null] edge-12=[{ben}, null] edge-13=[{ben}] edge-14=[{anna}] edge-21=[{anna}]")
    );
    assert_eq!(bed.count("select events_scrubbed from gatehouse.erasures").await, 2);
    // Once more by hand, as after a restore: nothing changes, the new person stays.
    let again = "select gatehouse.erase_person('edge-1', gen_random_uuid(), 4, 3, 'anna', now())";
    assert_eq!(bed.count(again).await, 0);
    bed.assert_whole("edge-1", 4).await;
}

#[tokio::test]
async fn a_stalled_server_costs_a_deadline_and_not_for_ever() {
    let bed = Bed::new("stall").await;
    let proxy = gatehouse_testkit::proxy::Proxy::start(bed.database.port).unwrap();
    let mut writer = Writer::open(&bed.rows_at(proxy.port()), identity("edge-1")).await.unwrap();
    proxy.set(gatehouse_testkit::proxy::Faults { stall: true, ..Default::default() });
    // The clock jumps to the deadline, because nothing else can happen before it.
    tokio::time::pause();
    let error = writer.deliver(&events(1..=10)).await.unwrap_err();
    tokio::time::resume();
    assert!(matches!(error, SyncError::Deadline { .. }), "{error}");
    proxy.heal();
    drop(writer);
    let mut writer = bed.writer("edge-1").await;
    deliver_all(&mut writer, &events(1..=10)).await.unwrap();
    bed.assert_whole("edge-1", 10).await;
}
