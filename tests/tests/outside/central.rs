//! The central side from outside: an appliance is enrolled, delivers with its own role, and is retired.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatehouse_testkit::camera::Camera;
use gatehouse_testkit::http;
use gatehouse_testkit::jpeg::jpeg;
use gatehouse_testkit::postgres::Stop;
use gatehouse_testkit::proxy::Faults;
use gatehouse_testkit::synthetic::{EventMessage, people};
use gatehouse_testkit::wait;
use gatehouse_tests::setup::{DEVICE, Setup};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(60);

async fn visit(setup: &Setup, camera: &Camera, id: &str) -> Result<()> {
    let encoding = people(1, 1)[0].sample(&mut fastrand::Rng::with_seed(2));
    let event = EventMessage { media: vec!["a.jpg".into()], ..EventMessage::face(id, encoding) };
    camera.publish("gatehouse/door/event", event.payload(), false, TIMEOUT).await?;
    let topic = format!("gatehouse/door/media/{id}/a.jpg");
    camera.publish(&topic, jpeg(3, 64, 48)?, false, TIMEOUT).await?;
    ensure!(setup.ledger()?.adds_up());
    Ok(())
}

fn sink(setup: &Setup) -> Result<Value> {
    Ok(setup.daemon.json(&["sync", "status"])?[0].clone())
}

/// The settings of who prepares the central side, kept with those of the appliance; and the password file of these.
fn admin_settings(setup: &mut Setup) -> Result<(PathBuf, PathBuf)> {
    let admin = setup.daemon.folder().path().join("admin.toml");
    let own_password = admin.with_file_name("rows-password");
    std::fs::copy(&own_password, admin.with_file_name("admin-password"))?;
    let own = std::fs::read_to_string(setup.daemon.config_file())?;
    std::fs::write(&admin, own.replace("rows-password", "admin-password"))?;
    Ok((admin, own_password))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enrolled_appliance_delivers_with_its_own_role_until_it_is_retired() -> Result<()> {
    let retry = "retry_min = \"100ms\"\nretry_max = \"1s\"\n".to_owned();
    let mut setup = Setup::build(BTreeMap::from([("sync".to_owned(), retry)])).await?;
    let (admin, own_password) = admin_settings(&mut setup)?;
    let own = setup.daemon.config_file();
    let (admin, file) = (admin.to_string_lossy(), own_password.to_string_lossy());

    let enroll = ["central", "enroll-device", DEVICE, "--config", &admin];
    let shown = setup.daemon.cli(&enroll)?;
    ensure!(shown.code == 0 && shown.stdout.contains("not shown again"), "{shown:?}");
    ensure!(shown.stdout.contains(&format!("arn:aws:s3:::gatehouse-dev/devices/{DEVICE}/*")), "{shown:?}");
    let again = setup.daemon.json(&[&enroll[..], &["--password-file", &file]].concat())?;
    ensure!(again["rotated"] == true && again.get("password").is_none(), "{again}");
    ensure!(std::fs::metadata(&own_password)?.permissions().mode() & 0o777 == 0o600);
    ensure!(!shown.stdout.contains(std::fs::read_to_string(&own_password)?.trim()));
    let nowhere = setup.daemon.cli(&[&enroll[..], &["--password-file", "/nowhere/password"]].concat())?;
    ensure!(nowhere.code == 1 && nowhere.stderr.contains("nothing was changed"), "{nowhere:?}");

    let role = again["role"].as_str().context("a role")?.to_owned();
    let url = setup.database.url().replace("//postgres@", &format!("//{role}@"));
    setup.daemon.reconfigure(|options| options.rows_url = Some(url))?;
    setup.start()?;
    let camera = Camera::connect("door", &setup.address());
    visit(&setup, &camera, "visit-1").await?;
    let delivered = |count: u64| {
        setup.until_ledger("the visit to be delivered", TIMEOUT, |ledger| {
            ledger.number("events", "delivered") == count && ledger.number("files", "delivered") == count
        })
    };
    delivered(1)?;
    let client = setup.database.ready().await?;
    let row = client.query_one("select whole, events from gatehouse.completeness", &[]).await?;
    ensure!(row.get::<_, bool>(0) && row.get::<_, i64>(1) == 1);
    let check = setup.daemon.cli(&["central", "check", "--config", &own.to_string_lossy()])?;
    ensure!(check.code == 0 && check.stdout.contains("1 events, no gap"), "{check:?}");

    let report = setup.daemon.json(&["central", "report", "--config", &admin])?;
    let one = &report["fleet"][0];
    ensure!(one["device_id"] == DEVICE && one["enrolled"] == true && one["delivered"] == 1, "{report}");
    ensure!(report["days"][0]["visits"] == 1 && report["unknown"][0]["event_id"] == "visit-1", "{report}");
    let report = setup.daemon.cli(&["central", "report", "--config", &admin])?;
    ensure!(report.code == 0 && report.stdout.contains("visit-1"), "{report:?}");
    let own_report = setup.daemon.cli(&["central", "report", "--config", &own.to_string_lossy()])?;
    ensure!(own_report.code == 1 && own_report.stderr.contains("not permitted"), "{own_report:?}");

    archived_and_dropped(&setup, &admin).await?;

    let retired = setup.daemon.cli(&["central", "retire-device", DEVICE, "--config", &admin])?;
    ensure!(retired.code == 0 && retired.stdout.contains("is removed"), "{retired:?}");
    visit(&setup, &camera, "visit-2").await?;
    let refused = gatehouse_testkit::wait::until_async("the refusal to be reported", TIMEOUT, || async {
        sink(&setup).is_ok_and(|sink| sink["state"] == "stopped" && sink["pending"] == 1)
    });
    refused.await?;
    let words = sink(&setup)?["error"].to_string();
    ensure!(words.contains("not permitted"), "{words}");

    // Enrolled again, it delivers the backlog as soon as it has its password.
    setup.daemon.json(&[&enroll[..], &["--password-file", &file]].concat())?;
    setup.daemon.json(&["sync", "now"])?;
    delivered(2)?;
    let lines = client.query("select action from gatehouse.audit_log order by id", &[]).await?;
    let lines: Vec<String> = lines.iter().map(|row| row.get(0)).collect();
    let done = ["device.enroll", "device.enroll", "events.drop", "device.retire", "device.enroll"];
    ensure!(lines == done, "{lines:?}");
    let row = client.query_one("select whole, dropped from gatehouse.completeness", &[]).await?;
    ensure!(row.get::<_, bool>(0) && row.get::<_, i64>(1) == 1, "what was dropped is not missing");
    Ok(())
}

/// The only visit, made a hundred days old, is archived and leaves the database; the appliance goes on after it.
async fn archived_and_dropped(setup: &Setup, admin: &str) -> Result<()> {
    let central =
        |arguments: &[&str]| setup.daemon.cli(&[&["central"], arguments, &["--config", admin]].concat());
    let today = central(&["archive"])?;
    ensure!(today.code == 0 && today.stdout.contains("archived up to"), "{today:?}");
    let early = central(&["archive", "--until", "2999-01-01"])?;
    ensure!(early.code == 1 && early.stderr.contains("is not over"), "{early:?}");
    let older = "select gatehouse.ensure_month(now() - interval '100 days'); \
                 update gatehouse.events set received_at = now() - interval '100 days'";
    setup.database.ready().await?.batch_execute(older).await?;
    let kept = central(&["retention", "--keep-months", "1", "--drop"])?;
    ensure!(kept.code == 1 && kept.stdout.contains("KEPT     not completely archived"), "{kept:?}");
    let archived = setup.daemon.json(&["central", "archive", "--config", admin])?;
    let one = &archived["devices"][0];
    ensure!(one["files"] == 1 && one["events"] == 1 && one["archived"] == 1, "{archived}");
    let checked = central(&["archive", "--check"])?;
    ensure!(
        checked.code == 0 && checked.stdout.contains("1 event: complete, without duplicates"),
        "{checked:?}"
    );
    let may = central(&["retention", "--keep-months", "1"])?;
    ensure!(
        may.code == 0 && may.stdout.contains("can be dropped") && may.stdout.contains("nothing was changed"),
        "{may:?}"
    );
    let dropped = central(&["retention", "--keep-months", "1", "--drop"])?;
    ensure!(dropped.code == 0 && dropped.stdout.contains("1 event in 1 file  dropped"), "{dropped:?}");
    for object in setup.s3.objects().list("gatehouse-dev", "archive/").await? {
        setup.s3.objects().put("gatehouse-dev", &object, b"PAR1".to_vec()).await?;
    }
    let wrong = central(&["archive", "--check"])?;
    ensure!(
        wrong.code == 1 && wrong.stdout.contains("WRONG") && wrong.stdout.contains("1 wrong"),
        "{wrong:?}"
    );
    Ok(())
}

/// What asks for the URL of the delivered picture on the appliance.
const ASK: [&str; 3] = ["media", "url", "door/visit-1/a.jpg"];

/// Id and key of the delivered picture in the central database.
struct CentralFile {
    id: String,
    key: String,
}

/// URLs by id and by key from the central services, and their lines in the audit log, after the one for `role`.
async fn central_urls(setup: &Setup, admin: &str, role: &str) -> Result<CentralFile> {
    let client = setup.database.ready().await?;
    let known = || async {
        client
            .query_opt(
                "select id::text, s3_key from gatehouse.files where s3_key not like '%/thumbnails/%'",
                &[],
            )
            .await
    };
    gatehouse_testkit::wait::until_async("the row of the file", TIMEOUT, || async {
        known().await.is_ok_and(|row| row.is_some())
    })
    .await?;
    let row = known().await?.context("a row")?;
    let (id, key): (String, String) = (row.get(0), row.get(1));
    for name in [&id, &key] {
        let central = setup.daemon.json(&["central", "url", name, "--config", admin])?;
        ensure!(http::get(central["url"].as_str().context("a URL")?)?.0 == 200, "{central}");
    }
    let unknown = setup.daemon.cli(&["central", "url", "devices/none", "--config", admin])?;
    ensure!(unknown.code == 1 && unknown.stderr.contains("no file"), "{unknown:?}");
    let query = "select actor, subject, (details ->> 'expires_s')::int from gatehouse.audit_log \
                 where action = 'file.url' order by id";
    let lines: Vec<(String, String, i32)> =
        client.query(query, &[]).await?.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let line = |actor: &str, expires| (actor.to_owned(), id.clone(), expires);
    ensure!(lines == [line(role, 120), line("postgres", 900), line("postgres", 900)], "{lines:?}");
    Ok(CentralFile { id, key })
}

/// The thumbnail is a file of its own, which goes with the picture.
fn check_thumbnail(setup: &Setup) -> Result<()> {
    let small = setup.daemon.json(&[&ASK[..], &["--thumbnail", "320"]].concat())?;
    let (status, bytes) = http::get(small["url"].as_str().context("a URL")?)?;
    ensure!(status == 200 && bytes.starts_with(&[0xff, 0xd8, 0xff]) && bytes != jpeg(3, 64, 48)?, "{small}");
    let none = setup.daemon.cli(&[&ASK[..], &["--thumbnail", "64"]].concat())?;
    ensure!(none.code == 1 && none.stderr.contains("available: 320"), "{none:?}");
    Ok(())
}

/// Verifies the objects, damages one, and deletes the file.
async fn verify_and_delete(setup: &Setup, admin: &str, file: &CentralFile) -> Result<()> {
    let CentralFile { id, key } = file;
    let central =
        |arguments: &[&str]| setup.daemon.cli(&[&["central"], arguments, &["--config", admin]].concat());
    let whole = central(&["verify", "--all"])?;
    ensure!(
        whole.code == 0 && whole.stdout.contains("2 files read back") && whole.stdout.contains("0 differ"),
        "{whole:?}"
    );
    let orphans = central(&["orphans"])?;
    ensure!(
        orphans.code == 0 && orphans.stdout.contains("0 without a row, 0 without an object"),
        "{orphans:?}"
    );
    let mut flipped = jpeg(3, 64, 48)?;
    flipped[20] ^= 1;
    setup.s3.objects().put("gatehouse-dev", key, flipped).await?;
    let differs = central(&["verify", "--sample", "2"])?;
    ensure!(
        differs.code == 1 && differs.stdout.contains(&format!("DIFFERS  {key}: its SHA-256")),
        "{differs:?}"
    );
    let marked = central(&["delete-file", id])?;
    ensure!(marked.code == 0 && marked.stdout.contains("is marked"), "{marked:?}");
    let purged = central(&["purge-deleted"])?;
    ensure!(purged.code == 0 && purged.stdout.contains("0 files removed, 2 marked"), "{purged:?}");
    setup.database.ready().await?.execute("update gatehouse.files set status = 'deleted'", &[]).await?;
    let gone = setup.daemon.cli(&["central", "url", id, "--config", admin])?;
    ensure!(gone.code == 1 && gone.stderr.contains("is deleted"), "{gone:?}");
    let gone = setup.daemon.cli(&ASK)?;
    ensure!(gone.code == 1 && gone.stderr.contains("is deleted"), "{gone:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_is_given_for_a_delivered_file_and_never_without_its_line() -> Result<()> {
    let retry = "retry_min = \"100ms\"\nretry_max = \"1s\"\n".to_owned();
    let mut setup = Setup::build(BTreeMap::from([("sync".to_owned(), retry)])).await?;
    let (admin, own_password) = admin_settings(&mut setup)?;
    let (admin, file) = (admin.to_string_lossy(), own_password.to_string_lossy());
    let enroll = ["central", "enroll-device", DEVICE, "--config", &admin, "--password-file", &file];
    let role = setup.daemon.json(&enroll)?["role"].as_str().context("a role")?.to_owned();
    let own = setup.database.url().replace("//postgres@", &format!("//{role}@"));
    setup.daemon.reconfigure(|options| options.rows_url = Some(own))?;
    setup.s3_proxy.set(Faults { refuse: true, ..Faults::default() });
    setup.start()?;
    let camera = Camera::connect("door", &setup.address());
    visit(&setup, &camera, "visit-1").await?;

    setup.until_ledger("the file to be stored", TIMEOUT, |ledger| ledger.number("files", "stored") == 1)?;
    let early = setup.daemon.cli(&ASK)?;
    ensure!(early.code == 1 && early.stderr.contains("not delivered yet"), "{early:?}");
    setup.s3_proxy.heal();
    setup.until_ledger("the file to be delivered", TIMEOUT, |ledger| {
        ledger.number("files", "delivered") == 1
    })?;
    let granted = setup.daemon.json(&[&ASK[..], &["--expires", "2m"]].concat())?;
    let url = granted["url"].as_str().context("a URL")?;
    ensure!(http::get(url)? == (200, jpeg(3, 64, 48)?), "{url}");
    ensure!(url.contains("X-Amz-Expires=120") && !url.contains(&setup.s3.objects().secret_key));
    for expires in ["0s", "8d", "500ms", "soon"] {
        let odd = setup.daemon.cli(&[&ASK[..], &["--expires", expires]].concat())?;
        ensure!(odd.code == 2, "{expires}: {odd:?}");
    }

    let delivered = central_urls(&setup, &admin, &role).await?;
    ensure!(granted["id"] == delivered.id.as_str(), "{granted}");
    check_thumbnail(&setup)?;
    verify_and_delete(&setup, &admin, &delivered).await?;

    setup.postgres.stop(Stop::Fast)?;
    let refused = setup.daemon.cli(&ASK)?;
    ensure!(refused.code == 1 && refused.stderr.contains("audit log"), "{refused:?}");
    ensure!(refused.stdout.is_empty() && !refused.stderr.contains("retried"), "{refused:?}");
    ensure!(!std::fs::read_to_string(setup.daemon.log_file())?.contains("X-Amz-Signature"));

    // Without a central database there is no such log, and the line goes to the appliance's own.
    setup.daemon.terminate()?;
    setup.daemon.reconfigure(|options| options.rows_url = None)?;
    setup.start()?;
    let alone = setup.daemon.json(&ASK)?;
    ensure!(http::get(alone["url"].as_str().context("a URL")?)?.0 == 200, "{alone}");
    // A thread of its own writes the log.
    let log = || std::fs::read_to_string(setup.daemon.log_file()).unwrap_or_default();
    wait::until("the line of the log", TIMEOUT, || log().contains("a URL of a file was given"))?;
    ensure!(!log().contains("X-Amz-Signature"), "{}", log());
    Ok(())
}
