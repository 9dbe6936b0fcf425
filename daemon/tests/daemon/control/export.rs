//! The export of a person: complete, and without any data of other people.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatehouse_model::sha256;
use gatehouse_testkit::broker::Broker;
use gatehouse_testkit::camera::{Address, Camera};
use serde_json::{Value, json};

use super::harness::{Home, encoding, encodings};
use super::visits::until;

const TEST_TIMEOUT: Duration = Duration::from_secs(30);
/// More visits than one page of the export has.
const VISITS: u64 = 230;
const OTHERS: usize = 200;

fn name_of_other(nth: usize) -> String {
    format!("Resident Quux{nth:03}")
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(all_files(&path)) } else { files.push(path) }
    }
    files
}

/// Enrolls Anna and 200 others. The first of the others can be recognized.
fn enroll_all(home: &Home) {
    let file = home.file("a.json", &encodings(1, 3));
    let consent = ["--consent", "form-17", "--until", "2199-01-31"];
    let anna = ["person", "enroll", "--id", "anna", "--name", "Anna Berg", "--encodings", &file];
    home.says(&[&anna[..], &consent].concat());
    for nth in 0..OTHERS {
        let (id, name) = (format!("other-{nth:03}"), name_of_other(nth));
        let file = home.file("b.json", &encodings(10 + nth as u64, 1));
        home.says(&["person", "enroll", "--force", "--id", &id, "--name", &name, "--encodings", &file]);
    }
}

async fn visit(camera: &Camera, id: &str, faces: Value, attributes: Value) {
    let event = json!({"id": id, "kind": "face", "faces": faces, "media": ["face.jpg"],
        "attributes": attributes});
    camera.publish("gatehouse/door/event", event.to_string(), false, TEST_TIMEOUT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_complete_and_names_no_other_person() {
    let broker = Broker::start().unwrap();
    let camera = Camera::connect("door", &Address::local(broker.port()));
    let home = Home::new("[gallery]\nthreshold = 0.6\n[sources]\nevents_per_second = 1000\nburst = 1000\n");
    let _daemon = home.start_with(&[("GATEHOUSE__MQTT__URL", &broker.url())]);
    enroll_all(&home);
    until("a connection", || home.json(&["status"])["broker"]["connected"] == true);
    let (anna, other) = (json!({"encoding": encoding(1, 77)}), json!({"encoding": encoding(10, 0)}));
    let mut pictures = BTreeMap::new();
    for id in ["alone", "named", "both", "other"] {
        let picture = format!("picture of {id}").repeat(1000).into_bytes();
        let topic = format!("gatehouse/door/media/{id}/face.jpg");
        camera.publish(&topic, picture.clone(), false, TEST_TIMEOUT).await.unwrap();
        pictures.insert(id, picture);
    }
    visit(&camera, "alone", json!([anna]), json!({"zone": "porch"})).await;
    visit(&camera, "named", json!([anna]), json!({"sub_label": name_of_other(7).to_uppercase()})).await;
    visit(&camera, "both", json!([anna, other]), json!({"zone": "garden"})).await;
    visit(&camera, "other", json!([other]), json!({})).await;
    for nth in 4..VISITS {
        visit(&camera, &format!("v{nth}"), json!([anna]), json!({})).await;
    }
    until("the visits", || home.json(&["ledger"])["events"]["stored"] == VISITS);
    until("the pictures", || home.json(&["ledger"])["files"]["stored"] == 4);
    let both = home.json(&["event", "show", "door/both"]);
    assert_eq!(both["faces"][1]["person"]["id"], "other-000", "the other one was recognized: {both}");

    let target = home.path("export");
    let to = target.to_str().unwrap();
    let said = home.says(&["person", "export", "anna", "--to", to]);
    assert!(said.contains("229 visits, 3 files") && said.contains("may show other people"), "{said}");

    let files = all_files(&target);
    for file in &files {
        let content = std::fs::read(file).unwrap();
        let text = String::from_utf8_lossy(&content).to_lowercase();
        for nth in 0..OTHERS {
            assert!(!text.contains(&name_of_other(nth).to_lowercase()), "{} names {nth}", file.display());
            assert!(!text.contains(&format!("other-{nth:03}")), "{} has the id of {nth}", file.display());
        }
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    let manifest = std::fs::read_to_string(target.join("MANIFEST")).unwrap();
    assert_eq!(manifest.lines().count(), files.len() - 2, "all files but the list itself and its signature");
    let keys = home.file("keys", home.json(&["key", "status"])["verifier_key"].as_str().unwrap());
    let verify = ["receipt", "verify-export", to, "--keys", &keys];
    assert!(home.says(&verify).contains("files are unchanged"));
    for line in manifest.lines() {
        let (sum, name) = line.split_once("  ").unwrap();
        assert_eq!(hex::encode(sha256(&std::fs::read(target.join(name)).unwrap())), sum, "{name}");
    }

    let read =
        |name: &str| -> Value { serde_json::from_slice(&std::fs::read(target.join(name)).unwrap()).unwrap() };
    let person = read("person.json");
    assert_eq!((&person["name"], &person["consent"]), (&json!("Anna Berg"), &json!("form-17")));
    let visits = read("visits.json");
    let visits = visits.as_array().unwrap();
    assert_eq!(visits.len(), VISITS as usize - 1, "all of hers, over several pages");
    let numbers: Vec<_> = visits.iter().map(|visit| visit["seq"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "oldest first, each once");
    for (nth, id) in ["alone", "named", "both"].into_iter().enumerate() {
        let visit = &visits[nth];
        assert_eq!(visit["event_id"], id);
        let name = visit["files_in_this_folder"][0].as_str().unwrap();
        assert_eq!(std::fs::read(target.join(name)).unwrap(), pictures[id], "{id}");
        assert_eq!(visit["faces"].as_array().unwrap().len(), 1, "{id}");
        assert_eq!(visit["other_faces"], u64::from(id == "both"), "{id}");
        assert_eq!(visit["attributes_left_out"], id != "alone", "{id}");
    }
    assert_eq!(visits[0]["attributes"]["zone"], "porch");
    let templates = read("templates.json");
    assert_eq!((&templates[0]["count"], &templates[0]["encodings"]), (&json!(3), &Value::Null));
    let page = std::fs::read_to_string(target.join("README.html")).unwrap();
    assert!(page.contains("Anna Berg") && page.contains("pictures/000001-1.jpg"), "{page}");
    assert!(!page.contains("://") && !page.contains("<script"), "it needs nothing from elsewhere");

    let log = home.log();
    assert!(log.contains("person exported") && !log.contains("anna"), "{log}");
    let (code, said) = home.fails(&["person", "export", "anna", "--to", to]);
    assert!(code == 1 && said.contains("not empty"), "{said}");
    let page = target.join("visits.json");
    std::fs::write(&page, std::fs::read_to_string(&page).unwrap().replacen("seq", "seQ", 1)).unwrap();
    let (code, said) = home.fails(&verify);
    assert!(code == 2 && said.contains("visits.json was changed"), "{said}");
    let unknown = home.path("unknown");
    assert_eq!(home.fails(&["person", "export", "unknown", "--to", unknown.to_str().unwrap()]).0, 1);
    assert!(!unknown.exists());
    let with = home.path("with-templates");
    home.says(&["person", "export", "anna", "--templates", "--to", with.to_str().unwrap()]);
    let text = std::fs::read_to_string(with.join("templates.json")).unwrap();
    let templates: Value = serde_json::from_str(&text).unwrap();
    let numbers: Vec<f64> = templates[0]["encodings"][0]
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect();
    let near = |nth| {
        encoding(1, nth).iter().zip(&numbers).all(|(ours, theirs)| (f64::from(*ours) - theirs).abs() < 1e-4)
    };
    assert!((0..3).any(near), "the numbers are those of the model");
}
