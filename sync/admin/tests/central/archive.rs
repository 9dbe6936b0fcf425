//! The archive contains what Postgres has, each event once, whatever interrupted a run.

use std::path::Path;

use chrono::{NaiveDate, Utc};
use gatehouse_admin as central;
use gatehouse_admin::archive::{Archived, Checked, archive, check};
use gatehouse_central::SyncError;
use gatehouse_central::rows::Waiting;
use gatehouse_config::Config;
use gatehouse_model::{Identification, Timestamp};
use gatehouse_store::store::Change;
use gatehouse_testkit::minio::Minio;
use gatehouse_testkit::objects::Objects;
use gatehouse_testkit::readers::Reader;
use gatehouse_testkit::require::Need;
use gatehouse_testkit::s3::S3Server;

use crate::files::{BUCKET, keys, settings};
use crate::support::{Bed, DAY, HOUR, but, deliver_all, event, face};

/// 2024-03-01T00:00:00Z in microseconds.
pub(crate) const MARCH: i64 = 1_709_251_200_000_000;

/// An event of an appliance, received at a moment; every third has two faces, every seventh none.
pub(crate) fn visit(seq: u64, when: i64) -> Change {
    but(event(seq, seq), |event, answer| {
        event.received_at = Timestamp(when);
        event.occurred_at = (!seq.is_multiple_of(5)).then_some(Timestamp(when - 1000));
        event.kind = ["face", "doorbell", "motion"][seq as usize % 3].into();
        answer.faces = match seq {
            _ if seq.is_multiple_of(7) => Vec::new(),
            _ if seq.is_multiple_of(3) => vec![face(None), face(Some("anna"))],
            _ => vec![face(Some("bert"))],
        };
        for (number, face) in answer.faces.iter_mut().enumerate() {
            face.distance = (!seq.is_multiple_of(4)).then_some(0.25 + number as f32 / 8.0);
        }
    })
}

/// As of a disk that lost the event before.
fn after_a_loss(seq: u64, when: i64) -> Change {
    but(event(seq, seq), |event, answer| {
        event.received_at = Timestamp(when);
        *answer = Identification { faces: Vec::new(), ..answer.clone() };
    })
}

pub(crate) async fn prepared(bed: &Bed, server: &Objects) -> Config {
    let config = settings(bed, server, "dev");
    central::init(&config).await.unwrap();
    config
}

pub(crate) async fn deliver(bed: &Bed, device: &str, changes: &[Change]) {
    deliver_all(&mut bed.writer(device).await, changes).await.unwrap();
}

fn day(micros: i64) -> NaiveDate {
    Timestamp(micros).to_chrono().date_naive()
}

/// Files, events and faults.
fn numbers(checked: &Checked) -> (u64, u64, u64) {
    (checked.files, checked.events, checked.wrong)
}

fn written(archived: &Archived) -> Vec<(u64, u64, u64, u64)> {
    let of = |one: &central::archive::OfDevice| (one.files, one.events, one.archived, one.delivered);
    archived.devices.iter().map(of).collect()
}

/// Three appliances, five days, one of them with a clock that jumps and an event that its disk lost.
async fn filled(bed: &Bed) {
    let spread = |seq: u64, count: u64| MARCH + 5 * DAY * seq as i64 / (count as i64 + 1);
    let changes: Vec<_> = (1..=2000).map(|seq| visit(seq, spread(seq, 2000))).collect();
    deliver(bed, "edge-1", &changes).await;
    let changes: Vec<_> = (1..=900).map(|seq| visit(seq, spread(seq, 900))).collect();
    deliver(bed, "edge-2", &changes).await;
    let jumps = [0, 1, 0, 2, 2].map(|days| MARCH + days * DAY + HOUR);
    let mut changes: Vec<_> = (1..).zip(jumps).map(|(seq, when)| visit(seq, when)).collect();
    changes.push(after_a_loss(7, MARCH + 3 * DAY));
    deliver(bed, "edge-3", &changes).await;
}

const OF_POSTGRES: &str = "select concat_ws(E'\\t', (received_at at time zone 'UTC')::date, device_id, count(*), sum(seq), \
     (extract(epoch from min(received_at)) * 1000000)::bigint, (extract(epoch from max(received_at)) * 1000000)::bigint, \
     (extract(epoch from max(occurred_at)) * 1000000)::bigint, count(occurred_at), count(distinct event_id), \
     count(distinct kind), sum(f.faces), sum(f.matches), count(f.best), coalesce((sum(f.best) * 1000)::bigint::text, ''), sum(f.size), \
     sum(length(case when f.matches > 0 then '{}' else attributes::text end))) \
     from gatehouse.events, lateral (select jsonb_array_length(coalesce(identification -> 'faces', '[]')) as faces, \
         jsonb_array_length(jsonb_path_query_array(identification, '$.faces[*] ? (@.outcome == \"match\")')) as matches, \
         coalesce((jsonb_path_query_first(identification, '$.faces[*] ? (@.outcome == \"match\")') ->> 'distance'), \
             identification #>> '{faces,0,distance}')::float8 as best, (identification ->> 'gallery_size')::int as size) f \
     group by (received_at at time zone 'UTC')::date, device_id order by 1";

fn of_duckdb(folder: &Path) -> String {
    format!(
        "select date, device, count(*), sum(seq), epoch_us(min(received_at)), epoch_us(max(received_at)), \
         epoch_us(max(occurred_at)), count(occurred_at), count(distinct event_id), count(distinct kind), sum(faces), \
         sum(matches), count(distance), round(sum(distance) * 1000)::bigint, sum(gallery_size), sum(length(attributes)) \
         from read_parquet('{}/archive/events/*/*/*.parquet', hive_partitioning = true) group by all order by date, device",
        folder.display()
    )
}

fn of_clickhouse(server: &Objects) -> String {
    format!(
        "select date, device, count(), sum(seq), toUnixTimestamp64Micro(min(received_at)), \
         toUnixTimestamp64Micro(max(received_at)), toUnixTimestamp64Micro(max(occurred_at)), count(occurred_at), \
         uniqExact(event_id), uniqExact(kind), sum(faces), sum(matches), count(distance), toInt64(round(sum(distance) * 1000)), \
         sum(gallery_size), sum(lengthUTF8(attributes)) \
         from s3('{}/{BUCKET}/archive/events/**/*.parquet', '{}', '{}', 'Parquet') group by all order by date, device \
         settings use_hive_partitioning = 1",
        server.endpoint, server.access_key, server.secret_key
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_read_is_what_postgres_has_and_names_no_person() {
    let (bed, s3) = (Bed::new("archive").await, S3Server::start().unwrap());
    let server = s3.objects();
    let config = prepared(&bed, &server).await;
    filled(&bed).await;
    let archived = archive(&config, None).await.unwrap();
    assert_eq!(written(&archived), [(5, 2000, 2000, 2000), (5, 900, 900, 900), (5, 7, 7, 7)]);
    let ours: Vec<String> = bed
        .database
        .connect()
        .await
        .unwrap()
        .query(OF_POSTGRES, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(ours.len(), 5 + 5 + 4, "one row per day and appliance");
    // An event without any time of the camera: an empty field of one, a word of the other.
    let same = |line: String| line.replace("None", "").replace("\\N", "");
    let folder = s3.files().join(BUCKET);
    let theirs = Reader::DuckDb.ask(&of_duckdb(&folder)).unwrap();
    assert_eq!(theirs.into_iter().map(same).collect::<Vec<_>>(), ours);
    if !Need::ClickHouse.is_missing(Reader::ClickHouse.is_there()) {
        let theirs = Reader::ClickHouse.ask(&of_clickhouse(&server)).unwrap();
        assert_eq!(theirs.into_iter().map(same).collect::<Vec<_>>(), ours);
    }
    let all = format!("from read_parquet('{}/archive/events/*/*/*.parquet')", folder.display());
    let named = format!(
        "select count(*), count(*) filter (t::varchar ilike '%anna%' or t::varchar ilike '%bert%') {all} t"
    );
    assert_eq!(Reader::DuckDb.ask(&named).unwrap(), ["2907\t0"]);
    let packed = "select distinct compression from parquet_metadata('";
    let packed = Reader::DuckDb.ask(&format!("{packed}{}/archive/events/*/*/*.parquet')", folder.display()));
    assert_eq!(packed.unwrap(), ["ZSTD"]);
    assert_eq!(numbers(&check(&config).await.unwrap()), (15, 2907, 0));
    assert_eq!(
        written(&archive(&config, None).await.unwrap())[0],
        (0, 0, 2000, 2000),
        "nothing is left to do"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_cut_off_writes_the_same_files_again() {
    let here = S3Server::start().unwrap();
    let minio = Minio::start_if_present().unwrap();
    for server in [Some(here.objects()), minio.as_ref().map(Minio::objects)].into_iter().flatten() {
        let bed = Bed::new("archive_again").await;
        let config = prepared(&bed, &server).await;
        let client = bed.database.connect().await.unwrap();
        let noon = |days: i64| MARCH + days * DAY + 12 * HOUR;
        deliver(&bed, "edge-1", &[visit(1, noon(0)), visit(2, noon(1)), visit(3, noon(1))]).await;
        archive(&config, None).await.unwrap();
        let name = |days: i64, range: &str| {
            format!("archive/events/date={}/device=edge-1/{range}.parquet", day(noon(days)))
        };
        let before = [name(0, "1-1"), name(1, "2-3")];
        assert_eq!(keys(&server).await[..2], before);
        let content = server.get(BUCKET, &before[1]).await.unwrap();

        // Killed between the object and what is said of it; and as if the row had never been.
        for cut in ["update gatehouse.archive set archived_at = null", "delete from gatehouse.archive"] {
            client.batch_execute(&format!("{cut} where first_seq = 2")).await.unwrap();
            let again = archive(&config, None).await.unwrap();
            assert_eq!(written(&again), [(1, 2, 3, 3)], "{cut}");
            assert_eq!(
                (&keys(&server).await[..2], server.get(BUCKET, &before[1]).await.unwrap()),
                (&before[..], content.clone())
            );
        }
        // Killed before the object, and more of that day comes before the next run: the range stays what it was.
        client
            .batch_execute("update gatehouse.archive set archived_at = null where first_seq = 2")
            .await
            .unwrap();
        deliver(&bed, "edge-1", &[visit(4, noon(1)), visit(5, noon(0))]).await;
        assert_eq!(
            check(&config).await.unwrap().faults[0].message,
            "it is incomplete: run `gatehouse central archive`"
        );
        assert_eq!(written(&archive(&config, None).await.unwrap()), [(3, 4, 5, 5)]);
        let after = [name(0, "1-1"), name(0, "5-5"), name(1, "2-3"), name(1, "4-4")];
        assert_eq!(keys(&server).await[..4], after);
        assert_eq!(numbers(&check(&config).await.unwrap()), (4, 5, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_waits_until_nothing_of_it_can_come() {
    let (bed, s3) = (Bed::new("archive_days").await, S3Server::start().unwrap());
    let config = prepared(&bed, &s3.objects()).await;
    // Far enough from now for no midnight to come in between.
    let start = |days: i64| (Timestamp::now().0 / DAY - days) * DAY + HOUR;
    let until = Some(day(start(3)));
    deliver(&bed, "edge-1", &[visit(1, start(5)), visit(2, start(4))]).await;
    let waits = archive(&config, until).await.unwrap();
    assert_eq!(
        (written(&waits), waits.devices[0].waits_for.clone()),
        (vec![(1, 1, 1, 2)], Some(day(start(4)).to_string()))
    );

    // It says that something waits, then that nothing does.
    let waiting = Waiting { events: 1, files: 0, oldest: Some(Timestamp(start(4))) };
    bed.writer("edge-1").await.announce(waiting).await.unwrap();
    assert_eq!(written(&archive(&config, until).await.unwrap()), [(0, 0, 1, 2)]);
    bed.writer("edge-1").await.announce(Waiting::default()).await.unwrap();
    assert_eq!(written(&archive(&config, until).await.unwrap()), [(1, 1, 2, 2)]);
    // Late all the same: a further file; the event after it is of a day that is not asked for.
    deliver(&bed, "edge-1", &[visit(3, start(4)), visit(4, start(1))]).await;
    assert_eq!(written(&archive(&config, until).await.unwrap()), [(1, 1, 3, 4)]);
    // Silent for longer than anybody waits.
    deliver(&bed, "edge-2", &[visit(1, start(40))]).await;
    assert_eq!(written(&archive(&config, until).await.unwrap())[1], (1, 1, 1, 1));
    assert_eq!(numbers(&check(&config).await.unwrap()), (4, 4, 0));
    let early = archive(&config, Some(Utc::now().date_naive())).await.unwrap_err();
    assert!(early.to_string().contains("is not over"), "{early}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_for_the_end_of_the_one_before_and_not_for_one_at_work() {
    let (bed, s3) = (Bed::new("archive_turns").await, S3Server::start().unwrap());
    let config = prepared(&bed, &s3.objects()).await;
    let other = bed.database.connect().await.unwrap();
    other.batch_execute("select pg_advisory_lock(x'6761746561726368'::bigint)").await.unwrap();
    let busy = archive(&config, None).await.unwrap_err();
    assert!(busy.to_string().contains("is running"), "{busy}");
    let mut next = Box::pin(archive(&config, None));
    let soon = tokio::time::timeout(std::time::Duration::from_millis(300), &mut next).await;
    assert!(soon.is_err(), "the lock is held");
    drop(other);
    next.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_what_is_missing_too_many_or_another() {
    let (bed, s3) = (Bed::new("archive_check").await, S3Server::start().unwrap());
    let server = s3.objects();
    let config = prepared(&bed, &server).await;
    let changes: Vec<_> = (1..=6).map(|seq| visit(seq, MARCH + seq as i64 * DAY)).collect();
    deliver(&bed, "edge-1", &changes).await;
    archive(&config, None).await.unwrap();
    let name = |seq: i64| {
        format!("archive/events/date={}/device=edge-1/{seq}-{seq}.parquet", day(MARCH + seq * DAY))
    };
    assert_eq!(numbers(&check(&config).await.unwrap()), (6, 6, 0));

    let mut flipped = server.get(BUCKET, &name(2)).await.unwrap();
    flipped[40] ^= 1;
    server.put(BUCKET, &name(2), flipped).await.unwrap();
    std::fs::remove_file(s3.files().join(BUCKET).join(name(3))).unwrap();
    let client = bed.database.connect().await.unwrap();
    client.batch_execute("delete from gatehouse.archive where first_seq = 4").await.unwrap();
    // The events of one file under the name and in the row of another.
    let other = server.get(BUCKET, &name(1)).await.unwrap();
    server.put(BUCKET, &name(6), other).await.unwrap();
    let row = "update gatehouse.archive a set checksum = b.checksum, file_size = b.file_size from gatehouse.archive b \
               where a.first_seq = 6 and b.first_seq = 1";
    client.batch_execute(row).await.unwrap();
    let found = check(&config).await.unwrap();
    let message: Vec<(String, String)> =
        found.faults.into_iter().map(|fault| (fault.key, fault.message)).collect();
    let at = day(MARCH + DAY);
    let holds = format!("it contains events 1 to 1 of {at} to {at}, which differs from its name");
    let reported = [
        (name(2), "size or SHA-256 differs from its row"),
        (name(3), "there is no object"),
        (name(5), "events 4 to 4 are in no file"),
        (name(6), holds.as_str()),
        (name(4), "it has no row in gatehouse.archive: move it away"),
    ];
    assert_eq!(message, reported.map(|(key, message)| (key, message.to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_in_the_database_is_reported_and_stops_no_other_appliance() {
    let (bed, s3) = (Bed::new("archive_hole").await, S3Server::start().unwrap());
    let config = prepared(&bed, &s3.objects()).await;
    for device in ["edge-1", "edge-2"] {
        let changes: Vec<_> = (1..=4).map(|seq| visit(seq, MARCH + seq as i64)).collect();
        deliver(&bed, device, &changes).await;
    }
    let client = bed.database.connect().await.unwrap();
    client
        .batch_execute("delete from gatehouse.events where device_id = 'edge-1' and seq = 3")
        .await
        .unwrap();
    let archived = archive(&config, None).await.unwrap();
    let fault = archived.devices[0].fault.clone().unwrap_or_default();
    assert!(fault.contains("event 3 is missing in gatehouse.events"), "{fault}");
    assert_eq!(written(&archived), [(0, 0, 0, 4), (1, 4, 4, 4)]);

    // The role of an appliance sees only its own events.
    bed.enrolled("edge-3").await;
    let mut as_device = config.clone();
    let role = bed.role("edge-3").await;
    let rows = as_device.central.rows.as_mut().unwrap();
    rows.url = rows.url.replace("//postgres@", &format!("//{role}@"));
    rows.password_file = Some(bed.folder.path().join("edge-3"));
    refused(&as_device, "sees only its own").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_written_in_groups_and_sent_in_parts() {
    let (bed, s3) = (Bed::new("archive_large").await, S3Server::start().unwrap());
    let config = prepared(&bed, &s3.objects()).await;
    drop(bed.writer("edge-1").await);
    // 38 MB that hardly get smaller.
    let insert = "insert into gatehouse.events select 'edge-1', n, n::text, 'door', 'motion', null, \
         timestamptz '2024-03-01 00:00:00Z' + n * interval '1 second', null, '{\"faces\": []}', jsonb_build_object('note', \
         (select string_agg(md5(n || ':' || k), '') from generate_series(1, 6000) k)) from generate_series(1, 200) n; \
         update gatehouse.device_cursors set seq = 200, lsn = 200";
    bed.database.connect().await.unwrap().batch_execute(insert).await.unwrap();
    let archived = archive(&config, None).await.unwrap();
    assert_eq!(written(&archived), [(1, 200, 200, 200)]);
    assert!(archived.devices[0].bytes > 3 * 5 * 1024 * 1024, "several parts");
    let file = s3.files().join(BUCKET).join("archive/events/date=2024-03-01/device=edge-1/1-200.parquet");
    let groups = format!("select max(row_group_id) + 1 from parquet_metadata('{}')", file.display());
    assert_eq!(Reader::DuckDb.ask(&groups).unwrap(), ["2"]);
    let sums =
        format!("select sum(length(attributes)), count(distinct attributes) from '{}'", file.display());
    let ours =
        "select sum(length(attributes::text)) || E'\\t' || count(distinct attributes) from gatehouse.events";
    assert_eq!(Reader::DuckDb.ask(&sums).unwrap(), [bed.text(ours).await]);
    assert_eq!(numbers(&check(&config).await.unwrap()), (1, 200, 0));
}

async fn refused(config: &Config, message: &str) {
    let error: SyncError = archive(config, None).await.unwrap_err();
    assert!(error.to_string().contains(message), "{message}: {error}");
}
