//! A real Postgres with pgvector.
//!
//! `initdb` runs once per process. Every server starts from a copy of that folder. Postgres refuses to run as root, so
//! as root it runs as the unprivileged user 65534. An installation that this user cannot read is copied first.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::folder::Folder;
use crate::process::{Launch, Process, Signal};
use crate::{ports, wait};

mod find;
mod standby;
pub use find::{POSTGRES_VARIABLE, installation, services_folders};

/// The unprivileged user of every Debian, which owns no files. `initdb` needs a user with a name.
const UNPRIVILEGED_USER: u32 = 65_534;
/// `initdb` takes 2 to 4 s on two cores; a loaded machine is slower.
const INITDB_TIMEOUT: Duration = Duration::from_secs(120);
/// A start takes 0.3 s, with recovery after an immediate stop a little more.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A fast stop writes a checkpoint.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// The superuser of every test server.
pub const SUPERUSER: &str = "postgres";
/// Its password; scram-sha-256 over TCP is enforced.
pub const PASSWORD: &str = "gatehouse-test";

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ends sessions, writes a checkpoint.
    Fast,
    /// Like a crash: recovery at the next start.
    Immediate,
}

/// A server on a free port; stopped on drop.
#[derive(Debug)]
pub struct Postgres {
    installation: PathBuf,
    folder: Folder,
    port: u16,
    /// Settings beyond those of every test server.
    settings: Vec<String>,
    process: Mutex<Option<Process>>,
}

/// A database of a test.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Port of the server on 127.0.0.1.
    pub port: u16,
}

impl Postgres {
    /// Starts a new server, for a test that stops it. Takes half a second, and `initdb` the first time.
    ///
    /// # Errors
    /// If there is no Postgres with pgvector (the message says how to install it), or if it does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same with further settings, e.g. `wal_level=logical`.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_with(settings: &[&str]) -> Result<Self> {
        let (installation, template) = template()?;
        let folder = Folder::new("postgres")?;
        own(folder.path())?;
        let copy = ["-a", &text(&template), &text(&folder.path().join("data"))].map(str::to_owned);
        unprivileged(Launch::new("cp", folder.path().join("cp.log")).args(copy)).run(INITDB_TIMEOUT)?;
        let server = Self {
            installation: installation.clone(),
            folder,
            port: ports::free_port()?,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            process: Mutex::new(None),
        };
        server.restart()?;
        Ok(server)
    }

    /// One server for all tests of this process: for tests that only need a database.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Postgres, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Self::start().map_err(|e| format!("{e:#}")));
        shared.as_ref().map_err(|words| anyhow!("{words}"))
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it again on the same port with the same data. Does nothing if it runs.
    ///
    /// # Errors
    /// If it does not start.
    pub fn restart(&self) -> Result<()> {
        let mut process = self.lock()?;
        if process.is_some() {
            return Ok(());
        }
        let data = text(&self.folder.path().join("data"));
        let sockets = text(self.folder.path());
        let mut arguments =
            vec!["-D".to_owned(), data, "-p".into(), self.port.to_string(), "-k".into(), sockets];
        // fsync is off: the test does not cover the machine's disk.
        let always = [
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "full_page_writes=off",
            "shared_buffers=32MB",
            "max_connections=60",
            "max_wal_size=256MB",
            "log_min_messages=warning",
        ];
        for setting in always.into_iter().map(str::to_owned).chain(self.settings.iter().cloned()) {
            arguments.extend(["-c".to_owned(), setting]);
        }
        let mut launch =
            Launch::new(self.installation.join("bin/postgres"), self.folder.path().join("server.log"))
                .args(arguments);
        launch.death_signal = "QUIT";
        let mut child = unprivileged(launch).spawn()?;
        let ready = wait::until("Postgres to listen", START_TIMEOUT, || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
                || child.ended().is_ok_and(|status| status.is_some())
        });
        if ready.is_err() || child.ended()?.is_some() {
            return Err(anyhow!("Postgres did not start:\n{}", child.log_tail(4000)));
        }
        *process = Some(child);
        Ok(())
    }

    /// Stops it; its port then refuses connections.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop(&self, how: Stop) -> Result<()> {
        let Some(mut process) = self.lock()?.take() else { return Ok(()) };
        let signal = if how == Stop::Fast { Signal::Interrupt } else { Signal::Quit };
        process.stop(signal, STOP_TIMEOUT).map(drop)
    }

    /// Makes a database with a unique name that begins with `prefix`. pgvector can be created in it.
    ///
    /// # Errors
    /// If the server does not answer or refuses.
    pub async fn create_database(&self, prefix: &str) -> Result<Database> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let database = Database { name: format!("{prefix}_{number}"), port: self.port };
        self.create_exact(&database.name).await?;
        Ok(database)
    }

    /// Makes a database of exactly this name (the contract names one per environment).
    ///
    /// # Errors
    /// As [`Postgres::create_database`].
    pub async fn create_exact(&self, name: &str) -> Result<Database> {
        let admin = Database { name: "postgres".into(), port: self.port }.ready().await?;
        admin.batch_execute(&format!("CREATE DATABASE \"{name}\"")).await.context("CREATE DATABASE")?;
        Ok(Database { name: name.to_owned(), port: self.port })
    }

    /// Replaces a database by a copy of another one, which is made from it or restored to it. Sessions of both are ended.
    ///
    /// # Errors
    /// As [`Postgres::create_database`].
    pub async fn copy_database(&self, from: &str, to: &str) -> Result<()> {
        let admin = Database { name: "postgres".into(), port: self.port }.ready().await?;
        // No session may begin until the copy is complete.
        admin.batch_execute(&format!("ALTER DATABASE \"{from}\" ALLOW_CONNECTIONS false")).await?;
        admin.batch_execute(&format!("DROP DATABASE IF EXISTS \"{to}\" WITH (FORCE)")).await?;
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
        loop {
            admin.query(end, &[&from]).await?;
            let copy = format!("CREATE DATABASE \"{to}\" TEMPLATE \"{from}\"");
            match admin.batch_execute(&copy).await {
                Ok(()) => break,
                // A session that was ended is still on its way out.
                Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) => {}
                Err(error) => return Err(error).context("CREATE DATABASE of a copy"),
            }
        }
        admin.batch_execute(&format!("ALTER DATABASE \"{from}\" ALLOW_CONNECTIONS true")).await?;
        Ok(())
    }

    /// The end of the server's log.
    pub fn log_tail(&self) -> String {
        crate::process::tail(&self.folder.path().join("server.log"), 8000)
    }

    fn lock(&self) -> Result<std::sync::MutexGuard<'_, Option<Process>>> {
        self.process.lock().map_err(|_| anyhow!("a test panicked while it held the server"))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The children of a killed postmaster notice it late, so it is stopped first.
        let _ = self.stop(Stop::Immediate);
    }
}

impl Database {
    /// `postgres://user@host:port/name`, without the password.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same database through another port, e.g. that of a proxy.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{port}/{}", self.name)
    }

    /// A client; its connection runs on the caller's runtime.
    ///
    /// # Errors
    /// If the server does not answer or refuses.
    pub async fn connect(&self) -> Result<Client> {
        self.connect_as(SUPERUSER, PASSWORD).await
    }

    /// A client of another role.
    ///
    /// # Errors
    /// As [`Database::connect`].
    pub async fn connect_as(&self, user: &str, password: &str) -> Result<Client> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(user).password(password).dbname(&self.name);
        config.connect_timeout(Duration::from_secs(5));
        let (client, connection) =
            config.connect(NoTls).await.context("cannot connect to the test's Postgres")?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// A client, after the server has started.
    ///
    /// # Errors
    /// As [`Database::connect`], after the timeout of a start.
    pub async fn ready(&self) -> Result<Client> {
        let end = tokio::time::Instant::now() + START_TIMEOUT;
        loop {
            match self.connect().await {
                Ok(client) => return Ok(client),
                Err(error) if tokio::time::Instant::now() > end => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

/// Installation and initialised data folder, made once per process.
fn template() -> Result<(PathBuf, PathBuf)> {
    static TEMPLATE: OnceLock<Result<(PathBuf, Folder), String>> = OnceLock::new();
    let made = TEMPLATE.get_or_init(|| make_template().map_err(|e| format!("{e:#}")));
    let (installation, folder) = made.as_ref().map_err(|words| anyhow!("{words}"))?;
    Ok((installation.clone(), folder.path().join("data")))
}

fn make_template() -> Result<(PathBuf, Folder)> {
    let folder = Folder::new("initdb")?;
    own(folder.path())?;
    let installation = reachable(installation()?, folder.path())?;
    let password = folder.path().join("password");
    std::fs::write(&password, PASSWORD)?;
    let arguments = [
        format!("--pgdata={}", text(&folder.path().join("data"))),
        format!("--username={SUPERUSER}"),
        format!("--pwfile={}", text(&password)),
        "--auth=scram-sha-256".into(),
        "--encoding=UTF8".into(),
        "--locale=C".into(),
        "--no-sync".into(),
        "--no-instructions".into(),
        "--wal-segsize=4".into(),
    ];
    let launch =
        Launch::new(installation.join("bin/initdb"), folder.path().join("initdb.log")).args(arguments);
    unprivileged(launch).run(INITDB_TIMEOUT)?;
    Ok((installation, folder))
}

/// The installation, or a copy of it if the unprivileged user cannot read it (a checkout below /root).
fn reachable(installation: PathBuf, folder: &Path) -> Result<PathBuf> {
    if !is_root() {
        return Ok(installation);
    }
    let probe = unprivileged(Launch::new("test", folder.join("probe.log")))
        .args(["-x".to_owned(), text(&installation.join("bin/postgres"))]);
    if probe.run(INITDB_TIMEOUT).is_ok() {
        return Ok(installation);
    }
    let copy = folder.join("installation");
    let arguments = ["-a".to_owned(), text(&installation), text(&copy)];
    Launch::new("cp", folder.join("cp.log")).args(arguments).run(INITDB_TIMEOUT)?;
    Ok(copy)
}

fn unprivileged(mut launch: Launch) -> Launch {
    launch.user = is_root().then_some(UNPRIVILEGED_USER);
    launch.env("PGTZ", "UTC")
}

/// Gives a folder to the user that the server runs as.
///
/// # Errors
/// If the system refuses.
pub fn own(folder: &Path) -> Result<()> {
    if is_root() {
        chown(folder, Some(UNPRIVILEGED_USER), Some(UNPRIVILEGED_USER))?;
    }
    Ok(())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_survives_a_crash_and_has_vectors() {
        let server = Postgres::start().unwrap();
        let database = server.create_database("crash").await.unwrap();
        let client = database.connect().await.unwrap();
        client.batch_execute("CREATE EXTENSION vector; CREATE TABLE t (v vector(3))").await.unwrap();
        client.batch_execute("INSERT INTO t VALUES ('[1,2,3]'); CHECKPOINT").await.unwrap();
        server.stop(Stop::Immediate).unwrap();
        assert!(database.connect().await.is_err());
        server.restart().unwrap();
        let client = database.ready().await.unwrap();
        let row = client.query_one("SELECT v <-> '[1,2,5]' FROM t", &[]).await.unwrap();
        assert!((row.get::<_, f64>(0) - 2.0).abs() < 1e-9);
        assert!(database.connect_as(SUPERUSER, "wrong").await.is_err());
    }
}
