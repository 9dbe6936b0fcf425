//! What waited unseen is never actionable: in a process that was stopped, in a stalled connection, and behind a
//! blocked thread. What comes afterwards is.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatehouse_testkit::broker::Broker;
use gatehouse_testkit::camera::{Address, Camera, Listener};
use gatehouse_testkit::daemon::{Daemon, DaemonOptions, binary};
use gatehouse_testkit::process::{Launch, Signal, find_program};
use gatehouse_testkit::proxy::{Faults, Proxy};
use gatehouse_testkit::synthetic::{EventMessage, people};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(60);
/// Longer than an answer may be acted on, shorter than the keep-alive of a broker.
const OUTAGE_PERIOD: Duration = Duration::from_secs(12);
/// More than mosquitto sends without an acknowledgement: the others wait in its queue.
const EVENTS: usize = 50;

/// A daemon behind a proxy, a camera and a listener that reach the broker directly.
struct Site {
    daemon: Daemon,
    proxy: Proxy,
    camera: Camera,
    answers: Listener,
    template: Vec<f32>,
    _broker: Broker,
}

impl Site {
    async fn new() -> Result<Self> {
        binary("gatehoused")?;
        let broker = Broker::start()?;
        let proxy = Proxy::start(broker.port())?;
        let mqtt_url = format!("mqtt://127.0.0.1:{}", proxy.port());
        let mut daemon =
            Daemon::new(DaemonOptions { device: "edge".into(), mqtt_url, ..DaemonOptions::default() })?;
        daemon.start()?;
        daemon.wait_connected(TIMEOUT)?;
        let person = &people(5, 1)[0];
        let template = person.sample(&mut fastrand::Rng::with_seed(6));
        daemon.enroll(&person.id, &person.name, std::slice::from_ref(&template))?;
        let address = Address::local(broker.port());
        let answers =
            Listener::subscribe("door", &address, &["gatehouse/door/identification"], TIMEOUT).await?;
        let camera = Camera::connect("door", &address);
        let site = Self { daemon, proxy, camera, answers, template, _broker: broker };
        site.is_actionable("before").await?;
        Ok(site)
    }

    /// Publishes events without a time; the broker has them on return.
    async fn publish(&self, name: &str, count: usize) -> Result<Vec<String>> {
        let ids: Vec<String> = (0..count).map(|nth| format!("{name}-{nth}")).collect();
        for id in &ids {
            let event = EventMessage::face(id, self.template.clone()).payload();
            self.camera.publish("gatehouse/door/event", event, false, TIMEOUT).await?;
        }
        Ok(ids)
    }

    async fn answer(&self, id: &str) -> Result<Value> {
        let found = self.answers.wait_for(id, TIMEOUT, |message| message.json()["event_id"] == id).await;
        Ok(found.with_context(|| self.daemon.log_tail())?.json())
    }

    async fn are_stale(&self, ids: &[String]) -> Result<()> {
        for id in ids {
            let body = self.answer(id).await?;
            ensure!(body["faces"][0]["outcome"] == "match", "{body}");
            ensure!(
                body["replayed"] == true && body["actionable"] == false,
                "a door would open late: {body}"
            );
        }
        Ok(())
    }

    async fn is_actionable(&self, name: &str) -> Result<()> {
        for id in self.publish(name, 3).await? {
            let body = self.answer(&id).await?;
            ensure!(body["replayed"] == false && body["actionable"] == true, "{body}");
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_waited_for_a_stopped_process_are_not_actionable() -> Result<()> {
    let mut site = Site::new().await?;
    site.daemon.signal(Signal::Stop)?;
    let ids = site.publish("stopped", EVENTS).await?;
    tokio::time::sleep(OUTAGE_PERIOD).await;
    site.daemon.signal(Signal::Continue)?;
    site.are_stale(&ids).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    site.is_actionable("after").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_waited_in_a_stalled_connection_are_not_actionable() -> Result<()> {
    let site = Site::new().await?;
    site.proxy.set(Faults { stall: true, ..Faults::default() });
    let ids = site.publish("stalled", EVENTS).await?;
    tokio::time::sleep(OUTAGE_PERIOD).await;
    site.proxy.heal();
    site.are_stale(&ids).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    site.is_actionable("after").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_waited_for_a_blocked_thread_are_not_actionable() -> Result<()> {
    let mut site = Site::new().await?;
    let strace = find_program("strace").context("this test needs strace")?;
    let id = site.daemon.id().context("a process")?;
    let thread = format!("grep -lx events /proc/{id}/task/*/comm | cut -d/ -f5");
    let thread = Command::new("sh").args(["-c", &thread]).output()?.stdout;
    let thread = String::from_utf8(thread)?.trim().to_owned();
    let delay = format!("inject=epoll_wait,epoll_pwait:delay_exit={}:when=1", OUTAGE_PERIOD.as_micros());
    let log = site.daemon.folder().path().join("strace.log");
    let mut blocked = Launch::new(strace, log)
        .args(["-p", &thread, "-e", "trace=epoll_wait,epoll_pwait", "-e", &delay])
        .spawn()?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let ended = blocked.ended()?;
    ensure!(ended.is_none(), "tracing needs root or kernel.yama.ptrace_scope=0: {}", blocked.log_tail(1000));
    let ids = site.publish("blocked", 1).await?;
    site.are_stale(&ids).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    site.is_actionable("after").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_of_events_stays_actionable() -> Result<()> {
    let site = Site::new().await?;
    for nth in 0..100 {
        let id = site.publish(&format!("flow-{nth}"), 1).await?.remove(0);
        let body = site.answer(&id).await?;
        ensure!(body["actionable"] == true, "{nth}: {body}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
