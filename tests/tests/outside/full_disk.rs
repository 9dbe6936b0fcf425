//! A disk that is filled under a running daemon, seen from outside: it lives, answers, waits, gives pictures up by
//! their worth, counts each, and goes on without a restart when there is room again.
//!
//! A small file system of its own needs root. Without it this is skipped, and only the journal's own tests cover a full
//! disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatehouse_testkit::broker::Broker;
use gatehouse_testkit::camera::{Address, Camera, Listener};
use gatehouse_testkit::daemon::{Daemon, DaemonOptions, binary};
use gatehouse_testkit::jpeg::jpeg;
use gatehouse_testkit::require::Need;
use gatehouse_testkit::synthetic::{EventMessage, people, stranger};
use gatehouse_testkit::wait;
use gatehouse_tests::setup::Ledger;

const TIMEOUT: Duration = Duration::from_secs(60);
const DISK: &str = "size=192m";
/// Name of the reserve in the state directory.
const BALLAST: &str = "ballast";
/// Near what an event may bring along.
const ATTRIBUTE_BYTES: usize = 8_000;
/// Events of so many bytes, in pieces of 16 MiB.
const SEVERAL_SEGMENTS: u64 = 5_000;

/// A small file system in memory; gone when this is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Result<Option<Self>> {
        std::fs::create_dir_all(at)?;
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "gatehouse-test"]).arg(at).output()?;
        let is_mounted = mounted.status.success();
        Ok((!Need::Mount.is_missing(is_mounted)).then(|| Self(at.to_owned())))
    }

    /// Takes all the room that is left.
    fn fill(&self) -> Result<()> {
        let mut filler = File::options().append(true).create(true).open(self.filler())?;
        let block = vec![0; 1 << 20];
        loop {
            match std::io::Write::write_all(&mut filler, &block) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn empty(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a daemon that still runs keeps it until it ends.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn ledger(daemon: &Daemon) -> Result<Ledger> {
    Ok(Ledger(daemon.json(&["ledger"])?))
}

async fn until(daemon: &Daemon, what: &str, wanted: impl Fn(&Ledger) -> bool) -> Result<Ledger> {
    let look = || async { ledger(daemon).is_ok_and(|ledger| wanted(&ledger)) };
    wait::until_async(what, TIMEOUT, look)
        .await
        .with_context(|| format!("{:?}\n{}", ledger(daemon).map(|l| l.0), daemon.log_tail()))?;
    ledger(daemon)
}

/// A daemon on a small disk, with its reserve laid; none where nothing can be mounted.
async fn small(broker: &Broker, retention: &str) -> Result<Option<(Daemon, SmallDisk)>> {
    binary("gatehoused")?;
    let settings = BTreeMap::from([
        ("media".to_owned(), "reserve_free_bytes = 0\n".to_owned()),
        ("sources".to_owned(), "events_per_second = 10000\nburst = 10000\n".to_owned()),
        ("retention".to_owned(), retention.to_owned()),
    ]);
    let options = DaemonOptions {
        device: "small".into(),
        mqtt_url: broker.url(),
        settings,
        ..DaemonOptions::default()
    };
    let mut daemon = Daemon::new(options)?;
    let Some(disk) = SmallDisk::mount(&daemon.state())? else {
        return Ok(None);
    };
    daemon.start()?;
    daemon.wait_connected(TIMEOUT)?;
    let ballast = daemon.state().join(BALLAST);
    wait::until("the reserve", TIMEOUT, || ballast.exists())?;
    Ok(Some((daemon, disk)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_events_go_where_that_is_allowed_and_nothing_else_is_left() -> Result<()> {
    let broker = Broker::start()?;
    let Some((daemon, disk)) = small(&broker, "drop_events_when_full = true\n").await? else {
        return Ok(());
    };
    let camera = Camera::connect("door", &Address::local(broker.port()));
    let send = |id: String| {
        // Words: a long text without blanks may be an encoding, and is not kept.
        let note = "note ".repeat(ATTRIBUTE_BYTES / 5).into();
        let attributes = [("note".to_owned(), note)].into_iter().collect();
        let event =
            EventMessage { id: Some(id), kind: "motion".into(), attributes, ..EventMessage::default() };
        camera.send("gatehouse/door/event", event.payload(), false)
    };
    // Into the third segment of the journal.
    for sent in (0..SEVERAL_SEGMENTS).map(|n| send(format!("early-{n}"))).collect::<Vec<_>>() {
        ensure!(sent.await?.is_ok(), "the broker refused an event");
    }
    until(&daemon, "all to be stored", |l| l.number("events", "stored") == SEVERAL_SEGMENTS).await?;
    disk.fill()?;
    for n in 0..100 {
        ensure!(send(format!("late-{n}")).await?.is_ok(), "the broker refused an event");
    }
    let is_dropped = |l: &Ledger| l.reasons("events", "dropped").contains_key("disk_full");
    let is_stored = |l: &Ledger| l.number("events", "stored") == SEVERAL_SEGMENTS + 100;
    let dropped = until(&daemon, "events to be given up", |l| is_dropped(l) && is_stored(l)).await?;
    ensure!(dropped.adds_up(), "{:#}", dropped.0);
    let newest = daemon.json(&["event", "show", "door/late-99"]);
    ensure!(newest.is_ok(), "the newest stay: {newest:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_nothing_and_costs_what_is_worth_least() -> Result<()> {
    let broker = Broker::start()?;
    let Some((mut daemon, disk)) = small(&broker, "").await? else {
        return Ok(());
    };
    let ballast = daemon.state().join(BALLAST);
    let process = daemon.id();

    let person = &people(5, 1)[0];
    let mut random = fastrand::Rng::with_seed(7);
    let face = person.sample(&mut random);
    daemon.enroll(&person.id, &person.name, std::slice::from_ref(&face))?;
    let address = Address::local(broker.port());
    let answers = Listener::subscribe("door", &address, &["gatehouse/door/identification"], TIMEOUT).await?;
    let camera = Camera::connect("door", &address);
    let send = async |id: &str, face: Vec<f32>| {
        camera.publish("gatehouse/door/event", EventMessage::face(id, face).payload(), false, TIMEOUT).await
    };
    let upload = async |event: &str, name: &str, data: Vec<u8>| {
        camera.publish(&format!("gatehouse/door/media/{event}/{name}"), data, false, TIMEOUT).await
    };
    send("friend", face.clone()).await?;
    send("late", stranger(&mut random).sample(&mut random)).await?;
    upload("friend", "a.jpg", jpeg(1, 640, 480)?).await?;
    upload("late", "b.jpg", jpeg(2, 640, 480)?).await?;
    upload("friend", "c.mp4", vec![7; 8 << 20]).await?;
    until(&daemon, "the files to be stored", |l| l.number("files", "stored") == 3).await?;

    disk.fill()?;
    // Enough for several flushes of the views: they meet the full disk as well.
    for n in 0..400 {
        send(&format!("full-{n}"), face.clone()).await?;
    }
    answers.until_count(402, TIMEOUT).await?;
    let dropped = |l: &Ledger| l.reasons("files", "dropped").contains_key("disk_full");
    let full = until(&daemon, "pictures to be given up", dropped).await?;
    ensure!(full.adds_up(), "{:#}", full.0);

    // Again, with the reserve gone: now all waits, and says so.
    disk.fill()?;
    for n in 0..200 {
        let late = EventMessage::face(&format!("late-{n}"), face.clone()).payload();
        drop(camera.send("gatehouse/door/event", late, false));
    }
    let waits =
        || daemon.cli(&["--json", "doctor"]).is_ok_and(|d| d.stdout.contains("waits for free disk space"));
    wait::until("the daemon to wait for room", TIMEOUT, waits).with_context(|| daemon.log_tail())?;
    ensure!(daemon.running() && daemon.id() == process, "the daemon ended: {}", daemon.log_tail());

    disk.empty()?;
    let after = until(&daemon, "all events to be stored", |l| l.number("events", "stored") == 602).await?;
    ensure!(after.adds_up() && after.number("events", "duplicate") == 0, "{:#}", after.0);
    ensure!(daemon.id() == process, "the daemon was restarted");
    wait::until("the reserve to be laid again", TIMEOUT, || ballast.exists())?;

    // A start without any room, nor a reserve: it is ready, answers, and waits.
    daemon.kill()?;
    std::fs::remove_file(&ballast)?;
    disk.fill()?;
    daemon.start()?;
    ensure!(ledger(&daemon)?.number("events", "stored") == 602, "{:#}", ledger(&daemon)?.0);
    let seen = answers.count();
    let last = EventMessage::face("last", face).payload();
    drop(camera.send("gatehouse/door/event", last, false));
    answers.until_count(seen + 1, TIMEOUT).await?;
    disk.empty()?;
    until(&daemon, "the last event to be stored", |l| l.number("events", "stored") == 603 && l.adds_up())
        .await?;
    Ok(())
}
