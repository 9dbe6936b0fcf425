//! Layers, faults and the shipped file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::*;

const LEAST: &str = "[device]\nid = \"house-1\"\nenvironment = \"dev\"\n";

fn fault_lines(text: &str) -> Vec<String> {
    Config::from_text(text).unwrap_err().iter().map(ToString::to_string).collect()
}

fn faults_of(rest: &str) -> Vec<String> {
    fault_lines(&format!("{LEAST}{rest}"))
}

fn variable(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn a_device_and_its_environment_are_all_that_is_needed() {
    let config = Config::from_text(LEAST).unwrap();
    assert_eq!(config.mqtt_client_id(), "gatehouse-house-1");
    assert_eq!(config.mqtt.endpoint(), ("127.0.0.1".to_owned(), 1883, false));
    assert!(config.central.objects.is_none() && config.central.rows.is_none());
    assert_eq!(config.source("mqtt.url"), Some(&Source::Default));
    assert_eq!(config.source("device.id").unwrap().to_string(), "gatehouse.toml:2");
    assert_eq!(config.source("mqtt.ulr"), None);
}

#[test]
fn every_fault_is_reported_at_once_with_file_line_and_key() {
    let text = "[device]\nid = \"no spaces\"\n[mqtt]\nulr = \"x\"\nmax_payload_bytes = \"many\"\n[sync]\nretry_min = 3\n";
    let lines = fault_lines(text);
    assert_eq!(lines.len(), 5, "{lines:#?}");
    assert!(lines[0].starts_with("gatehouse.toml: device.environment: is missing: say which"));
    assert!(lines[1].starts_with("gatehouse.toml:2: device.id: must be 1 to 48"));
    assert_eq!(lines[2], "gatehouse.toml:4: mqtt.ulr: is not a key: did you mean mqtt.url?");
    assert!(
        lines[3].starts_with("gatehouse.toml:5: mqtt.max_payload_bytes: must be a whole number of bytes")
    );
    assert_eq!(lines[4], "gatehouse.toml:7: sync.retry_min: is a whole number: write a text in quotes");
}

#[test]
fn broken_toml_is_reported_with_its_line_and_hides_no_other_fault() {
    let lines =
        fault_lines("[device]\nid = \n[mqtt]\nurl = \"http://x\"\nusername = \"a\nkey_file = \"hunter2\"\n");
    let text = lines.join("\n");
    assert!(text.contains("gatehouse.toml:2: is not valid TOML"), "{text}");
    assert!(text.contains("gatehouse.toml:4: mqtt.url: begins with http://"), "{text}");
    assert!(!text.contains("is missing"), "a key may be in what could not be read: {text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn layers_lie_over_each_other_key_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("gatehouse.toml");
    fs::create_dir(folder.path().join("conf.d")).unwrap();
    fs::write(
        &main,
        format!("{LEAST}[mqtt]\nurl = \"mqtt://a\"\nusername = \"main\"\n[gallery]\nthreshold = 0.5"),
    )
    .unwrap();
    fs::write(folder.path().join("conf.d/20.toml"), "[mqtt]\nurl = \"mqtt://c\"").unwrap();
    fs::write(folder.path().join("conf.d/10.toml"), "mqtt.url = \"mqtt://b\"\nsync.retry_max = \"10m\"")
        .unwrap();
    fs::write(folder.path().join("conf.d/30.toml.bak"), "broken").unwrap();
    let env = [
        variable("GATEHOUSE__GALLERY__THRESHOLD", "0.3"),
        variable("GATEHOUSE__GALLERY__CAMERAS__Back__Yard__THRESHOLD", "0.25"),
        variable("GATEHOUSE__SYNC__BATCH_EVENTS", "2_000"),
        variable("GATEHOUSE__GALLERY__LABEL_STRANGERS", "true"),
        variable("GATEHOUSE_OTHER", "ignored"),
    ];
    let config = Config::load(&main, &env).unwrap();
    assert_eq!((config.mqtt.url.as_str(), config.mqtt.username.as_deref()), ("mqtt://c", Some("main")));
    assert_eq!((config.gallery.threshold, config.sync.batch_events), (Some(0.3), 2000));
    assert!(config.gallery.label_strangers);
    assert_eq!(config.gallery.cameras["Back__Yard"].threshold, 0.25);
    assert_eq!(config.sync.retry_max.as_secs(), 600);
    assert!(config.source("mqtt.url").unwrap().to_string().ends_with("conf.d/20.toml:2"));
    let threshold = config.source("gallery.threshold").unwrap();
    assert_eq!(threshold.to_string(), "environment GATEHOUSE__GALLERY__THRESHOLD");
}

#[test]
fn unknown_variables_and_missing_files_are_faults() {
    let env = [variable("GATEHOUSE__MQTT__PASSWORD", "hunter2")];
    let faults = Config::load(Path::new("/nonexistent/gatehouse.toml"), &env).unwrap_err();
    let text = faults.to_string();
    assert!(text.contains("/nonexistent/gatehouse.toml: cannot be read"), "{text}");
    assert!(
        text.contains("environment: mqtt.password: is not a key: did you mean mqtt.password_file?"),
        "{text}"
    );
    assert!(text.contains("GATEHOUSE__MQTT__PASSWORD") && !text.contains("hunter2"), "{text}");
}

#[test]
fn keys_that_need_each_other_say_so() {
    let lines = faults_of(
        "[mqtt]\ncert_file = \"/c\"\npassword_file = \"/p\"\n[sync]\nretry_min = \"20m\"\n[central.rows]\npassword_file = \"/p\"\nkey_file = \"/k\"",
    );
    let text = lines.join("\n");
    for part in [
        ":5: mqtt.cert_file: needs mqtt.key_file",
        ":6: mqtt.password_file: needs mqtt.username",
        "mqtt.url: is without TLS",
        "sync.retry_max: must not be shorter",
        "central.rows.url: is missing",
        "central.rows.key_file: needs central.rows.cert_file",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn an_optional_section_is_present_when_it_is_opened() {
    assert!(faults_of("[central.objects]\n")[0].contains("central.objects.endpoint: is missing"));
    let config =
        Config::from_text(&format!("{LEAST}[central.objects]\nendpoint = \"http://[::1]:9000\"\n")).unwrap();
    assert_eq!(config.bucket().as_deref(), Some("gatehouse-dev"));
    assert_eq!(config.central.objects.unwrap().endpoint(), ("::1".to_owned(), 9000, false));
}

#[test]
fn sections_that_do_not_exist_and_keys_in_their_place_are_faults() {
    let text = faults_of("central = 5\n[http]\nlisten = \"x\"\n[gallery.cameras.\"a.b\"]\nthreshold = 1\n")
        .join("\n");
    assert!(text.contains("device.central: is not a key"), "{text}");
    assert!(text.contains(":5: http: is not a key"), "{text}");
    assert!(!text.contains("http.listen"), "one fault for one section: {text}");
    assert!(text.contains("is no camera name"), "{text}");
    assert!(fault_lines("mqtt = 5")[2].contains("mqtt: is a section, not a key"));
}

#[test]
fn values_out_of_range_are_faults() {
    for bad in [
        "gallery.metric = \"manhattan\"",
        "gallery.dimensions = 1",
        "gallery.threshold = nan",
        "gallery.threshold = -0.1",
        "gallery.target_fpir = 0",
        "gallery.target_fpir = 0.5",
        "gallery.metric = \"cosine\"\ngallery.threshold = 3",
        "state.directory = \"relative\"",
        "sync.retry_min = \"1ms\"",
        "mqtt.topic_root = \"a/#\"",
        "mqtt.topic_root = \"\"",
        "central.rows.url = \"postgres://db/x\"",
        "mqtt.url = true",
        "gallery.label_strangers = \"yes\"",
        "gallery.label_strangers = 1",
        "central.rows.url = \"postgres://u:p@db/x\"",
        "central.objects = {endpoint = \"http://h\", bucket = \"No\"}",
        "media.quota_bytes = 99999999999999999999",
        "media.thumbnails = 320",
        "sync.media_hours = \"22-6\"",
        "media.thumbnails = [8]",
        "media.thumbnails = [320, \"x\"]",
        "media.thumbnails = [16, 17, 18, 19, 20]",
        "device.site = \"\\n\"",
        "sources.max_faces = 0",
        "mqtt.username = \"\"",
    ] {
        let text = format!("{bad}\n{LEAST}");
        let text = if bad.starts_with("device") {
            format!("device.environment = \"dev\"\ndevice.id = \"a\"\n{bad}")
        } else {
            text
        };
        assert_eq!(Config::from_text(&text).unwrap_err().iter().count(), 1, "{bad}");
    }
}

#[test]
fn a_list_is_read_from_file_and_environment() {
    let file = |value: &str| Config::from_text(&format!("media.thumbnails = {value}\n{LEAST}")).unwrap();
    assert_eq!(file("[]").media.thumbnails, [0; 0]);
    assert_eq!(file("[160, 640]").media.thumbnails, [160, 640]);
    let shown = file("[160, 640]").entries().find(|entry| entry.key == "media.thumbnails").cloned().unwrap();
    assert_eq!(shown.value.unwrap().to_string(), "[160, 640]");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gatehouse.toml");
    fs::write(&path, LEAST).unwrap();
    for (text, expected) in [("160, 640", &[160, 640][..]), ("[64]", &[64]), ("", &[])] {
        let read = Config::load(&path, &[variable("GATEHOUSE__MEDIA__THUMBNAILS", text)]).unwrap();
        assert_eq!(read.media.thumbnails, expected);
    }
}

/// The shipped file with the mark removed from every line that holds a key or a section.
fn uncommented() -> String {
    let is_key = |line: &str| {
        line.starts_with("#[")
            || line.split_once(" = ").is_some_and(|(key, _)| !key.contains("# ") && key.starts_with('#'))
    };
    EDGE_TOML.lines().map(|line| if is_key(line) { &line[1..] } else { line }).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_file_says_what_is_missing_and_nothing_else() {
    let lines = fault_lines(EDGE_TOML);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("device.") && line.contains("is missing")), "{lines:#?}");
}

#[test]
fn the_shipped_file_holds_every_key_and_the_defaults_in_code() {
    let opened = uncommented().replace("mqtt://127", "mqtts://127");
    let shipped = Config::from_text(&opened).unwrap();
    // Both central sections opened with what they need, everything else by default.
    let central = "central.objects.endpoint = \"http://h\"\ncentral.rows.url = \"postgres://u@h/d\"\n";
    let bare = Config::from_text(&format!("{central}{LEAST}")).unwrap();
    let keys = |config: &Config| config.entries().map(|entry| entry.key.clone()).collect::<BTreeSet<_>>();
    let mut expected = keys(&bare);
    expected.insert("gallery.cameras.front-door.threshold".to_owned());
    assert_eq!(keys(&shipped), expected, "keys of edge.toml and of the code");
    let written: BTreeMap<_, _> = shipped.entries().map(|entry| (entry.key.as_str(), entry)).collect();
    for entry in bare.entries().filter(|entry| entry.source == Source::Default && entry.key != "mqtt.url") {
        if let Some(value) = &entry.value {
            assert_eq!(written[entry.key.as_str()].value.as_ref(), Some(value), "{}", entry.key);
        }
    }
    assert!(EDGE_TOML.contains(&format!("#url = \"{}\"", bare.mqtt.url)));
}

#[test]
fn the_shipped_file_explains_every_key() {
    let mut comment = String::new();
    let mut after_comment = false;
    let mut explained = 0;
    for line in EDGE_TOML.lines() {
        if line.starts_with("# ") {
            if !after_comment {
                comment.clear();
            }
            comment.push_str(line);
            after_comment = true;
        } else if line.starts_with('#') && line.contains(" = ") {
            assert!(comment.contains("efault"), "no word about the default above {line}");
            explained += 1;
            after_comment = false;
        } else {
            after_comment = false;
        }
    }
    let shipped = Config::from_text(&uncommented().replace("mqtt://127", "mqtts://127")).unwrap();
    let written = shipped.entries().filter(|entry| entry.source != Source::Default).count();
    assert_eq!(explained, written, "explained keys, and all keys of the file");
}
