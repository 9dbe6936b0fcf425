//! Flash that is slower than the cameras: every fdatasync of the daemon is delayed. The broker must keep what the daemon
//! cannot accept, the memory of the daemon must stay within its bounds, and everything must arrive once in the end.
//! Meanwhile a camera that exceeds its rate limit is refused, and the refusals are counted.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatehouse_store::store::EventQuery;
use gatehouse_testkit::broker::{Broker, BrokerOptions};
use gatehouse_testkit::camera::{Address, Camera, Listener, Receipt, all_taken};
use gatehouse_testkit::daemon::{Daemon, DaemonOptions, binary};
use gatehouse_testkit::process::find_program;
use gatehouse_testkit::synthetic::{EventMessage, people};
use gatehouse_testkit::wait;
use gatehouse_vault::keys::RootKey;
use serde_json::json;

use super::{Outcome, street};
use crate::setup::Ledger;

/// What an fdatasync takes longer, in microseconds: a worn card at its worst.
const HELD_UP: u64 = 1_000_000;
/// Calls of each thread that are not held up, so that the start is none that takes a minute.
const SPARED: u64 = 20;
/// Messages that the broker has on their way to one client: all that one commit can take.
const ON_THEIR_WAY: u16 = 200;
/// Blanks in an event in bytes, so that what piles up somewhere is seen there.
const BYTES: usize = 48 * 1024;
/// The cameras go on until the broker keeps so many messages, or have sent as many as cannot be.
const KEPT: u64 = 1400;
const SENT_MAX: usize = 20_000;
/// Events that are sent before the broker is looked at again.
const AT_ONCE: usize = 50;
/// Cameras, each within its rate.
const CAMERAS: usize = 50;
/// What a camera may send at once; after that one event per second.
const BURST: usize = 400;
/// What the camera sends that does not keep to it.
const TOO_MANY: usize = 800;
/// What the daemon may grow by: its budget for payloads of events under way (32 MiB), the journal's queue (8 MiB), two
/// of its batches (4 MiB each), and a third of that for what the allocator keeps. The broker keeps more than that.
const GROWTH_MAX: u64 = 64 << 20;
/// Each step ends within this.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What the broker says of itself, once a second.
const BROKER_KEEPS: &str = "$SYS/broker/store/messages/count";
const BROKER_DROPPED: &str = "$SYS/broker/publish/messages/dropped";

/// Sends faster than is written, so often.
///
/// # Errors
/// If strace, broker or daemon do not work at all, or a step takes too long.
pub async fn run(rounds: u64) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for _ in 0..rounds {
        round(&mut outcome).await?;
        outcome.rounds += 1;
    }
    Ok(outcome)
}

async fn round(outcome: &mut Outcome) -> Result<()> {
    let broker = Broker::start_with(&BrokerOptions {
        inflight: ON_THEIR_WAY,
        extra: "sys_interval 1\n".into(),
        ..BrokerOptions::default()
    })?;
    let address = Address::local(broker.port());
    let mut daemon = slow_daemon(&broker)?;
    daemon.start()?;
    daemon.wait_connected(TIMEOUT)?;
    let before = resident(&daemon)?;
    let kept = Listener::subscribe("kept", &address, &[BROKER_KEEPS], TIMEOUT).await?;
    let dropped = Listener::subscribe("dropped", &address, &[BROKER_DROPPED], TIMEOUT).await?;
    let refusals = Listener::subscribe("loud", &address, &["gatehouse/loud/rejected"], TIMEOUT).await?;
    let camera = Camera::connect("street", &address);

    let most = AtomicU64::new(before);
    let look = || resident(&daemon).map(|now| most.fetch_max(now, Ordering::Relaxed));
    let (sent, receipts) = flood(&camera, &kept, look).await?;
    let loud: Vec<_> = (0..TOO_MANY).map(|n| loud(&camera, n)).collect();
    all_taken(receipts, TIMEOUT).await?;
    all_taken(loud, TIMEOUT).await?;
    let all = (sent + TOO_MANY) as u64;
    let arrived =
        || async { look().is_ok() && ledger(&daemon).is_ok_and(|l| l.number("events", "received") >= all) };
    // What does not come is counted below.
    let _ = wait::until_async("all events", TIMEOUT, arrived).await;
    let ledger = ledger(&daemon)?;
    let refused = ledger.reasons("events", "rejected").get("rate_limited").copied().unwrap_or(0);
    let notified = refusals.until_count(usize::try_from(refused)?, TIMEOUT).await;
    notified.context("the refused camera was not notified each time")?;
    ensure!(ledger.adds_up(), "the ledger does not add up: {:#}", ledger.0);
    ensure!(refused > 0, "no event of {TOO_MANY} was refused: {:#}", ledger.0);
    let grown = most.into_inner().saturating_sub(before);
    ensure!(grown <= GROWTH_MAX, "the daemon grew by {grown} bytes, at most {GROWTH_MAX} are allowed");
    let lost_by_broker = latest(&dropped);
    outcome.lost(lost_by_broker, &format!("the broker dropped {lost_by_broker}"));
    outcome.doubles += ledger.number("events", "duplicate");
    daemon.terminate()?;
    count(outcome, &daemon, sent, refused)?;
    outcome.notes.push(format!(
        "broker kept up to {} messages; daemon grew by {} MB of {} MB allowed; {refused} events of {TOO_MANY} refused",
        kept.with(|all| all.iter().filter_map(number).max()).unwrap_or(0),
        grown >> 20,
        GROWTH_MAX >> 20,
    ));
    Ok(())
}

/// strace as a grandchild: it holds up nothing but these calls, and ends with the daemon.
fn slow_daemon(broker: &Broker) -> Result<Daemon> {
    binary("gatehoused")?;
    let strace =
        find_program("strace").context("this needs strace and found none: `./run faults` installs it")?;
    let inject = format!("inject=fdatasync:delay_enter={HELD_UP}:when={SPARED}+");
    let arguments = ["-D", "-f", "--seccomp-bpf", "-qqq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e"];
    let mut wrapper = vec![strace.display().to_string()];
    wrapper.extend(arguments.map(str::to_owned));
    wrapper.push(inject);
    let rate = format!("events_per_second = 1\nburst = {BURST}\n");
    Daemon::new(DaemonOptions {
        device: "slow".into(),
        mqtt_url: broker.url(),
        settings: BTreeMap::from([("sources".to_owned(), rate)]),
        wrapper,
        ..DaemonOptions::default()
    })
}

/// Sends from all cameras until the broker keeps enough; how many.
async fn flood(
    camera: &Camera,
    kept: &Listener,
    look: impl Fn() -> Result<u64>,
) -> Result<(usize, Vec<Receipt>)> {
    let face = people(5, 1)[0].sample(&mut fastrand::Rng::with_seed(1));
    let mut receipts = Vec::new();
    while latest(kept) < KEPT {
        ensure!(
            receipts.len() < SENT_MAX,
            "{SENT_MAX} events were sent and the broker keeps {}",
            latest(kept)
        );
        for number in receipts.len()..receipts.len() + AT_ONCE {
            let mut payload = EventMessage::face(&number.to_string(), face.clone()).payload();
            payload.resize(payload.len() + BYTES, b' ');
            let topic = format!("gatehouse/c{}/event", number % CAMERAS);
            receipts.push(camera.send(&topic, payload, false));
        }
        look()?;
        let taken = || async { camera.waiting() < AT_ONCE };
        wait::until_async("the broker to take what was sent", TIMEOUT, taken).await?;
    }
    Ok((receipts.len(), receipts))
}

fn loud(camera: &Camera, number: usize) -> Receipt {
    let event = json!({ "id": format!("loud-{number}"), "kind": "ring" });
    camera.send("gatehouse/loud/event", event.to_string(), false)
}

/// What is in the store, compared with what was sent and not refused.
fn count(outcome: &mut Outcome, daemon: &Daemon, sent: usize, refused: u64) -> Result<()> {
    let log = std::fs::read_to_string(daemon.log_file())?;
    outcome.panics += log.matches("panicked at").count() as u64;
    let root = RootKey::read(&daemon.config_file().with_file_name("root.key"))?;
    let (store, _) = street::open(&daemon.state(), &root)?;
    let mut seen: HashMap<String, u64> = HashMap::new();
    for event in store.events.list(&EventQuery { limit: usize::MAX, ..EventQuery::default() })? {
        *seen.entry(event.event.key.id.to_string()).or_default() += 1;
    }
    let lost = (0..sent).filter(|number| !seen.contains_key(&number.to_string())).count();
    outcome.lost(lost as u64, &format!("{lost} of {sent} events did not arrive"));
    let loud = seen.keys().filter(|id| id.starts_with("loud-")).count() as u64;
    let missing = (TOO_MANY as u64).saturating_sub(loud + refused);
    outcome.lost(missing, &format!("{missing} events were neither stored nor refused"));
    outcome.doubles += seen.values().filter(|count| **count > 1).count() as u64;
    outcome.acknowledged += sent as u64 + loud;
    Ok(())
}

fn ledger(daemon: &Daemon) -> Result<Ledger> {
    Ok(Ledger(daemon.json(&["ledger"])?))
}

fn latest(listener: &Listener) -> u64 {
    listener.with(|all| all.last().and_then(number)).unwrap_or(0)
}

fn number(message: &gatehouse_testkit::camera::Received) -> Option<u64> {
    message.json().as_u64()
}

/// Resident memory of the daemon in bytes.
fn resident(daemon: &Daemon) -> Result<u64> {
    let path = format!("/proc/{}/status", daemon.id().context("the daemon does not run")?);
    let status = std::fs::read_to_string(&path).context(path)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}
