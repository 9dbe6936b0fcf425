//! The export of a person from Postgres and S3: all visits and pictures of hers, and no other person's name. Each of 200
//! other people was in one picture with her.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatehouse_testkit::camera::Camera;
use gatehouse_testkit::jpeg::jpeg;
use gatehouse_testkit::synthetic::{EventMessage, FaceMessage, people};
use gatehouse_testkit::wait;
use gatehouse_tests::setup::Setup;
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(120);
const OTHERS: usize = 200;
/// Visits with a picture. A few are enough.
const PICTURES: usize = 5;

fn name_of_other(nth: usize) -> String {
    format!("Resident Quux{nth:03}")
}

fn all_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(all_files(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

/// Shares people with a deployment key, so that the database has them.
fn share(setup: &mut Setup) -> Result<()> {
    let key = setup.daemon.folder().path().join("deployment.key").to_string_lossy().into_owned();
    let made = setup.daemon.cli(&["central", "make-key", &key])?;
    ensure!(made.code == 0, "{made:?}");
    setup.daemon.reconfigure(|options| {
        options.settings.insert("central.people".into(), format!("key_file = \"{key}\"\n"));
    })
}

async fn visits(setup: &Setup) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(7);
    let all = people(7, OTHERS + 1);
    setup.daemon.enroll("anna", "Anna Berg", &all[0].samples(&mut random, 3))?;
    for (nth, other) in all[1..].iter().enumerate() {
        setup.daemon.enroll(
            &format!("other-{nth:03}"),
            &name_of_other(nth),
            &other.samples(&mut random, 2),
        )?;
    }
    let camera = Camera::connect("door", &setup.address());
    for (nth, other) in all[1..].iter().enumerate() {
        let id = format!("visit-{nth:03}");
        let mut event = EventMessage::face(&id, all[0].sample(&mut random));
        let encoding = other.sample(&mut random);
        event.faces.push(FaceMessage { encoding, base64: false, quality: Some(0.9) });
        event.attributes.insert("sub_label".into(), name_of_other(nth).into());
        event.media = vec!["a.jpg".into()];
        camera.publish("gatehouse/door/event", event.payload(), false, TIMEOUT).await?;
        if nth < PICTURES {
            let topic = format!("gatehouse/door/media/{id}/a.jpg");
            camera.publish(&topic, jpeg(3 + nth as u64, 64, 48)?, false, TIMEOUT).await?;
        }
    }
    setup.until_ledger("everything to be delivered", TIMEOUT, |ledger| {
        ledger.number("events", "delivered") == OTHERS as u64
            && ledger.number("files", "delivered") == PICTURES as u64
    })?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_central_export_has_all_of_a_person_and_no_other_name() -> Result<()> {
    let retry = "retry_min = \"100ms\"\nretry_max = \"1s\"\n".to_owned();
    let mut setup = Setup::build(BTreeMap::from([("sync".to_owned(), retry)])).await?;
    share(&mut setup)?;
    setup.start()?;
    visits(&setup).await?;
    let config = setup.daemon.config_file().to_string_lossy().into_owned();
    let client = setup.database.ready().await?;
    let both = "select count(*) from gatehouse.events where identification::text like '%Quux%' \
                and identification::text like '%Anna Berg%'";
    let both: i64 = client.query_one(both, &[]).await?.get(0);
    ensure!(both > OTHERS as i64 / 2, "both were recognized in {both} visits only");
    let anna = "select count(*) from gatehouse.events where identification::text like '%Anna Berg%'";
    let anna: i64 = client.query_one(anna, &[]).await?.get(0);
    // Pictures and their thumbnails have rows once the sink has confirmed them.
    let files = "select count(*) from gatehouse.files where status = 'active'";
    wait::until_async("the rows of the pictures", TIMEOUT, || async {
        client.query_one(files, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) >= 10)
    })
    .await?;

    let target = setup.daemon.folder().path().join("export");
    let to = target.to_string_lossy().into_owned();
    let key = format!("{to}-signing.key");
    ensure!(setup.daemon.cli(&["central", "receipt", "make-key", &key])?.code == 0);
    let export =
        ["central", "person", "export", "anna", "--to", &to, "--signing-key", &key, "--config", &config];
    let done = setup.daemon.cli(&export)?;
    ensure!(done.code == 0 && done.stdout.contains(&format!("{anna} visits")), "{done:?}");
    let listed = all_files(&target)?;
    for file in &listed {
        let text = String::from_utf8_lossy(&std::fs::read(file)?).to_lowercase();
        for nth in 0..OTHERS {
            let (name, id) = (name_of_other(nth).to_lowercase(), format!("other-{nth:03}"));
            ensure!(!text.contains(&name) && !text.contains(&id), "{} names {nth}", file.display());
        }
    }
    let check = std::process::Command::new("sha256sum")
        .args(["--check", "--strict", "MANIFEST"])
        .current_dir(&target)
        .output()?;
    ensure!(check.status.success(), "{check:?}");
    ensure!(
        String::from_utf8(check.stdout)?.lines().count() == listed.len() - 2,
        "all but the list and its signature"
    );
    ensure!(target.join("MANIFEST.note").exists(), "it is signed");
    let visits: Value = serde_json::from_slice(&std::fs::read(target.join("visits.json"))?)?;
    let visits = visits.as_array().context("visits")?;
    ensure!(visits.len() as i64 == anna, "{} visits instead of {anna}", visits.len());
    let mut pictures = 0;
    for nth in 0..PICTURES {
        let id = format!("visit-{nth:03}");
        let Some(visit) = visits.iter().find(|visit| visit["event_id"] == id.as_str()) else { continue };
        let original = jpeg(3 + nth as u64, 64, 48)?;
        let files = visit["files_in_this_folder"].as_array().context("files")?;
        let contents = files.iter().filter_map(Value::as_str).map(|name| std::fs::read(target.join(name)));
        let contents = contents.collect::<std::io::Result<Vec<_>>>()?;
        ensure!(contents.contains(&original), "{id} has the picture of the camera");
        pictures += 1;
    }
    ensure!(pictures > 0);
    let page = std::fs::read_to_string(target.join("README.html"))?;
    ensure!(page.contains("Anna Berg") && !page.contains("://"), "{page}");

    let line = "select count(*) from gatehouse.audit_log where action = 'person.export' \
                and subject = gatehouse.person_reference('anna')";
    ensure!(client.query_one(line, &[]).await?.get::<_, i64>(0) == 1);
    let again = setup.daemon.cli(&export)?;
    ensure!(again.code == 1 && again.stderr.contains("not empty"), "{again:?}");
    ensure!(client.query_one(line, &[]).await?.get::<_, i64>(0) == 1, "a refused export is none");
    let nowhere = format!("{to}-unknown");
    let unknown = ["central", "person", "export", "unknown", "--to", &nowhere, "--config", &config];
    let unknown = setup.daemon.cli(&unknown)?;
    ensure!(unknown.code == 1 && unknown.stderr.contains("no data"), "{unknown:?}");
    ensure!(!Path::new(&nowhere).exists());
    Ok(())
}
