//! Who is erased is forgotten: at the door, on the disk, in the backlog and in the central database, also where the
//! central side was away when it happened and the daemon was killed right after.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatehouse_testkit::camera::{Camera, Listener};
use gatehouse_testkit::postgres::Stop;
use gatehouse_testkit::synthetic::EventMessage;
use gatehouse_testkit::wait;
use gatehouse_tests::drive::{Collector, Playing, ROOT};
use gatehouse_tests::plan::{Plan, Size};
use gatehouse_tests::scan::Secrets;
use gatehouse_tests::setup::Setup;
use serde_json::Value;

const SIZE: Size = Size { people: 6, samples: 5, events: 160, cameras: 2 };
const DURATION: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_erased_person_is_named_nowhere_any_more() -> Result<()> {
    let before = Arc::new(Plan::new(1, SIZE)?);
    let mut setup = Setup::build(BTreeMap::from([(
        "sync".to_owned(),
        "retry_min = \"100ms\"\nretry_max = \"1s\"\n".to_owned(),
    )]))
    .await?;
    setup.start()?;
    for (person, templates) in before.people.iter().zip(&before.templates) {
        setup.daemon.enroll(&person.id, &person.name, templates)?;
    }
    let collector = Collector::of(&before, &setup.address()).await?;
    Playing::start(&before, &setup.address(), DURATION).finish(TIMEOUT).await?;
    collector.until_answered(&before, TIMEOUT).await.with_context(|| setup.daemon.log_tail())?;
    setup
        .until_ledger("the first events to be delivered", TIMEOUT, |l| l.number("events", "pending") == 0)?;
    setup.postgres.stop(Stop::Immediate)?;
    again(&setup, &before, &collector).await?;
    let pending = setup.ledger()?.number("events", "pending");
    ensure!(pending > 0, "nothing waits although Postgres is away");

    let person = &before.people[0];
    let named = setup.daemon.json(&["event", "list", "--person", &person.id, "--limit", "1000"])?;
    ensure!(named.as_array().is_some_and(|list| list.len() > 5), "no person was identified: {named}");
    let erased = setup.daemon.json(&["person", "erase", &person.id])?;
    let order = erased["order"].as_str().context("the order of the erasure")?;
    setup.daemon.kill()?;
    setup.start()?;

    named_nowhere(&setup, &person.id, &person.name)?;
    asked_again(&setup, &before).await?;
    setup.postgres.restart()?;
    setup.until_ledger("the backlog to be delivered", TIMEOUT, |l| l.number("events", "pending") == 0)?;
    rows_name_others_only(&setup, &before, order).await?;
    let status = setup.daemon.terminate()?;
    ensure!(status.success(), "SIGTERM ends with {status}");
    let mut secrets = Secrets::default();
    for (person, templates) in before.people.iter().zip(&before.templates) {
        secrets.add_text("name", &person.name);
        secrets.add_text("person id", &person.id);
        templates.iter().for_each(|template| secrets.add_encoding("template", template));
    }
    let leaks = secrets.leaks_in(&setup.daemon.state())?;
    ensure!(leaks.is_empty(), "readable on disk: {:#?}", leaks.iter().take(5).collect::<Vec<_>>());
    Ok(())
}

/// The visits of a plan once more, as new events.
async fn again(setup: &Setup, plan: &Plan, collector: &Collector) -> Result<()> {
    let camera = Camera::connect("again", &setup.address());
    let mut last = String::new();
    for (_, visit) in plan.visits() {
        let mut json: Value = serde_json::from_slice(&visit.payload)?;
        last = format!("{}-again", visit.id);
        json["id"] = last.clone().into();
        json["media"] = Value::Array(Vec::new());
        camera.publish(&format!("{ROOT}/camera-0/event"), json.to_string(), false, TIMEOUT).await?;
    }
    wait::until_async("the last answer", TIMEOUT, || async {
        collector.answers().contains_key(&("camera-0".to_owned(), last.clone()))
    })
    .await?;
    let stored = 2 * plan.visits().count() as u64;
    setup.until_ledger("everything to be stored", TIMEOUT, |l| l.number("events", "stored") == stored)?;
    Ok(())
}

fn named_nowhere(setup: &Setup, id: &str, name: &str) -> Result<()> {
    ensure!(setup.daemon.cli(&["person", "show", id])?.code == 1, "an erased person is still shown");
    let people = setup.daemon.json(&["person", "list"])?.to_string();
    let events = setup.daemon.json(&["event", "list", "--limit", "1000"])?.to_string();
    for (what, text) in [("person list", people), ("event list", events)] {
        ensure!(!text.contains(id) && !text.contains(name), "`{what}` names an erased person");
    }
    let asked = setup.daemon.cli(&["--json", "event", "list", "--person", id])?;
    let found = serde_json::from_str::<Value>(&asked.stdout).ok().and_then(|v| v.as_array().map(Vec::len));
    ensure!(asked.code == 1 || found == Some(0), "events of an erased person: {}", asked.stdout);
    Ok(())
}

/// Every template of the erased person as a probe: at distance zero, if it still were in the gallery.
async fn asked_again(setup: &Setup, plan: &Plan) -> Result<()> {
    let topic = format!("{ROOT}/camera-1/identification");
    let listener = Listener::subscribe("after", &setup.address(), &[&topic], TIMEOUT).await?;
    let camera = Camera::connect("after", &setup.address());
    for (number, template) in plan.templates[0].iter().enumerate() {
        let id = format!("after-{number}");
        let event = EventMessage::face(&id, template.clone()).payload();
        camera.publish(&format!("{ROOT}/camera-1/event"), event, false, TIMEOUT).await?;
        let answer =
            listener.wait_for("an answer", TIMEOUT, |m| m.json()["event_id"] == id.as_str()).await?.json();
        let face = &answer["faces"][0];
        ensure!(face["person"]["id"] != plan.people[0].id.as_str(), "an erased person is named: {answer}");
        ensure!(answer["gallery_size"] == plan.people.len() - 1, "the gallery did not shrink: {answer}");
        ensure!(face["distance"].as_f64() > Some(0.01), "the template is still there: {answer}");
    }
    Ok(())
}

async fn rows_name_others_only(setup: &Setup, plan: &Plan, order: &str) -> Result<()> {
    let client = setup.database.ready().await?;
    let erased = &plan.people[0];
    wait::until_async("the erasure to reach the central side", TIMEOUT, || async {
        let query = "SELECT 1 FROM gatehouse.erasures WHERE order_id::text = $1";
        let found = client.query(query, &[&order]).await;
        found.is_ok_and(|rows| rows.len() == 1)
    })
    .await?;
    let naming = "SELECT count(*) FROM gatehouse.events WHERE identification::text LIKE '%' || $1 || '%'";
    for text in [&erased.id, &erased.name] {
        let count: i64 = client.query_one(naming, &[text]).await?.get(0);
        ensure!(count == 0, "{count} central rows still name an erased person");
    }
    let count: i64 = client.query_one(naming, &[&plan.people[1].id]).await?.get(0);
    ensure!(count > 5, "the others are to be left alone");
    let holes = "SELECT count(*), max(seq) FROM gatehouse.events";
    let row = client.query_one(holes, &[]).await?;
    ensure!(row.get::<_, i64>(0) == row.get::<_, i64>(1), "a hole in seq");
    Ok(())
}
