//! The main job, from outside, on the built binaries, while everything around it fails.
//!
//! 200 people are enrolled, 8 cameras send 5,000 events; every tenth has a picture, every twentieth is malformed.
//! Meanwhile Postgres is stopped, S3 stalls for a minute and is stopped, the broker is restarted and the daemon
//! is killed three times. Afterwards everything is where it belongs, once.

#![allow(clippy::print_stdout, reason = "a test of minutes says how far it is; shown where it fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gatehouse_testkit::malformed::Fault;
use gatehouse_testkit::postgres::Stop;
use gatehouse_testkit::proxy::Faults;
use gatehouse_tests::drive::{Collector, Playing};
use gatehouse_tests::oracle::Score;
use gatehouse_tests::plan::{Picture, Plan, Size, Visit};
use gatehouse_tests::scan::Secrets;
use gatehouse_tests::setup::{BUCKET, DEVICE, Ledger, Setup};

/// Another one by `GATEHOUSE_TEST_SEED`.
const SEED: u64 = 20_261_120;
const SIZE: Size = Size { people: 200, samples: 5, events: 5000, cameras: 8 };
/// Over which the cameras spread their messages; all outages lie within it.
const DURATION: Duration = Duration::from_secs(100);
/// From the last message to the last delivery.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(180);
/// Messages that the broker delivers again after the three kills and its restart are counted again.
const REDELIVERED_MAX: u64 = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_arrives_once_while_everything_fails() -> Result<()> {
    let seed = std::env::var("GATEHOUSE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    println!("seed {seed}");
    let plan = Arc::new(Plan::new(seed, SIZE)?);
    let secrets = secrets(&plan);
    let settings = BTreeMap::from([
        // The outages are short; so is the longest wait between two attempts.
        ("sync".to_owned(), "retry_min = \"100ms\"\nretry_max = \"3s\"\n".to_owned()),
    ]);
    let mut setup = Setup::build(settings).await?;
    setup.start()?;
    for (person, templates) in plan.people.iter().zip(&plan.templates) {
        setup.daemon.enroll(&person.id, &person.name, templates)?;
    }
    let collector = Collector::of(&plan, &setup.address()).await?;

    let playing = Playing::start(&plan, &setup.address(), DURATION);
    outages(&mut setup, &secrets).await?;
    playing.finish(CATCH_UP_TIMEOUT).await?;
    collector.until_answered(&plan, CATCH_UP_TIMEOUT).await.with_context(|| setup.daemon.log_tail())?;
    let ledger = setup.until_ledger("everything to be delivered", CATCH_UP_TIMEOUT, |ledger| {
        ledger.number("events", "pending") == 0 && ledger.number("files", "pending") == 0
    })?;

    check_ledger(&plan, &ledger)?;
    check_answers(&plan, &collector)?;
    check_refusals(&plan, &collector).await?;
    check_rows(&plan, &setup).await?;
    check_objects(&plan, &setup).await?;
    let status = setup.daemon.terminate()?;
    ensure!(status.success(), "SIGTERM ends with {status}:\n{}", setup.daemon.log_tail());
    check_secrecy(&setup, &secrets)?;
    setup.start()?;
    let again = setup.ledger()?;
    ensure!(again.0 == ledger.0, "the ledger is another after a restart: {:#} {:#}", again.0, ledger.0);
    Ok(())
}

/// What fails and when, in seconds from the first message. The outages overlap on purpose.
async fn outages(setup: &mut Setup, secrets: &Secrets) -> Result<()> {
    let begin = Instant::now();
    let at = async |second: u64| {
        let left = Duration::from_secs(second).saturating_sub(begin.elapsed());
        tokio::time::sleep(left).await;
        println!("{second:>4} s");
    };
    at(6).await;
    setup.s3_proxy.set(Faults { stall: true, ..Faults::default() });
    at(10).await;
    setup.postgres.stop(Stop::Immediate)?;
    at(18).await;
    setup.daemon.kill()?;
    setup.daemon.start()?;
    at(32).await;
    setup.postgres.restart()?;
    at(38).await;
    setup.broker.stop()?;
    at(40).await;
    setup.broker.restart()?;
    at(50).await;
    setup.daemon.kill()?;
    check_secrecy(setup, secrets).context("after a kill")?;
    setup.daemon.start()?;
    at(66).await;
    setup.s3_proxy.heal();
    at(70).await;
    setup.s3.stop()?;
    at(78).await;
    setup.daemon.kill()?;
    setup.daemon.start()?;
    at(86).await;
    setup.s3.restart()?;
    Ok(())
}

fn check_ledger(plan: &Plan, ledger: &Ledger) -> Result<()> {
    ensure!(ledger.adds_up() && ledger.0["holds"] == true, "the ledger does not add up: {:#}", ledger.0);
    let events = plan.visits().count() as u64;
    let pictures: Vec<_> = plan.visits().filter_map(|(_, visit)| visit.picture.as_ref()).collect();
    let bytes = pictures.iter().map(|picture| picture.bytes.len() as u64).sum();
    for (column, count) in [("events", events), ("files", pictures.len() as u64), ("bytes", bytes)] {
        for key in ["stored", "delivered"] {
            ensure!(ledger.number(column, key) == count, "{column} {key} is not {count}: {:#}", ledger.0);
        }
        ensure!(ledger.sum(column, "dropped") == 0, "{column} were dropped: {:#}", ledger.0);
    }
    let (media, events): (Vec<_>, Vec<_>) = plan.refusals().partition(|(_, bad)| bad.fault.is_media());
    for (column, refused) in [("events", events.len() as u64), ("files", media.len() as u64)] {
        let counted = ledger.sum(column, "rejected");
        let most = refused + REDELIVERED_MAX;
        ensure!(
            (refused..=most).contains(&counted),
            "{column}: {refused} were to be refused: {:#}",
            ledger.0
        );
    }
    Ok(())
}

fn check_answers(plan: &Plan, collector: &Collector) -> Result<()> {
    let answers = collector.answers();
    let mut score = Score::default();
    for (camera, visit) in plan.visits() {
        let received = answers.get(&(camera.to_owned(), visit.id.clone())).context("no answer")?;
        score.check(plan, visit, &received[0])?;
        for answer in received {
            ensure!(answer["faces"] == received[0]["faces"], "event {}: two answers: {received:?}", visit.id);
            let fresh = answer["replayed"] == false && answer["age_ms"].as_u64() < Some(10_000);
            let known =
                answer["faces"].as_array().into_iter().flatten().any(|face| face["outcome"] == "match");
            ensure!(
                answer["actionable"] == (fresh && known),
                "event {}: actionable is wrong: {answer}",
                visit.id
            );
            ensure!(answer["gallery_size"] == plan.people.len(), "event {}: {answer}", visit.id);
        }
    }
    println!("{score:?}");
    let visits: BTreeSet<_> =
        plan.visits().map(|(camera, visit)| (camera.to_owned(), visit.id.clone())).collect();
    let unasked: Vec<_> = answers.keys().filter(|key| !visits.contains(*key)).collect();
    ensure!(unasked.is_empty(), "answers to nothing that was asked: {unasked:?}");
    score.check_rates()
}

/// The reason of the contract's ledger for each way to be malformed.
fn reason(fault: Fault) -> &'static str {
    match fault {
        Fault::NotJson | Fault::BrokenUtf8 => "not_json",
        Fault::NotAnObject => "wrong_type",
        Fault::TooDeep => "too_deep",
        Fault::TooLarge => "too_large",
        Fault::WrongDimensions | Fault::OddBase64 => "wrong_dimensions",
        Fault::NotANumber | Fault::Infinite | Fault::Overflow => "not_finite",
        Fault::ZeroVector => "zero_vector",
        Fault::BadBase64 => "bad_base64",
        Fault::TooManyFaces => "too_many_faces",
        Fault::BadEventId => "bad_event_id",
        Fault::EscapingMediaName | Fault::EscapingMediaTopic => "bad_media_name",
        Fault::BadCamera => "bad_camera",
        Fault::Retained => "retained",
    }
}

async fn check_refusals(plan: &Plan, collector: &Collector) -> Result<()> {
    let mut wanted: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    // A camera without a name that can be written has no topic to be answered on.
    for (camera, bad) in plan.refusals().filter(|(_, bad)| bad.fault != Fault::BadCamera) {
        *wanted.entry(camera).or_default().entry(reason(bad.fault)).or_default() += 1;
    }
    for (camera, reasons) in wanted {
        collector.until_refused(camera, reasons.values().sum(), Duration::from_secs(20)).await?;
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for message in collector.messages(camera, "rejected") {
            let json = message.json();
            ensure!(json["detail"].is_string(), "a refusal without words: {json}");
            *counts.entry(json["reason"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        for (reason, count) in &reasons {
            let count_received = counts.get(*reason).copied().unwrap_or(0);
            ensure!(count_received >= *count, "{camera}: {count} refusals for {reason}, received {counts:?}");
        }
        ensure!(counts.len() == reasons.len(), "{camera}: refusals for {reasons:?}, received {counts:?}");
    }
    Ok(())
}

async fn check_rows(plan: &Plan, setup: &Setup) -> Result<()> {
    let client = setup.database.ready().await?;
    let rows = client
        .query(
            "SELECT seq, camera, event_id, jsonb_array_length(identification->'faces') AS faces, \
             identification->>'correlation_id' AS correlation, \
             identification->>'engine' = 'exact' AND ((identification->>'micros')::bigint > 0 \
                 OR NOT identification @? '$.faces[*] ? (@.outcome == \"match\")') AS complete \
             FROM gatehouse.events WHERE device_id = $1 ORDER BY seq",
            &[&DEVICE],
        )
        .await?;
    let visits: BTreeMap<(&str, &str), &Visit> =
        plan.visits().map(|(c, v)| ((c, v.id.as_str()), v)).collect();
    ensure!(rows.len() == visits.len(), "{} rows of {} events", rows.len(), visits.len());
    let mut seen = BTreeSet::new();
    for (at, row) in (1_i64..).zip(&rows) {
        ensure!(
            row.get::<_, i64>("seq") == at,
            "row {at} has seq {}: a hole or a double",
            row.get::<_, i64>("seq")
        );
        let (camera, id): (String, String) = (row.get("camera"), row.get("event_id"));
        let visit = visits.get(&(camera.as_str(), id.as_str())).context("a row without an event")?;
        let faces = usize::try_from(row.get::<_, i32>("faces"))?;
        ensure!(faces == visit.faces.len(), "row {at}: {faces} faces of {}", visit.faces.len());
        ensure!(row.get::<_, Option<String>>("correlation").is_some(), "row {at} has no correlation id");
        ensure!(
            row.get::<_, Option<bool>>("complete") == Some(true),
            "row {at} does not say how it was found"
        );
        ensure!(seen.insert((camera, id)), "row {at} is a double");
    }
    Ok(())
}

async fn check_objects(plan: &Plan, setup: &Setup) -> Result<()> {
    let pictures: BTreeMap<String, &Picture> = plan
        .visits()
        .filter_map(|(camera, visit)| {
            let picture = visit.picture.as_ref()?;
            Some((format!("{camera}/{}/{}", visit.id, picture.name), picture))
        })
        .collect();
    let client = setup.database.ready().await?;
    let rows = client.query("SELECT s3_bucket, s3_key, file_size FROM gatehouse.files", &[]).await?;
    let filed: BTreeMap<String, i64> =
        rows.iter().map(|row| (row.get("s3_key"), row.get("file_size"))).collect();
    let objects = setup.s3.objects();
    let keys = objects.list(BUCKET, &format!("devices/{DEVICE}/")).await?;
    ensure!(rows.len() == keys.len(), "{} file rows of {} objects", rows.len(), keys.len());
    let (thumbnails, keys): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.contains("/thumbnails/"));
    ensure!(keys.len() == pictures.len(), "{} objects of {} pictures", keys.len(), pictures.len());
    let shown = keys.iter().filter(|key| key.ends_with(".jpg")).count();
    ensure!(thumbnails.len() == shown, "{} thumbnails of {shown} pictures", thumbnails.len());
    for key in thumbnails {
        let of = key.replace("/thumbnails/320/", "/").replace(".jpg.jpg", ".jpg");
        ensure!(
            keys.contains(&of) && filed.contains_key(&key),
            "{key} is a thumbnail without a picture or a row"
        );
    }
    for key in keys {
        // devices/<device>/events/<yyyy>/<mm>/<dd>/<camera>/<event id>/<name>
        let parts: Vec<&str> = key.splitn(7, '/').collect();
        ensure!(parts.len() == 7 && parts[2] == "events" && parts[3].len() == 4, "an object's key is {key}");
        let picture =
            pictures.get(parts[6]).with_context(|| format!("an object without a picture: {key}"))?;
        ensure!(objects.get(BUCKET, &key).await? == picture.bytes, "{key} has other bytes than were sent");
        ensure!(filed.get(&key) == Some(&i64::try_from(picture.bytes.len())?), "{key} has no or a wrong row");
    }
    Ok(())
}

fn secrets(plan: &Plan) -> Secrets {
    let mut secrets = Secrets::default();
    for (person, templates) in plan.people.iter().zip(&plan.templates) {
        secrets.add_text("name", &person.name);
        secrets.add_text("person id", &person.id);
        for template in templates {
            secrets.add_encoding("template", template);
        }
    }
    for (camera, visit) in plan.visits() {
        for seen in &visit.faces {
            secrets.add_encoding("probe", &seen.face.encoding);
        }
        if let Some(picture) = &visit.picture {
            secrets.add_picture(&format!("picture of {camera}/{}", visit.id), &picture.bytes);
        }
    }
    secrets
}

/// Nothing on disk names anybody: neither the state nor the log.
fn check_secrecy(setup: &Setup, secrets: &Secrets) -> Result<()> {
    let mut leaks = secrets.leaks_in(&setup.daemon.state())?;
    leaks.extend(secrets.leaks_in_file(&setup.daemon.log_file())?);
    let first: Vec<_> = leaks.iter().take(5).collect();
    ensure!(leaks.is_empty(), "{} secrets are readable on disk, e.g. {first:#?}", leaks.len());
    Ok(())
}
