//! The commands of docs/central.md as they are written there, run by the role that the page asks for: the owner of the
//! database with `createrole`, no superuser.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use gatehouse_testkit::broker::Broker;
use gatehouse_testkit::camera::{Address, Camera};
use gatehouse_testkit::daemon::{Answer, Daemon, DaemonOptions};
use gatehouse_testkit::jpeg::jpeg;
use gatehouse_testkit::postgres::{Database, PASSWORD, Postgres};
use gatehouse_testkit::s3::S3Server;
use gatehouse_testkit::synthetic::{EventMessage, people};
use gatehouse_testkit::wait;
use gatehouse_tests::shipped;

const TIMEOUT: Duration = Duration::from_secs(60);
const PAGE: &str = "docs/central.md";
/// The appliance in the page's examples.
const DEVICE: &str = "house-1";

/// Services, and an appliance that is not started yet.
struct Site {
    broker: Broker,
    postgres: Postgres,
    s3: S3Server,
    daemon: Daemon,
    folder: PathBuf,
    page: String,
    /// The subcommands of `gatehouse central` that have run.
    run: Mutex<BTreeSet<String>>,
}

impl Site {
    fn start() -> Result<Self> {
        let (broker, postgres, s3) = (Broker::start()?, Postgres::start()?, S3Server::start()?);
        let mut daemon = Daemon::new(DaemonOptions {
            device: DEVICE.into(),
            mqtt_url: broker.url(),
            objects: Some(s3.objects().clone()),
            bucket: Some("gatehouse-prod".into()),
            ..DaemonOptions::default()
        })?;
        let folder = daemon.folder().path().to_owned();
        let (page, run) = (shipped::text(PAGE)?, Mutex::default());
        Ok(Self { broker, postgres, s3, daemon, folder, page, run })
    }

    fn database(&self) -> Database {
        Database { name: "gatehouse_prod".into(), port: self.postgres.port() }
    }

    /// The page's first block of SQL, as a superuser in psql.
    async fn prepare(&self) -> Result<()> {
        let block = shipped::blocks(&self.page, "sql").into_iter().next().context("a block of SQL")?;
        let mut database = Database { name: "postgres".into(), port: self.postgres.port() };
        let mut client = database.ready().await?;
        for line in block.lines() {
            match line.strip_prefix("\\connect ") {
                Some(name) => {
                    database = Database { name: name.to_owned(), ..database };
                    client = database.connect().await?;
                }
                None => client.batch_execute(&line.replace("'...'", &format!("'{PASSWORD}'"))).await?,
            }
        }
        Ok(())
    }

    /// The page's `central.toml`, its servers and folder replaced.
    fn settings(&self) -> Result<()> {
        let block = shipped::blocks(&self.page, "toml").into_iter().next().context("a block of TOML")?;
        let database = format!("127.0.0.1:{}", self.postgres.port());
        let mut text = block;
        for (written, ours) in [
            ("db.example.org", database.as_str()),
            ("https://s3.example.org", &self.s3.objects().endpoint),
            ("/etc/gatehouse/secrets/objects-", &format!("{}/", self.folder.display())),
            ("/etc/gatehouse/secrets/", &format!("{}/", self.folder.display())),
        ] {
            ensure!(text.contains(written), "{PAGE} does not say {written} any more");
            text = text.replace(written, ours);
        }
        text.push_str(&format!("\nregion = \"{}\"\n", self.s3.objects().region));
        // The region belongs to the section before.
        let (objects, people) = text.split_once("[central.people]").context("a section of people")?;
        let (people, region) = people.trim_end().rsplit_once('\n').context("a line")?;
        let text = format!("{objects}{region}\n[central.people]{people}\n");
        Ok(std::fs::write(self.folder.join("central.toml"), text)?)
    }

    /// Runs `gatehouse central` with these arguments as they stand in the page, from the folder of the settings.
    fn command(&self, line: &str) -> Result<Answer> {
        let here = |name: &str| self.folder.join(name).display().to_string();
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        for word in &mut words {
            if word.ends_with("central.toml") {
                *word = here("central.toml");
            } else if [".password", ".key", ".json", ".receipt"].iter().any(|end| word.ends_with(end)) {
                *word = here(word);
            }
        }
        let ours = words.iter().position(|word| word == "central").context("a command of `central`")?;
        let mut arguments = words.split_off(ours);
        let name = match arguments[1].as_str() {
            group @ ("person" | "receipt" | "request") => format!("{group} {}", arguments[2]),
            name => name.to_owned(),
        };
        if !name.ends_with("make-key") && !arguments.iter().any(|word| word == "--config") {
            arguments.extend(["--config".to_owned(), here("central.toml")]);
        }
        let all: Vec<_> = arguments.iter().map(String::as_str).collect();
        let answer = self.daemon.cli(&all)?;
        ensure!(answer.code == 0, "`{line}` ended with {answer:?}");
        self.run.lock().map_err(|_| anyhow!("a panic elsewhere"))?.insert(name);
        Ok(answer)
    }

    /// The commands of the page's blocks: lines for a shell, and lines for cron.
    fn printed(&self) -> Vec<String> {
        let blocks = shipped::blocks(&self.page, "");
        let lines = blocks.iter().flat_map(|block| block.lines());
        lines.filter(|line| line.contains("gatehouse central ")).map(str::to_owned).collect()
    }

    /// Sets the grace period of erasures, in days.
    fn grace(&self, days: &str) -> Result<()> {
        let file = self.folder.join("central.toml");
        let text = std::fs::read_to_string(&file)?;
        let (text, _) = text.split_once("[privacy]").unwrap_or((&text, ""));
        Ok(std::fs::write(&file, format!("{text}[privacy]\ngrace_days = {days}\n"))?)
    }

    /// The commands in the page's prose that begin with this text.
    fn inline(&self, beginning: &str) -> Vec<String> {
        let spans = shipped::inline_code(&self.page).into_iter();
        spans.filter(|span| span.starts_with(beginning)).collect()
    }

    /// One visit with a picture is delivered with the role and the password that `enroll-device` gave.
    async fn visit(&mut self) -> Result<()> {
        std::fs::copy(self.folder.join("house-1.password"), self.folder.join("device-password"))?;
        let port = self.postgres.port();
        let password = self.folder.join("device-password").display().to_string();
        self.daemon.reconfigure(|options| {
            let url = format!("postgres://gatehouse_prod_house-1@127.0.0.1:{port}/gatehouse_prod");
            let rows = format!("url = \"{url}\"\npassword_file = \"{password}\"\n");
            options.settings.insert("central.rows".into(), rows);
            options.settings.insert("sync".into(), "retry_min = \"100ms\"\nretry_max = \"1s\"\n".into());
        })?;
        let text = std::fs::read_to_string(self.daemon.config_file())?;
        std::fs::write(self.daemon.config_file(), text.replace("\"dev\"", "\"prod\""))?;
        self.daemon.start()?;
        self.daemon.wait_connected(TIMEOUT)?;
        let camera = Camera::connect("door", &Address::local(self.broker.port()));
        let encoding = people(1, 1)[0].sample(&mut fastrand::Rng::with_seed(2));
        let event = EventMessage { media: vec!["a.jpg".into()], ..EventMessage::face("visit-1", encoding) };
        camera.publish("gatehouse/door/event", event.payload(), false, TIMEOUT).await?;
        camera.publish("gatehouse/door/media/visit-1/a.jpg", jpeg(3, 64, 48)?, false, TIMEOUT).await?;
        let delivered = || self.daemon.json(&["ledger"]).is_ok_and(|l| l["files"]["delivered"] == 1);
        wait::until("the visit to be delivered", TIMEOUT, delivered)
            .with_context(|| self.daemon.log_tail())?;
        Ok(())
    }

    /// The id of the delivered picture, once the central side knows it.
    async fn picture(&self) -> Result<String> {
        let client = self.database().ready().await?;
        let query = "select id::text from gatehouse.files where s3_key not like '%/thumbnails/%'";
        let known = || async { client.query_opt(query, &[]).await.is_ok_and(|row| row.is_some()) };
        wait::until_async("the row of the picture", TIMEOUT, known).await?;
        Ok(client.query_one(query, &[]).await?.get(0))
    }

    /// The page's questions in SQL, asked by the owner.
    async fn questions(&self) -> Result<()> {
        let client = self.database().connect_as("gatehouse_owner", PASSWORD).await?;
        let blocks = shipped::blocks(&self.page, "sql");
        let block = blocks.iter().find(|block| block.contains("gatehouse.fleet")).context("the questions")?;
        Ok(client.batch_execute(block).await?)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_owner_runs_every_central_command_of_the_page() -> Result<()> {
    let mut site = Site::start()?;
    site.prepare().await?;
    site.settings()?;
    site.command("gatehouse central make-key deployment-key.key")?;
    std::fs::rename(site.folder.join("deployment-key.key"), site.folder.join("deployment-key"))?;
    site.command("gatehouse central init")?;
    site.command("gatehouse central init")?;
    site.command("gatehouse central migrate")?;
    site.command("gatehouse central check")?;
    for line in site.printed().iter().filter(|line| line.contains("enroll-device")) {
        site.command(line)?;
        let first = std::fs::read(site.folder.join("house-1.password"))?;
        site.command(line)?;
        ensure!(std::fs::read(site.folder.join("house-1.password"))? != first, "the password stays");
    }
    site.visit().await?;
    let encodings = people(1, 1)[0].samples(&mut fastrand::Rng::with_seed(4), 3);
    std::fs::write(site.folder.join("anna.json"), serde_json::to_vec(&encodings)?)?;
    std::fs::write(site.folder.join("face.json"), serde_json::to_vec(&encodings[0])?)?;
    site.command("gatehouse central person enroll --id anna --name Anna --encodings anna.json")?;
    site.command("gatehouse central person list")?;
    site.command("gatehouse central person rename anna --name Berg")?;
    let found = site.command("gatehouse central identify face.json --threshold 0.5")?;
    ensure!(found.stdout.contains("anna"), "{found:?}");
    site.command("gatehouse central person suspend anna --reason objection")?;
    let found = site.command("gatehouse central identify face.json --threshold 0.5")?;
    ensure!(!found.stdout.contains("anna"), "{found:?}");
    site.command("gatehouse central person resume anna")?;
    site.command("gatehouse central request open --kind access --reference letter-17")?;
    let target = site.folder.join("anna-export").display().to_string();
    site.command(&format!("gatehouse central person export anna --to {target}"))?;
    let listed = site.command("gatehouse central request list")?;
    ensure!(listed.stdout.contains("letter-17"), "{listed:?}");
    site.command("gatehouse central request close 1")?;
    site.command("gatehouse central person absent --days 730")?;
    site.command("gatehouse central report")?;
    site.command("gatehouse central report --person anna --json")?;
    site.grace("30")?;
    site.command("gatehouse central person erase anna --yes")?;
    site.command("gatehouse central person restore anna")?;
    site.grace("0")?;
    site.command("gatehouse central person erase anna --yes")?;
    let mut receipts = site.inline("gatehouse central receipt ");
    receipts.retain(|line| !line.contains('|'));
    for line in receipts {
        site.command(&line)?;
    }
    let id = site.picture().await?;
    site.command(&format!("gatehouse central url {id}"))?;
    site.command("gatehouse central verify --all")?;
    site.command("gatehouse central orphans")?;
    site.command(&format!("gatehouse central delete-file {id}"))?;
    site.command(&format!("gatehouse central undelete {id}"))?;
    site.command("gatehouse central purge-deleted")?;
    for line in site.printed().iter().filter(|line| line.contains("archive")) {
        site.command(line)?;
    }
    site.command("gatehouse central retention --keep-months 24 --drop")?;
    site.command("gatehouse central retention --audit-months 60 --drop")?;
    site.questions().await?;
    site.command("gatehouse central enroll-device house-1 --certificate")?;
    // The appliance is connected: its session ends, and its role goes.
    let retired = site.command("gatehouse central retire-device house-1")?;
    ensure!(retired.stdout.contains("is removed"), "{retired:?}");

    let run = site.run.lock().map_err(|_| anyhow!("a panic elsewhere"))?;
    let missing: Vec<_> = documented(&site.page).into_iter().filter(|name| !run.contains(name)).collect();
    ensure!(missing.is_empty(), "{PAGE} names commands that no test runs: {missing:?}");
    Ok(())
}

/// The subcommands that the page's prose and blocks name: `central person list|erase` are two.
fn documented(page: &str) -> BTreeSet<String> {
    let blocks = shipped::blocks(page, "").join("\n");
    let spans = shipped::inline_code(page).into_iter().chain(blocks.lines().map(str::to_owned));
    let mut names = BTreeSet::new();
    for span in spans {
        let mut words = span.split_whitespace().skip_while(|word| *word != "central").skip(1);
        match (words.next(), words.next()) {
            (Some(group @ ("person" | "receipt" | "request")), Some(all)) => {
                names.extend(all.split('|').map(|name| format!("{group} {name}")));
            }
            (Some(name), _)
                if span.starts_with("gatehouse central") || span.contains("gatehouse gatehouse") =>
            {
                names.insert(name.to_owned());
            }
            _ => {}
        }
    }
    names
}
