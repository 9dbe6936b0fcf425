//! What an operator does all day.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::harness::{Home, encoding, encodings, tool_program};

#[test]
fn a_person_is_enrolled_found_renamed_and_erased() {
    // The synthetic encodings are not like those of a model, so no threshold can be derived for them.
    let home = Home::new("[gallery]\nthreshold = 0.6\n");
    let daemon = home.start();
    let alice = home.file("alice.json", &encodings(1, 5));
    let bert = home.file("bert.json", &encodings(2, 3));
    let said =
        home.says(&["person", "enroll", "--id", "a1", "--name", "Alice Example", "--encodings", &alice]);
    assert!(said.contains("5 encodings added, 5 in total"), "{said}");
    home.says(&["person", "enroll", "--id", "b2", "--name", "Bert", "--encodings", &bert]);

    let people = home.json(&["person", "list"]);
    assert_eq!(people.as_array().unwrap().len(), 2);
    let list = home.says(&["person", "list"]);
    assert!(list.starts_with("ID  NAME"), "{list}");
    assert_eq!(home.json(&["person", "show", "a1"])["samples"], 5);

    let probe = home.file("probe.json", &serde_json::to_string(&encoding(1, 99)).unwrap());
    let answer = home.json(&["identify", &probe]);
    assert_eq!(answer["faces"][0]["outcome"], "match");
    assert_eq!(answer["faces"][0]["person"], json!({"id": "a1", "name": "Alice Example"}));
    let both = home.file("both.json", &serde_json::to_string(&[encoding(2, 50), encoding(3, 0)]).unwrap());
    let answer = home.json(&["identify", &both]);
    assert_eq!(answer["faces"][0]["person"]["id"], "b2");
    assert_eq!(answer["faces"][1]["outcome"], "stranger");

    home.says(&["person", "rename", "a1", "--name", "Alice Other"]);
    assert!(home.says(&["identify", &probe]).contains("Alice Other"));

    home.says(&["person", "erase", "a1"]);
    assert_eq!(home.json(&["identify", &probe])["faces"][0]["outcome"], "stranger");
    assert_eq!(home.fails(&["person", "show", "a1"]).0, 1);
    assert_eq!(home.json(&["person", "list"]).as_array().unwrap().len(), 1);
    daemon.stop();
}

#[test]
fn an_erasure_waits_for_its_grace_period_and_can_be_cancelled() {
    let home = Home::new("[gallery]\nthreshold = 0.6\n[privacy]\ngrace_days = 30\n");
    let daemon = home.start();
    let alice = home.file("alice.json", &encodings(1, 5));
    let probe = home.file("probe.json", &serde_json::to_string(&encoding(1, 99)).unwrap());
    let outcome = || home.json(&["identify", &probe])["faces"][0]["outcome"].clone();
    home.says(&["person", "enroll", "--id", "a1", "--name", "Alice", "--encodings", &alice]);
    let ordered = home.json(&["person", "erase", "a1", "--yes"]);
    assert!(ordered["erasure_ordered"] == true && ordered["expires_at"].is_string(), "{ordered}");
    assert_eq!(outcome(), "stranger");
    assert!(home.says(&["person", "show", "a1"]).contains("erasure ordered  yes"));
    assert!(home.says(&["person", "restore", "a1"]).contains("cancelled"));
    assert_eq!(outcome(), "match");
    assert_eq!(home.fails(&["person", "restore", "a1"]).0, 1);
    assert!(home.says(&["person", "erase", "a1", "--now", "--yes"]).contains("is erased, with 5 encodings"));
    assert_eq!(home.fails(&["person", "show", "a1"]).0, 1);
    daemon.stop();
}

#[test]
fn a_consent_is_recorded_a_suspended_person_is_a_stranger_and_the_end_erases() {
    let home = Home::new("[gallery]\nthreshold = 0.6\n[privacy]\nconsent = \"required\"\n");
    let daemon = home.start();
    let alice = home.file("alice.json", &encodings(1, 5));
    let probe = home.file("probe.json", &serde_json::to_string(&encoding(1, 99)).unwrap());
    let enroll = ["person", "enroll", "--id", "a1", "--name", "Alice", "--encodings", &alice];
    let (code, said) = home.fails(&enroll);
    assert!(code == 1 && said.contains("privacy.consent") && said.contains("--consent REF"), "{said}");
    let with = |more: &[&str]| [&enroll[..], more].concat().iter().map(|s| s.to_string()).collect::<Vec<_>>();
    let (code, said) = home.fails(&["person", "enroll", "--until", "soon", "--id", "x", "--name", "y"]);
    assert!(code == 2 && said.contains("2027-01-31"), "{said}");
    let past = with(&["--consent", "form-17", "--until", "2020-01-01"]);
    let (code, said) = home.fails(&past.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(code == 1 && said.contains("past"), "{said}");
    let year = with(&["--consent", "form-17", "--until", "2199-01-31"]);
    home.says(&year.iter().map(String::as_str).collect::<Vec<_>>());
    let list = home.says(&["person", "list"]);
    assert!(list.contains("CONSENT") && list.contains("form-17") && list.contains("2199-02-01"), "{list}");
    let listed = home.json(&["person", "list"]);
    assert_eq!(listed[0]["consent"], "form-17");
    assert_eq!(listed[0]["expires_at"], "2199-02-01T00:00:00.000000Z");

    home.says(&["person", "suspend", "a1", "--reason", "objection"]);
    assert_eq!(home.json(&["identify", &probe])["faces"][0]["outcome"], "stranger");
    assert_eq!(home.json(&["person", "show", "a1"])["suspension_reason"], "objection");
    daemon.stop();
    let daemon = home.start();
    assert_eq!(home.json(&["identify", &probe])["faces"][0]["outcome"], "stranger");
    home.says(&["person", "resume", "a1"]);
    assert_eq!(home.json(&["identify", &probe])["faces"][0]["outcome"], "match");
    assert_eq!(home.fails(&["person", "resume", "a1"]).0, 1);
    daemon.stop();
    // Neither reference nor reason is readable on the disk or in the log.
    for path in home.state_files() {
        let bytes = std::fs::read(&path).unwrap();
        for secret in [b"form-17".as_slice(), b"objection"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{}", path.display());
        }
    }
    let log = home.log();
    assert!(!log.contains("form-17") && !log.contains("objection"), "{log}");
    let _ = probe;
}

#[test]
fn templates_get_a_new_key_and_all_people_are_known_before_and_after_a_restart() {
    let home = Home::new("");
    let daemon = home.start();
    let alice = home.file("alice.json", &encodings(1, 5));
    home.says(&["person", "enroll", "--id", "a1", "--name", "Alice", "--encodings", &alice]);
    let probe = home.file("probe.json", &serde_json::to_string(&encoding(1, 99)).unwrap());
    let before = home.json(&["key", "status"]);
    assert_eq!(before["template_generation"], 1);
    let kinds = before["kinds"].as_array().unwrap();
    assert!(kinds.contains(&json!({"kind": "template", "keys": 1})), "{kinds:?}");
    assert!(kinds.contains(&json!({"kind": "person", "keys": 1})), "{kinds:?}");
    assert_eq!(home.fails(&["key", "rotate"]).0, 2, "what is to be renewed must be said");

    let said = home.says(&["key", "rotate", "--templates"]);
    assert!(
        said.contains("5 templates of 1 person converted to generation 2; the old key is destroyed"),
        "{said}"
    );
    assert_eq!(home.json(&["identify", &probe])["faces"][0]["person"]["id"], "a1");
    daemon.stop();
    let _daemon = home.start();
    assert_eq!(home.json(&["identify", &probe])["faces"][0]["person"]["id"], "a1");
    let said = home.says(&["key", "status"]);
    assert!(said.contains("generation  2, since") && said.contains("none"), "{said}");
}

#[test]
fn encodings_come_also_from_standard_input() {
    let home = Home::new("");
    let _daemon = home.start();
    let mut tool = Command::new(tool_program())
        .arg("--socket")
        .arg(home.path("control.sock"))
        .args(["person", "enroll", "--id", "a", "--name", "A", "--encodings", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    tool.stdin.take().unwrap().write_all(encodings(1, 1).as_bytes()).unwrap();
    assert!(tool.wait().unwrap().success());
    assert_eq!(home.json(&["person", "show", "a"])["name"], "A");
}

#[test]
fn every_question_has_an_answer_for_people_and_for_programs() {
    let home = Home::new("");
    let _daemon = home.start();
    let config = home.path("gatehouse.toml");
    let config = config.to_str().unwrap();
    for question in [
        &["status"][..],
        &["person", "list"],
        &["event", "list"],
        &["event", "list", "--camera", "door", "--since", "2h", "--limit", "3"],
        &["media", "list"],
        &["sync", "status"],
        &["sync", "now"],
        &["ledger"],
        &["key", "status"],
        &["config", "show"],
        &["completions", "bash"],
        &["completions", "fish"],
    ] {
        assert!(!home.says(question).trim().is_empty(), "{question:?}");
        home.json(question);
    }
    let misspelt = home.tool(&["event", "list", "--person", "a"]);
    assert_eq!(misspelt.status.code(), Some(1), "an unknown id is an error, not an empty list");
    let status = home.json(&["status"]);
    assert_eq!(status["device"], "box-1");
    assert_eq!(status["environment"], "dev");
    assert_eq!(status["broker"]["connected"], false);
    assert_eq!(status["people"], 0);
    assert!(status["sinks"].as_array().unwrap().iter().all(|sink| sink["configured"] == false));
    let ledger = home.json(&["ledger"]);
    assert_eq!(ledger["holds"], true);
    assert_eq!(ledger["events"]["received"], 0);
    let settings = home.json(&["config", "show"]);
    let id = settings.as_array().unwrap().iter().find(|line| line["key"] == "device.id").unwrap();
    assert_eq!(id["value"], "box-1");
    assert_eq!(id["source"], format!("{config}:2"));
}

#[test]
fn the_doctor_names_the_missing_broker_and_nothing_else() {
    let home = Home::new("");
    let _daemon = home.start();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let findings = loop {
        let output = home.tool(&["--json", "doctor"]);
        let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let broker = findings.iter().find(|finding| finding["what"] == "broker").unwrap();
        if broker["grade"] == "wrong" {
            assert_eq!(output.status.code(), Some(1));
            break findings;
        }
        assert!(std::time::Instant::now() < end, "{broker}");
    };
    let wrong: Vec<_> = findings.iter().filter(|finding| finding["grade"] == "wrong").collect();
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    for what in [
        "settings",
        "state directory",
        "free space",
        "root key",
        "clock",
        "journal",
        "ledger",
        "answers",
        "version",
    ] {
        assert!(findings.iter().any(|finding| finding["what"] == what), "{what}");
    }
    let text = String::from_utf8(home.tool(&["doctor"]).stdout).unwrap();
    assert!(text.contains("WRONG  broker") && text.contains("->"), "{text}");
    assert!(text.lines().count() < 25, "one screen: {text}");
}

#[test]
fn nothing_in_the_state_directory_shows_who_is_enrolled() {
    let home = Home::new("");
    let daemon = home.start();
    let file = home.file("x.json", &encodings(7, 4));
    home.says(&["person", "enroll", "--id", "person-id-xyzzy", "--name", "Name Xyzzy", "--encodings", &file]);
    home.says(&["person", "rename", "person-id-xyzzy", "--name", "Plugh Name"]);
    daemon.stop();
    let encoding: Vec<u8> = encoding(7, 0).iter().flat_map(|number| number.to_le_bytes()).collect();
    let secrets: [&[u8]; 4] = [b"person-id-xyzzy", b"Name Xyzzy", b"Plugh Name", &encoding[..16]];
    let files = home.state_files();
    assert!(files.len() > 2);
    for path in files {
        let bytes = std::fs::read(&path).unwrap();
        for secret in secrets {
            let shown = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!shown, "{} holds {:?}", path.display(), String::from_utf8_lossy(secret));
        }
    }
    let log = home.log();
    assert!(!log.contains("yzzy") && !log.contains("Plugh"), "{log}");
}

#[test]
fn a_report_shows_who_looks_alike_and_who_is_weak_and_draws_the_distances() {
    let home = Home::new("[gallery]\nthreshold = 0.42\n");
    let _daemon = home.start();
    let said = home.says(&["gallery", "report"]);
    assert!(said.contains("not known with fewer than two people"), "{said}");
    let enroll = |id: &str, content: &str| {
        let file = home.file("enroll.json", content);
        home.says(&["person", "enroll", "--force", "--id", id, "--name", "N", "--encodings", &file]);
    };
    enroll("anna", &encodings(1, 3));
    enroll("bert", &encodings(2, 3));
    enroll("carl", &encodings(3, 1));
    enroll("double", &serde_json::to_string(&[encoding(1, 9)]).unwrap());
    let svg = home.path("report.svg");
    let report = home.json(&["gallery", "report", "--svg", svg.to_str().unwrap()]);
    assert!(report["people"] == 4 && report["samples"] == 8 && report["measured"] == 8, "{report}");
    assert!(report["fnir"]["rate"].is_number() && report["fpir"]["high"].is_number(), "{report}");
    assert!(report["alike_pairs"] == 1, "{report}");
    let mut pair: Vec<&str> =
        report["alike"][0]["ids"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    pair.sort_unstable();
    assert_eq!(pair, ["anna", "double"]);
    let weak = report["weak"].as_array().unwrap();
    assert!(weak.iter().any(|line| line["id"] == "carl" && line["samples"] == 1), "{report}");
    assert!(std::fs::read_to_string(svg).unwrap().starts_with("<svg"));
}
