//! The central side from outside: an appliance is enrolled, delivers with its own role, and is retired.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatehouse_testkit::camera::Camera;
use gatehouse_testkit::jpeg::jpeg;
use gatehouse_testkit::synthetic::{EventMessage, people};
use gatehouse_tests::house::{DEVICE, House};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

async fn visit(house: &House, camera: &Camera, id: &str) -> Result<()> {
    let encoding = people(1, 1)[0].sample(&mut fastrand::Rng::with_seed(2));
    let event = EventMessage { media: vec!["a.jpg".into()], ..EventMessage::face(id, encoding) };
    camera.publish("gatehouse/door/event", event.payload(), false, PATIENCE).await?;
    let topic = format!("gatehouse/door/media/{id}/a.jpg");
    camera.publish(&topic, jpeg(3, 64, 48)?, false, PATIENCE).await?;
    ensure!(house.ledger()?.adds_up());
    Ok(())
}

fn sink(house: &House) -> Result<Value> {
    Ok(house.daemon.json(&["sync", "status"])?[0].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enrolled_appliance_delivers_with_its_own_role_until_it_is_retired() -> Result<()> {
    let retry = "retry_min = \"100ms\"\nretry_max = \"1s\"\n".to_owned();
    let mut house = House::build(BTreeMap::from([("sync".to_owned(), retry)])).await?;
    // The settings of who prepares the central side, kept beside those of the appliance.
    let admin = house.daemon.folder().path().join("admin.toml");
    let password = house.daemon.folder().path().join("admin-password");
    let (own, own_password) = (house.daemon.config_file(), password.with_file_name("rows-password"));
    std::fs::copy(&own_password, &password)?;
    std::fs::write(&admin, std::fs::read_to_string(&own)?.replace("rows-password", "admin-password"))?;
    let (admin, file) = (admin.to_string_lossy(), own_password.to_string_lossy());

    let enroll = ["central", "enroll-device", DEVICE, "--config", &admin];
    let shown = house.daemon.cli(&enroll)?;
    ensure!(shown.code == 0 && shown.stdout.contains("shown this once"), "{shown:?}");
    ensure!(shown.stdout.contains(&format!("arn:aws:s3:::gatehouse-dev/devices/{DEVICE}/*")), "{shown:?}");
    let again = house.daemon.json(&[&enroll[..], &["--password-file", &file]].concat())?;
    ensure!(again["rotated"] == true && again.get("password").is_none(), "{again}");
    ensure!(std::fs::metadata(&own_password)?.permissions().mode() & 0o777 == 0o600);
    ensure!(!shown.stdout.contains(std::fs::read_to_string(&own_password)?.trim()));
    let nowhere = house.daemon.cli(&[&enroll[..], &["--password-file", "/nowhere/password"]].concat())?;
    ensure!(nowhere.code == 1 && nowhere.stderr.contains("nothing was changed"), "{nowhere:?}");

    let role = again["role"].as_str().context("a role")?.to_owned();
    let url = house.database.url().replace("//postgres@", &format!("//{role}@"));
    house.daemon.reconfigure(|options| options.rows_url = Some(url))?;
    house.start()?;
    let camera = Camera::connect("door", &house.address());
    visit(&house, &camera, "visit-1").await?;
    let delivered = |count: u64| {
        house.until_ledger("the visit to be delivered", PATIENCE, |ledger| {
            ledger.number("events", "delivered") == count && ledger.number("files", "delivered") == count
        })
    };
    delivered(1)?;
    let client = house.database.ready().await?;
    let row = client.query_one("select whole, events from gatehouse.completeness", &[]).await?;
    ensure!(row.get::<_, bool>(0) && row.get::<_, i64>(1) == 1);
    let check = house.daemon.cli(&["central", "check", "--config", &own.to_string_lossy()])?;
    ensure!(check.code == 0 && check.stdout.contains("1 events, no hole"), "{check:?}");

    let retired = house.daemon.cli(&["central", "retire-device", DEVICE, "--config", &admin])?;
    ensure!(retired.code == 0 && retired.stdout.contains("is removed"), "{retired:?}");
    visit(&house, &camera, "visit-2").await?;
    let told = gatehouse_testkit::wait::until_async("the refusal to be told", PATIENCE, || async {
        sink(&house).is_ok_and(|sink| sink["state"] == "stopped" && sink["pending"] == 1)
    });
    told.await?;
    let words = sink(&house)?["error"].to_string();
    ensure!(words.contains("not permitted"), "{words}");

    // Enrolled anew, it delivers what waited as soon as it has its password.
    house.daemon.json(&[&enroll[..], &["--password-file", &file]].concat())?;
    house.daemon.json(&["sync", "now"])?;
    delivered(2)?;
    let lines = client.query("select action from gatehouse.audit_log order by id", &[]).await?;
    let lines: Vec<String> = lines.iter().map(|row| row.get(0)).collect();
    ensure!(lines == ["device.enroll", "device.enroll", "device.retire", "device.enroll"], "{lines:?}");
    Ok(())
}
