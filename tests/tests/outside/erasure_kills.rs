//! kill -9 during an erasure: the person is erased completely, or the order was never accepted.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use gatehouse_testkit::camera::Camera;
use gatehouse_testkit::daemon::binary;
use gatehouse_testkit::jpeg::jpeg;
use gatehouse_testkit::synthetic::{EventMessage, people};
use gatehouse_tests::setup::Setup;

const TIMEOUT: Duration = Duration::from_secs(60);
const ROUNDS: u64 = 8;
/// Visits with a picture in each round.
const VISITS: u64 = 30;
/// Latest kill after the command began, in milliseconds. An erasure takes about as long.
const KILL_AFTER_MAX: u64 = 120;
const CANARY: &str = "canary-of-the-attributes";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_erasure_that_is_killed_at_any_moment_is_completed_or_never_began() -> Result<()> {
    let sync =
        BTreeMap::from([("sync".to_owned(), "retry_min = \"100ms\"\nretry_max = \"1s\"\n".to_owned())]);
    let mut setup = Setup::build(sync).await?;
    setup.start()?;
    let (person, mut random) = (people(1, 1).remove(0), Rng::with_seed(5));
    let (mut erased, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let templates = person.samples(&mut random, 3);
        setup.daemon.enroll("anna", "Anna", &templates)?;
        visit(&setup, &templates[0], round).await?;
        let delay = Duration::from_millis(random.u64(0..KILL_AFTER_MAX));
        let mut erase = Command::new(binary("gatehouse")?)
            .arg("--socket")
            .arg(setup.daemon.socket())
            .args(["person", "erase", "anna", "--yes"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        tokio::time::sleep(delay).await;
        setup.daemon.kill()?;
        erase.wait()?;
        setup.start()?;
        match setup.daemon.cli(&["person", "show", "anna"])?.code {
            1 => erased += 1,
            _ => {
                refused += 1;
                setup.daemon.json(&["person", "erase", "anna", "--yes"])?;
            }
        }
        assert_erased(&setup, round).with_context(|| setup.daemon.log_tail())?;
    }
    println!("{erased} erasures were completed after a kill, {refused} had not begun");
    Ok(())
}

/// Visits that match the template.
async fn visit(setup: &Setup, template: &[f32], round: u64) -> Result<()> {
    let camera = Camera::connect("door", &setup.address());
    for number in 0..VISITS {
        let id = format!("visit-{round}-{number}");
        let mut event: serde_json::Value = serde_json::from_slice(
            &EventMessage { media: vec!["a.jpg".into()], ..EventMessage::face(&id, template.to_vec()) }
                .payload(),
        )?;
        event["note"] = CANARY.into();
        camera.publish("gatehouse/door/event", event.to_string(), false, TIMEOUT).await?;
        camera.publish(&format!("gatehouse/door/media/{id}/a.jpg"), jpeg(3, 64, 48)?, false, TIMEOUT).await?;
    }
    let stored = (round + 1) * VISITS;
    setup.until_ledger("the pictures to be stored", TIMEOUT, |l| l.number("files", "stored") == stored)?;
    Ok(())
}

/// No visit names her, no attribute is left, and no picture.
fn assert_erased(setup: &Setup, round: u64) -> Result<()> {
    let events = setup.daemon.json(&["event", "list", "--limit", "1000"])?.to_string();
    ensure!(!events.contains("anna") && !events.contains(CANARY), "round {round}: {events}");
    for number in 0..VISITS {
        let event =
            setup.daemon.cli(&["--json", "event", "show", &format!("door/visit-{round}-{number}")])?;
        ensure!(
            event.code == 0 && !event.stdout.contains(CANARY) && !event.stdout.contains("anna"),
            "{event:?}"
        );
    }
    let media = setup.daemon.json(&["media", "list", "--limit", "1000"])?;
    let on_disk = media.as_array().context("a list")?.iter().filter(|file| file["on_disk"] == true).count();
    ensure!(on_disk == 0, "round {round}: {on_disk} pictures are left");
    Ok(())
}
