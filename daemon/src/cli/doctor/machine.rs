//! What the tool sees of the machine by itself, also while the daemon is down: the unit, the clock's source, memory,
//! and how worn the disk is. The daemon's sandbox hides most of it from the daemon.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::control::answers::Finding;
use crate::tool::run_within;

/// The unit of the daemon.
const UNIT: &str = "gatehoused";
/// How long systemd may take to say something; one that hangs must not hold up the screen.
const PATIENCE: Duration = Duration::from_secs(5);
/// What systemd reports as the daemon's exit code where it could not open a sealed secret for it.
const CREDENTIALS_CLOSED: &str = "243";
/// Share of memory, in percent, below which other programs and the daemon begin to get into each other's way.
const MEMORY_SHORT_PERCENT: u64 = 10;
/// Steps of 10 % of its life from which on an eMMC should be replaced; its own scale ends at 11.
const WORN_STEPS: u8 = 9;

/// Everything about the machine, in the order an installer would look.
pub(super) fn findings() -> Vec<Finding> {
    let mut findings: Vec<Finding> = unit().into_iter().chain(clock_source()).collect();
    findings.extend(fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory(&text)));
    findings.extend(disks(Path::new("/sys/block")));
    findings
}

/// What systemd says of the daemon; nothing where there is no systemd.
fn unit() -> Option<Finding> {
    let properties = ["ActiveState", "SubState", "Result", "NRestarts", "ExecMainStatus"]
        .map(|name| format!("--property={name}"));
    let output =
        run_within(PATIENCE, Command::new("systemctl").arg("show").arg(UNIT).args(properties), b"").ok()?;
    unit_told(&String::from_utf8_lossy(&output.stdout))
}

fn unit_told(properties: &str) -> Option<Finding> {
    let value = |name: &str| {
        properties.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
    };
    let words = format!("{UNIT} is {} ({})", value("ActiveState"), value("SubState"));
    let restarts: u64 = value("NRestarts").parse().unwrap_or(0);
    Some(match (value("ActiveState"), value("Result")) {
        ("", _) => return None,
        (state, _) if state != "active" && value("ExecMainStatus") == CREDENTIALS_CLOSED => Finding::wrong(
            "unit",
            format!("{words}: the sealed secrets do not open"),
            "switch the machine off and on: a TPM may be away for a while; after a reset of the TPM or on another board hand \
             over copies: `gatehouse setup --force-new-root-key --root-key-file FILE`; without a copy a new key is the last \
             resort, and gives up all that is stored",
        ),
        (_, "exec-condition") => {
            Finding::wrong("unit", words, format!("the settings have a fault; then: systemctl start {UNIT}"))
        }
        ("active", _) if restarts > 0 => Finding::note(
            "unit",
            format!("{words}, restarted {restarts} times"),
            format!("journalctl -u {UNIT} says why"),
        ),
        ("active", _) => Finding::ok("unit", words),
        ("inactive", "success") => Finding::wrong("unit", words, format!("start it: systemctl start {UNIT}")),
        (_, result) => Finding::wrong(
            "unit",
            format!("{words}, last result {result}"),
            format!("journalctl -u {UNIT} -n 30 says why"),
        ),
    })
}

/// Whether something keeps the clock right; nothing where nobody tells.
fn clock_source() -> Option<Finding> {
    let arguments = ["show", "--property=NTPSynchronized", "--value"];
    let output = run_within(PATIENCE, Command::new("timedatectl").args(arguments), b"").ok()?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => Some(Finding::ok("clock source", "a time server keeps the clock right")),
        "no" => Some(Finding::note(
            "clock source",
            "no time server keeps the clock right: cameras that send a time may seem late, certificates not valid",
            "timedatectl set-ntp true, and let the network reach a time server (UDP 123)",
        )),
        _ => None,
    }
}

fn memory(meminfo: &str) -> Option<Finding> {
    let kib = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let (total, available) = (kib("MemTotal")?, kib("MemAvailable")?);
    let words = format!("{} of {} MiB are free to use", available / 1024, total / 1024);
    Some(match available.saturating_mul(100) < total.saturating_mul(MEMORY_SHORT_PERCENT) {
        true => Finding::wrong("memory", words, "another program takes it: look with top"),
        false => Finding::ok("memory", words),
    })
}

/// One line for each disk that tells about its wear; memory cards mostly do not.
fn disks(block: &Path) -> Vec<Finding> {
    let mut names: Vec<_> = fs::read_dir(block).into_iter().flatten().flatten().collect();
    names.sort_by_key(fs::DirEntry::file_name);
    names.iter().filter_map(|disk| wear(&disk.file_name().to_string_lossy(), &disk.path())).collect()
}

/// Wear of an eMMC: two areas, each in steps of 10 % of the life its maker gives it, and the spare blocks left.
fn wear(name: &str, disk: &Path) -> Option<Finding> {
    let read = |file: &str| fs::read_to_string(disk.join("device").join(file)).ok();
    let hex = |text: &str| u8::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let steps = read("life_time")?.split_whitespace().filter_map(hex).max()?;
    let spare = read("pre_eol_info").and_then(|text| hex(text.trim())).unwrap_or(0);
    if steps == 0 && spare == 0 {
        return None;
    }
    let words = match steps {
        0 => format!("{name} does not tell how worn it is"),
        11.. => format!("{name} has outlived the life its maker gives it"),
        steps => format!("{name} has used up to {} % of its life", u32::from(steps) * 10),
    };
    Some(match (steps, spare) {
        (_, 3) => {
            Finding::wrong("disk wear", format!("{words}; its spare blocks are used up"), "replace it now")
        }
        (steps, _) if steps > WORN_STEPS => {
            Finding::wrong("disk wear", words, "replace it; what is delivered centrally is safe")
        }
        (_, 2) => Finding::note(
            "disk wear",
            format!("{words}; 80 % of its spare blocks are used"),
            "plan a new one",
        ),
        (WORN_STEPS, _) => Finding::note("disk wear", words, "plan a new one"),
        _ => Finding::ok("disk wear", words),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::answers::Grade;

    #[test]
    fn a_unit_that_failed_or_was_never_started_is_wrong() {
        let grade = |active: &str, result: &str, restarts: &str| {
            let text = format!("ActiveState={active}\nSubState=x\nResult={result}\nNRestarts={restarts}\n");
            unit_told(&text).map(|finding| finding.grade)
        };
        assert_eq!(grade("active", "success", "0"), Some(Grade::Ok));
        assert_eq!(grade("active", "watchdog", "3"), Some(Grade::Note));
        assert_eq!(grade("inactive", "success", "0"), Some(Grade::Wrong));
        assert_eq!(grade("failed", "exit-code", "0"), Some(Grade::Wrong));
        let closed =
            unit_told("ActiveState=activating\nSubState=auto-restart\nExecMainStatus=243\n").unwrap();
        assert!(closed.words.contains("sealed secrets"));
        assert_eq!(unit_told(""), None);
    }

    #[test]
    fn memory_is_judged_by_what_is_available() {
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
