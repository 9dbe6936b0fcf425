//! `gatehouse self-test`: whether the daemon works. `packaging/after-upgrade` runs it after an upgrade.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use gatehouse_config::{Config, parse_duration};

use super::doctor::{self, outside};
use super::session::Session;
use super::terminal::Terminal;
use gatehouse_config::DEFAULT_CONFIG;
use gatehouse_control::answers::{BrokerStatus, Finding, Grade, Status};
use gatehouse_control::types::{Fault, Request};
use gatehouse_control::{VERSION, exit};

/// Interval between two requests to a daemon that is starting.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Maximum wait for a starting daemon and its broker, such as 30s or 5m.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time)]
    wait: Duration,
    /// Settings file; names the broker.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

pub(super) fn run(args: &Args, session: &mut Session) -> Result<(), Fault> {
    let status = settled(session, args.wait)?;
    let mut findings = vec![version(&status.version)];
    findings.extend(session.ask::<Vec<Finding>>(&Request::SelfTest)?);
    let reached =
        || Config::load(&args.config, &[]).is_ok_and(|known| outside::broker(&known).grade == Grade::Ok);
    findings.push(broker(&status.broker, reached));
    session.show(&findings, |findings| doctor::text(findings, Terminal::of_stdout()))?;
    match findings.iter().any(|finding| finding.grade == Grade::Wrong) {
        false => Ok(()),
        // The result is already on standard output.
        true => Err(Fault::with_code(exit::REFUSED, "")),
    }
}

/// Waits until the daemon answers and is connected to the broker, at most for `wait`.
fn settled(session: &Session, wait: Duration) -> Result<Status, Fault> {
    let deadline = Instant::now() + wait;
    loop {
        let status = session.ask::<Status>(&Request::Status);
        let is_settled = match &status {
            Ok(status) => status.broker.connected,
            Err(fault) => fault.code != exit::UNREACHABLE,
        };
        if is_settled || Instant::now() >= deadline {
            return status;
        }
        sleep(POLL_INTERVAL);
    }
}

/// A daemon of the old version that still runs proves nothing about the new one.
fn version(daemon: &str) -> Finding {
    match daemon == VERSION {
        true => Finding::ok("version", format!("gatehoused {daemon}")),
        false => Finding::wrong(
            "version",
            format!("the daemon is {daemon}, this tool {VERSION}"),
            "restart the daemon: systemctl restart gatehoused",
        ),
    }
}

/// Only a reachable broker without a connection of the daemon is a fault of the daemon.
fn broker(status: &BrokerStatus, reached: impl FnOnce() -> bool) -> Finding {
    let address = &status.address;
    let why = status.error.as_deref().unwrap_or("no reason given");
    match status.connected {
        true => Finding::ok("broker", format!("connected to {address}")),
        false if reached() => Finding::wrong(
            "broker",
            format!("{address} is reachable, but the daemon is not connected: {why}"),
            "check [mqtt] and the log of the broker",
        ),
        false => {
            Finding::note("broker", format!("{address} is not reachable: not tested"), "see gatehouse doctor")
        }
    }
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as 30s or 5m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reachable_broker_without_a_connection_is_a_fault() {
        let grade = |connected, reached: bool| {
            let status = BrokerStatus { address: "b:1".into(), connected, error: None };
            broker(&status, || reached).grade
        };
        assert_eq!(
            (grade(true, false), grade(false, true), grade(false, false)),
            (Grade::Ok, Grade::Wrong, Grade::Note)
        );
        assert_eq!((version(VERSION).grade, version("0").grade), (Grade::Ok, Grade::Wrong));
    }
}
