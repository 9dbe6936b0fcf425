//! Start, stop, restart, and the notifications to systemd.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::harness::{Home, encodings};

#[test]
fn systemd_receives_ready_then_the_watchdog_then_stopping() {
    let home = Home::new("");
    let daemon = home.start();
    assert!(home.was_notified("WATCHDOG=1"));
    assert!(home.was_notified("WATCHDOG=1"), "and again");
    daemon.signal(Signal::TERM);
    assert!(home.was_notified("STOPPING=1"));
    assert_eq!(daemon.ended().code(), Some(0), "log: {}", home.log());
    assert!(!home.path("control.sock").exists(), "its socket is gone");
}

#[test]
fn people_survive_a_stop_and_a_kill() {
    let home = Home::new("");
    let daemon = home.start();
    let file = home.file("a.json", &encodings(1, 2));
    home.says(&["person", "enroll", "--id", "a", "--name", "A", "--encodings", &file]);
    daemon.stop();
    let daemon = home.start();
    assert_eq!(home.json(&["person", "show", "a"])["samples"], 2);
    home.says(&["person", "rename", "a", "--name", "B"]);
    daemon.signal(Signal::KILL);
    daemon.ended();
    assert!(home.path("control.sock").exists(), "a killed daemon leaves its socket");
    let daemon = home.start();
    assert_eq!(home.json(&["person", "show", "a"])["name"], "B");
    assert_eq!(home.json(&["ledger"])["holds"], true);
    daemon.stop();
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused_and_the_first_goes_on() {
    let home = Home::new("");
    let daemon = home.start();
    let second = home.gatehoused().output().unwrap();
    assert_eq!(second.status.code(), Some(75));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another daemon runs on"), "{said}");
    assert_eq!(home.json(&["status"])["device"], "box-1");
    daemon.stop();
}

#[test]
fn socket_and_root_key_are_closed_to_others() {
    let home = Home::new("");
    let _daemon = home.start();
    let mode = |name: &str| std::fs::metadata(home.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("control.sock"), 0o660);
    assert_eq!(mode("state"), 0o700);
    assert_eq!(mode("state/root.key"), 0o600);
    for path in home.state_files() {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
}

#[test]
fn check_config_prints_every_fault_and_ends_with_78() {
    let home = Home::new("");
    let good = home.gatehoused().arg("check-config").output().unwrap();
    assert_eq!(good.status.code(), Some(0));
    home.configure("dev", "[gallery]\nthreshhold = 1\n[media]\nquota_bytes = \"x\"\n");
    let bad = home.gatehoused().arg("check-config").output().unwrap();
    assert_eq!(bad.status.code(), Some(78));
    let said = String::from_utf8(bad.stdout).unwrap();
    assert!(said.contains("gallery.threshhold") && said.contains("media.quota_bytes"), "{said}");
    assert!(said.contains("gatehouse.toml:11"), "{said}");
    assert_eq!(home.gatehoused().output().unwrap().status.code(), Some(78), "nor does it start");
}

#[test]
fn outside_of_dev_nothing_starts_without_a_root_key_and_the_advice_says_how_to_make_one() {
    let home = Home::new("");
    home.configure("prod", "");
    let output = home.gatehoused().output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("`gatehouse setup` creates one"), "{said}");
    let credentials = home.path("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("gatehouse.root-key"), [9; 32]).unwrap();
    let mut daemon =
        home.gatehoused().env("CREDENTIALS_DIRECTORY", &credentials).stderr(Stdio::null()).spawn().unwrap();
    assert!(home.was_notified("READY=1"));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    std::fs::write(credentials.join("gatehouse.root-key"), [8; 32]).unwrap();
    let wrong = home.gatehoused().env("CREDENTIALS_DIRECTORY", &credentials).output().unwrap();
    assert_eq!(wrong.status.code(), Some(78));
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(said.contains("root key"), "{said}");
}

#[test]
fn a_reload_applies_thresholds_and_says_what_needs_a_restart() {
    // The synthetic encodings are not like those of a model, so no threshold can be derived for them.
    let home = Home::new("[gallery]\nthreshold = 0.6\n");
    let daemon = home.start();
    let file = home.file("a.json", &encodings(1, 2));
    home.says(&["person", "enroll", "--id", "a", "--name", "A", "--encodings", &file]);
    let probe = home.file("p.json", &encodings(1, 9));
    assert_eq!(home.json(&["identify", &probe])["faces"][8]["outcome"], "match");

    home.configure("dev", "[gallery]\nthreshold = 0.0001\n[media]\nquota_bytes = 123456789\n");
    let done = home.json(&["config", "reload"]);
    assert_eq!(done["applied"], serde_json::json!(["gallery.threshold"]));
    assert_eq!(done["at_restart"], serde_json::json!(["media.quota_bytes"]));
    assert_eq!(home.json(&["identify", &probe])["faces"][8]["outcome"], "stranger");
    assert!(home.says(&["config", "show"]).contains("changed, needs a restart"));

    home.configure("dev", "");
    daemon.signal(Signal::HUP);
    let end = Instant::now() + Duration::from_secs(20);
    while home.json(&["identify", &probe])["faces"][8]["outcome"] != "match" {
        assert!(Instant::now() < end, "SIGHUP had no effect: {}", home.log());
    }
    home.configure("dev", "[gallery]\nthreshold = \"high\"\n");
    assert_eq!(home.fails(&["config", "reload"]).0, 1);
    assert_eq!(
        home.json(&["identify", &probe])["faces"][8]["outcome"],
        "match",
        "a faulty file changes nothing"
    );
    daemon.stop();
}
