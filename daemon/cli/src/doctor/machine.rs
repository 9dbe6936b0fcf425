//! Findings about the machine, also while the daemon is down: unit, clock synchronization, memory and disk wear. The
//! sandbox hides most of them from the daemon.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gatehouse_control::answers::Finding;
use gatehouse_machine::program::run_within;

/// The unit of the daemon.
const UNIT: &str = "gatehoused";
/// Timeout of a call to systemctl or timedatectl; a hanging systemd must not block the output.
const SYSTEMD_TIMEOUT: Duration = Duration::from_secs(5);
/// Exit code that systemd reports if it could not open a sealed secret for the daemon.
const CREDENTIALS_EXIT_STATUS: &str = "243";
/// Available memory in percent below which the daemon and other programs start to compete for it.
const AVAILABLE_MEMORY_PERCENT_MIN: u64 = 10;
/// Steps of 10 % of its lifetime at which an eMMC should be replaced; its own scale ends at 11.
const WORN_STEPS: u8 = 9;

/// All findings about the machine.
pub(super) fn findings() -> Vec<Finding> {
    let mut findings: Vec<Finding> = unit().into_iter().chain(clock_source()).collect();
    findings.extend(fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory(&text)));
    findings.extend(disks(Path::new("/sys/block")));
    findings
}

/// State of the daemon's unit; none without systemd.
fn unit() -> Option<Finding> {
    let properties = ["ActiveState", "SubState", "Result", "NRestarts", "ExecMainStatus"]
        .map(|name| format!("--property={name}"));
    let output =
        run_within(SYSTEMD_TIMEOUT, Command::new("systemctl").arg("show").arg(UNIT).args(properties), b"")
            .ok()?;
    unit_finding(&String::from_utf8_lossy(&output.stdout))
}

fn unit_finding(properties: &str) -> Option<Finding> {
    let value = |name: &str| {
        properties.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
    };
    let message = format!("{UNIT} is {} ({})", value("ActiveState"), value("SubState"));
    let restarts: u64 = value("NRestarts").parse().unwrap_or(0);
    Some(match (value("ActiveState"), value("Result")) {
        ("", _) => return None,
        (state, _) if state != "active" && value("ExecMainStatus") == CREDENTIALS_EXIT_STATUS => {
            Finding::wrong(
                "unit",
                format!("{message}: the sealed secrets cannot be opened"),
                "switch the machine off and on, because the TPM may be unavailable for a while; after a reset of the TPM or on \
             another board give copies: `gatehouse setup --force-new-root-key --root-key-file FILE`; without a copy only a \
             new key helps, and all stored data is lost",
            )
        }
        (_, "exec-condition") => {
            Finding::wrong("unit", message, format!("correct the settings, then: systemctl start {UNIT}"))
        }
        ("active", _) if restarts > 0 => Finding::note(
            "unit",
            format!("{message}, restarted {restarts} times"),
            format!("see the reason: journalctl -u {UNIT}"),
        ),
        ("active", _) => Finding::ok("unit", message),
        ("inactive", "success") => {
            Finding::wrong("unit", message, format!("start the daemon: systemctl start {UNIT}"))
        }
        (_, result) => Finding::wrong(
            "unit",
            format!("{message}, last result {result}"),
            format!("see the reason: journalctl -u {UNIT} -n 30"),
        ),
    })
}

/// Whether a time server synchronizes the clock; none if systemd does not know.
fn clock_source() -> Option<Finding> {
    let arguments = ["show", "--property=NTPSynchronized", "--value"];
    let output = run_within(SYSTEMD_TIMEOUT, Command::new("timedatectl").args(arguments), b"").ok()?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => Some(Finding::ok("clock source", "the clock is synchronized with a time server")),
        "no" => Some(Finding::note(
            "clock source",
            "the clock is not synchronized: events of cameras that send a time may seem late, and certificates invalid",
            "run timedatectl set-ntp true, and allow access to a time server (UDP 123)",
        )),
        _ => None,
    }
}

fn memory(meminfo: &str) -> Option<Finding> {
    let kib = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let total = kib("MemTotal")?;
    let available = kib("MemAvailable")?;
    let message = format!("{} of {} MiB are available", available / 1024, total / 1024);
    Some(match available.saturating_mul(100) < total.saturating_mul(AVAILABLE_MEMORY_PERCENT_MIN) {
        true => Finding::wrong("memory", message, "find the program that uses it: top"),
        false => Finding::ok("memory", message),
    })
}

/// One finding for each disk that reports its wear; most memory cards do not.
fn disks(block: &Path) -> Vec<Finding> {
    let mut names: Vec<_> = fs::read_dir(block).into_iter().flatten().flatten().collect();
    names.sort_by_key(fs::DirEntry::file_name);
    names.iter().filter_map(|disk| wear(&disk.file_name().to_string_lossy(), &disk.path())).collect()
}

/// Wear of an eMMC: two areas, each in steps of 10 % of its rated lifetime, and the state of its spare blocks.
fn wear(name: &str, disk: &Path) -> Option<Finding> {
    let read = |file: &str| fs::read_to_string(disk.join("device").join(file)).ok();
    let hex = |text: &str| u8::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let steps = read("life_time")?.split_whitespace().filter_map(hex).max()?;
    let spare = read("pre_eol_info").and_then(|text| hex(text.trim())).unwrap_or(0);
    if steps == 0 && spare == 0 {
        return None;
    }
    let message = match steps {
        0 => format!("{name} does not report its wear"),
        11.. => format!("{name} has exceeded its rated lifetime"),
        steps => format!("{name} has used up to {} % of its rated lifetime", u32::from(steps) * 10),
    };
    Some(match (steps, spare) {
        (_, 3) => Finding::wrong(
            "disk wear",
            format!("{message}; its spare blocks are used up"),
            "replace the disk now",
        ),
        (steps, _) if steps > WORN_STEPS => {
            Finding::wrong("disk wear", message, "replace the disk; delivered data is safe")
        }
        (_, 2) => Finding::note(
            "disk wear",
            format!("{message}; 80 % of its spare blocks are used"),
            "plan a replacement",
        ),
        (WORN_STEPS, _) => Finding::note("disk wear", message, "plan a replacement"),
        _ => Finding::ok("disk wear", message),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatehouse_control::answers::Grade;

    #[test]
    fn failed_and_stopped_units_are_faults() {
        let grade = |active: &str, result: &str, restarts: &str| {
            let text = format!("ActiveState={active}\nSubState=x\nResult={result}\nNRestarts={restarts}\n");
            unit_finding(&text).map(|finding| finding.grade)
        };
        assert_eq!(grade("active", "success", "0"), Some(Grade::Ok));
        assert_eq!(grade("active", "watchdog", "3"), Some(Grade::Note));
        assert_eq!(grade("inactive", "success", "0"), Some(Grade::Wrong));
        assert_eq!(grade("failed", "exit-code", "0"), Some(Grade::Wrong));
        let closed =
            unit_finding("ActiveState=activating\nSubState=auto-restart\nExecMainStatus=243\n").unwrap();
        assert!(closed.words.contains("sealed secrets"));
        assert_eq!(unit_finding(""), None);
    }

    #[test]
    fn memory_is_graded_by_its_available_part() {
        let text =
            |available: u64| format!("MemTotal: 500000 kB\nMemFree: 1 kB\nMemAvailable: {available} kB\n");
        assert_eq!(memory(&text(40_000)).map(|finding| finding.grade), Some(Grade::Wrong));
        assert_eq!(memory(&text(60_000)).map(|finding| finding.grade), Some(Grade::Ok));
        assert_eq!(memory("MemTotal: 5 kB\n"), None);
    }

    #[test]
    fn worn_disks_are_found_and_those_that_say_nothing_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for (disk, life, spare) in [
            ("mmcblk0", "0x01 0x02", "0x01"),
            ("mmcblk1", "0x0a 0x01", "0x01"),
            ("mmcblk2", "0x02 0x01", "0x03"),
        ] {
            let device = folder.path().join(disk).join("device");
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join("life_time"), format!("{life}\n")).unwrap();
            fs::write(device.join("pre_eol_info"), format!("{spare}\n")).unwrap();
        }
        fs::create_dir_all(folder.path().join("sda/device")).unwrap();
        let grades: Vec<_> = disks(folder.path()).into_iter().map(|finding| finding.grade).collect();
        assert_eq!(grades, [Grade::Ok, Grade::Wrong, Grade::Wrong]);
    }
}
