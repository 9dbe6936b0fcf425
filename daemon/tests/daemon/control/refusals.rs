//! What is refused, with which exit code, and that the daemon does not mind.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use gatehouse_testkit::require::Need;
use serde_json::Value;

use super::harness::{Home, encoding, encodings, tool_program};

#[test]
fn an_unreachable_daemon_is_69_with_advice() {
    let home = Home::new("");
    let (code, said) = home.fails(&["status"]);
    assert_eq!(code, 69);
    assert!(said.contains("not reachable") && said.contains("systemctl status gatehoused"), "{said}");
    let config = home.path("gatehouse.toml");
    let doctor = home.tool(&["doctor", "--config", config.to_str().unwrap()]);
    assert_eq!(doctor.status.code(), Some(69));
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(said.contains("WRONG  daemon") && said.contains("ok     settings"), "{said}");
    let output = home.tool(&["--json", "status"]);
    let fault: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(fault["error"]["code"], 69);
}

#[test]
fn a_wrong_command_line_is_2() {
    let home = Home::new("");
    for line in [
        &["nonsense"][..],
        &["person"],
        &["event", "list", "--limit", "0"],
        &["event", "list", "--since", "x"],
    ] {
        assert_eq!(home.fails(line).0, 2, "{line:?}");
    }
}

#[test]
fn a_bad_file_is_1_and_says_what_is_needed() {
    let home = Home::new("");
    let _daemon = home.start();
    let enroll =
        |file: &str| home.fails(&["person", "enroll", "--id", "a", "--name", "A", "--encodings", file]);
    let (code, said) = enroll("/nonexistent.json");
    assert_eq!(code, 1);
    assert!(said.contains("cannot read"), "{said}");
    let nan = format!("[[{}1e38]]", "1e38,".repeat(127));
    for (content, word) in [
        ("nonsense", "does not contain encodings"),
        ("[]", "1 to 32 encodings"),
        ("[[1, 2, 3]]", "128"),
        (&format!("[[{}0]]", "0,".repeat(127)), "encoding 1"),
        (&encodings(1, 33), "1 to 32 encodings"),
    ] {
        let (code, said) = enroll(&home.file("bad.json", content));
        assert_eq!(code, 1, "{content:.40}: {said}");
        assert!(said.contains(word), "{content:.40}: {said}");
    }
    let (code, _) = enroll(&home.file("huge.json", &nan));
    assert!(code == 0 || code == 1, "the gallery decides whether such a norm is judged");
    assert_eq!(home.fails(&["person", "erase", "unknown"]).0, 1);
    assert_eq!(home.fails(&["event", "show", "7"]).0, 1);
    assert_eq!(home.fails(&["event", "show", "../x"]).0, 1);
    assert_eq!(home.fails(&["media", "get", "door/e1/a.jpg"]).0, 1);
}

#[test]
fn a_name_that_belongs_to_another_id_is_refused_with_a_way_out() {
    let home = Home::new("");
    let _daemon = home.start();
    let file = home.file("a.json", &encodings(1, 1));
    home.says(&["person", "enroll", "--id", "a", "--name", "A", "--encodings", &file]);
    let (code, said) = home.fails(&["person", "enroll", "--id", "a", "--name", "Z", "--encodings", &file]);
    assert_eq!(code, 1);
    assert!(said.contains("rename"), "{said}");
}

#[test]
fn invalid_data_on_the_socket_has_no_effect() {
    let home = Home::new("");
    let _daemon = home.start();
    let talk = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(home.path("control.sock")).unwrap();
        // The daemon may hang up in the middle of too much.
        let _ = stream.write_all(bytes);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    assert!(talk(b"hello\n").contains("not valid"));
    assert!(talk(&b"[".repeat(2 << 20)).len() < 500, "too much is cut off");
    assert!(talk(b"{\"person_show\":{\"id\":\"\xff\"}}\n").contains("not valid"));
    let idle: Vec<_> = (0..15).map(|_| UnixStream::connect(home.path("control.sock")).unwrap()).collect();
    assert_eq!(home.json(&["status"])["device"], "box-1", "with {} idle connections", idle.len());
}

#[test]
fn a_user_other_than_root_or_our_group_is_77() {
    // Only root can act as another user.
    if Need::Root.is_missing(rustix::process::geteuid().is_root()) {
        return;
    }
    let home = Home::new("");
    let _daemon = home.start();
    let tool = home.path("gatehouse");
    // Not by ourselves: a child that another test starts meanwhile would hold the copy open for writing, and a program
    // that is open for writing cannot be run.
    let copied = Command::new("cp").arg(tool_program()).arg(&tool).status().unwrap();
    assert!(copied.success());
    let socket = home.path("control.sock");
    let open = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    open(tool.parent().unwrap(), 0o755);
    let as_other_user = || {
        let mut command = Command::new(&tool);
        let command = command.arg("--socket").arg(&socket).arg("status").uid(65534).gid(65534);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = as_other_user();
    assert_eq!(code, Some(77), "{said}");
    assert!(said.contains("group"), "{said}");
    open(&socket, 0o666);
    let (code, said) = as_other_user();
    assert_eq!(code, Some(77), "a socket that was opened to all users permits only our group: {said}");
    assert_eq!(home.json(&["status"])["device"], "box-1");
}

#[test]
fn an_encoding_that_is_nearer_to_another_person_is_refused_unless_forced() {
    let home = Home::new("");
    let _daemon = home.start();
    let alice = home.file("a.json", &encodings(1, 2));
    let said = home.says(&["person", "enroll", "--id", "alice", "--name", "A", "--encodings", &alice]);
    assert!(said.contains("2 encodings added"), "{said}");
    let mixed = vec![encoding(2, 0), encoding(2, 1), encoding(1, 7)];
    let mixed = home.file("b.json", &serde_json::to_string(&mixed).unwrap());
    let bert = ["person", "enroll", "--id", "bert", "--name", "B", "--encodings", &mixed];
    let (code, said) = home.fails(&bert);
    assert_eq!(code, 1);
    assert!(said.contains("encoding 3") && said.contains("alice") && said.contains("--force"), "{said}");
    assert_eq!(home.fails(&["person", "show", "bert"]).0, 1, "nothing of it was enrolled");
    let said = home.says(&[&bert[..], &["--force"]].concat());
    assert!(said.contains("3 encodings added") && said.contains("bert and alice look alike"), "{said}");
    let said = home.says(&["person", "enroll", "--id", "alice", "--name", "A", "--encodings", &alice]);
    assert!(
        said.contains("0 encodings added, 2 in total") && said.contains("2 encodings are duplicates"),
        "{said}"
    );
}
