//! A log that is not read stops no answer, start or stop, and no camera can flood it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gatehouse_testkit::broker::Broker;
use gatehouse_testkit::camera::{Address, Camera, Listener, Received, all_taken};
use gatehouse_testkit::daemon::{Daemon, DaemonOptions, binary};
use gatehouse_testkit::synthetic::{EventMessage, people};
use gatehouse_testkit::wait;

const TIMEOUT: Duration = Duration::from_secs(60);
/// Much longer than an answer takes on a loaded machine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Standard error becomes a pipe that is full and never read; then the daemon takes the place of the shell.
const UNREAD_STDERR: &str = "exec 2> >(exec sleep 120); head -c 65536 /dev/zero >&2; exec \"$0\" \"$@\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_answered_while_standard_error_is_a_full_pipe() -> Result<()> {
    binary("gatehoused")?;
    let broker = Broker::start()?;
    let mut daemon = Daemon::new(DaemonOptions {
        device: "edge".into(),
        mqtt_url: broker.url(),
        wrapper: ["bash", "-c", UNREAD_STDERR].map(str::to_owned).into(),
        ..DaemonOptions::default()
    })?;
    daemon.start()?;
    daemon.wait_connected(TIMEOUT)?;
    let person = &people(5, 1)[0];
    let template = person.sample(&mut fastrand::Rng::with_seed(6));
    daemon.enroll(&person.id, &person.name, std::slice::from_ref(&template))?;
    let address = Address::local(broker.port());
    let filters = ["gatehouse/door/identification", "gatehouse/door/rejected"];
    let answers = Listener::subscribe("door", &address, &filters, TIMEOUT).await?;
    let camera = Camera::connect("door", &address);
    for nth in 0..30 {
        let id = nth.to_string();
        camera.publish("gatehouse/door/event", "ON", false, TIMEOUT).await?;
        let event = EventMessage::face(&id, template.clone()).payload();
        camera.publish("gatehouse/door/event", event, false, TIMEOUT).await?;
        let of = |message: &Received| message.json()["event_id"] == id.as_str();
        let answer = answers.wait_for(&id, ANSWER_TIMEOUT, of).await?.json();
        ensure!(answer["actionable"] == true, "{answer}");
    }
    let id = daemon.id().context("a process")?;
    let pipe = std::fs::read_link(format!("/proc/{id}/fd/2"))?;
    ensure!(pipe.to_string_lossy().starts_with("pipe:"), "{}", pipe.display());
    // Its standard error stays full: waiting for a reader would use up the deadline of a stop.
    ensure!(daemon.terminate()?.success(), "{}", daemon.log_tail());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_refused_messages_has_few_lines_and_a_count_of_the_rest() -> Result<()> {
    const MESSAGES: u64 = 2000;
    binary("gatehoused")?;
    let broker = Broker::start()?;
    let mqtt_url = broker.url();
    let mut daemon =
        Daemon::new(DaemonOptions { device: "edge".into(), mqtt_url, ..DaemonOptions::default() })?;
    daemon.start()?;
    daemon.wait_connected(TIMEOUT)?;
    let camera = Camera::connect("door", &Address::local(broker.port()));
    let begin = Instant::now();
    all_taken((0..MESSAGES).map(|_| camera.send("gatehouse/door/event", "ON", false)).collect(), TIMEOUT)
        .await?;
    let refused = || async {
        daemon.json(&["ledger"]).is_ok_and(|ledger| ledger["events"]["rejected"]["not_json"] == MESSAGES)
    };
    wait::until_async("all to be refused", TIMEOUT, refused).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    camera.publish("gatehouse/door/event", "ON", false, TIMEOUT).await?;
    let count = || -> Result<(usize, u64)> {
        let log = std::fs::read_to_string(daemon.log_file())?;
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("message refused")).collect();
        let left_out =
            |line: &&str| line.split("left_out=").nth(1)?.split_whitespace().next()?.parse::<u64>().ok();
        Ok((lines.len(), lines.iter().filter_map(left_out).sum::<u64>()))
    };
    let all = || async { count().is_ok_and(|(lines, left_out)| lines as u64 + left_out == MESSAGES + 1) };
    wait::until_async("a count of all", TIMEOUT, all).await.with_context(|| daemon.log_tail())?;
    let seconds = usize::try_from(begin.elapsed().as_secs())?;
    let (lines, _) = count()?;
    ensure!(lines <= 10 * (seconds + 2), "{lines} lines in {seconds} s");
    Ok(())
}
