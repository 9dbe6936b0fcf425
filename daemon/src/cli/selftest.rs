//! `gatehouse self-test`: does the daemon do its work? Asked after an upgrade, by `packaging/after-upgrade`.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use gatehouse_config::{Config, parse_duration};

use super::DEFAULT_CONFIG;
use super::doctor::{self, outside};
use super::shell::Shell;
use crate::control::answers::{BrokerStatus, Finding, Grade, Status};
use crate::control::types::{Fault, Request};
use crate::{VERSION, exit};

/// Pause between two looks at a daemon that is starting.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Wait so long for a daemon that is starting, and for its broker.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time)]
    wait: Duration,
    /// The settings: they say where the broker is.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

pub(super) fn run(args: &Args, shell: &mut Shell) -> Result<(), Fault> {
    let status = settled(shell, args.wait)?;
    let mut findings = vec![version(&status.version)];
    findings.extend(shell.ask::<Vec<Finding>>(&Request::SelfTest)?);
    let reached =
        || Config::load(&args.config, &[]).is_ok_and(|known| outside::broker(&known).grade == Grade::Ok);
    findings.push(broker(&status.broker, reached));
    shell.show(&findings, |findings| doctor::human(findings))?;
    match findings.iter().any(|finding| finding.grade == Grade::Wrong) {
        false => Ok(()),
        // All has been said on standard output.
        true => Err(Fault::with_code(exit::REFUSED, "")),
    }
}

/// The status, as soon as the daemon answers and is connected, else what it is when the time is over.
fn settled(shell: &Shell, wait: Duration) -> Result<Status, Fault> {
    let end = Instant::now() + wait;
    loop {
        let status = shell.ask::<Status>(&Request::Status);
        let is_settled = match &status {
            Ok(status) => status.broker.connected,
            Err(fault) => fault.code != exit::UNREACHABLE,
        };
        if is_settled || Instant::now() >= end {
            return status;
        }
        sleep(PAUSE);
    }
}

/// A daemon of before the upgrade that goes on is no proof of the new one.
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

/// A broker that is away says nothing about the daemon; one that is there and not used by it does.
fn broker(status: &BrokerStatus, reached: impl FnOnce() -> bool) -> Finding {
    let address = &status.address;
    let why = status.error.as_deref().unwrap_or("no reason given");
    match status.connected {
        true => Finding::ok("broker", format!("connected to {address}")),
        false if reached() => Finding::wrong(
            "broker",
            format!("it is there at {address}, but the daemon is not connected: {why}"),
            "check [mqtt] and what the broker logs",
        ),
        false => Finding::note(
            "broker",
            format!("{address} cannot be reached: not tested"),
            "gatehouse doctor says more",
        ),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a time is needed, like 30s or 5m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_broker_that_is_there_speaks_against_the_daemon() {
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
