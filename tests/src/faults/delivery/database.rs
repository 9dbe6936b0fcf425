//! Faults of a database server, produced by a real one.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use gatehouse_testkit::folder::Folder;
use gatehouse_testkit::postgres::{Database, Stop};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::site::Site;

/// How often a session checks whether the daemon waits for it.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long a sign-in that has begun may take.
const SIGN_IN_TIMEOUT: Duration = Duration::from_millis(300);
/// Time between two repetitions of the fault.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The sessions of the daemon.
const CUT: &str =
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'gatehouse'";
/// Whether a session waits for a lock.
const WAITS: &str = "select 1 from pg_locks where not granted";
/// The cursor, as the daemon locks it.
const LOCK_CURSOR: &str = "update gatehouse.device_cursors set moved_at = now()";
/// Room of a disk that will be full.
const DISK: &str = "size=4m";

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It crashed.
    Stopped,
    /// It takes no change.
    ReadOnly,
    /// Another session and the daemon wait for each other, and it is the daemon that gives way.
    Deadlock,
    /// Another session changed what the daemon was about to, and the database is set up to mind.
    Serialization,
    /// The disk with the events is full.
    DiskFull,
    /// The password has expired.
    Expired,
    /// It is gone, and its standby is not promoted yet.
    Failover,
}

/// What must be undone.
#[derive(Default)]
pub(super) struct Held {
    client: Option<Client>,
    session: Option<JoinHandle<Result<()>>>,
    disk: Option<Disk>,
}

impl Trouble {
    pub(super) async fn begin(self, site: &mut Site) -> Result<Option<Held>> {
        let client = site.setup.database.ready().await?;
        let mut held = Held::default();
        match self {
            Self::Stopped => site.setup.postgres.stop(Stop::Immediate)?,
            Self::ReadOnly => {
                client.batch_execute("alter system set default_transaction_read_only = on").await?;
                client.batch_execute("select pg_reload_conf()").await?;
            }
            Self::Deadlock => {
                // Held by this session first, so that the daemon gets the cursor and waits for the events.
                client.batch_execute("set deadlock_timeout = '1h'; begin; lock gatehouse.events").await?;
                held.session = Some(tokio::spawn(deadlock(client)));
                return Ok(Some(held));
            }
            Self::Serialization => {
                let database = &site.setup.database.name;
                let strict = format!(
                    "alter database {database} set default_transaction_isolation = 'repeatable read'"
                );
                client.batch_execute(&strict).await?;
                cut(&client).await?;
                client.batch_execute(&format!("begin; {LOCK_CURSOR}")).await?;
                held.session = Some(tokio::spawn(serialization(client)));
                return Ok(Some(held));
            }
            Self::DiskFull => match Disk::mount() {
                Ok(disk) => held.disk = Some(disk.fill(&client).await?),
                Err(_) => return Ok(None),
            },
            Self::Expired => {
                client.batch_execute("alter role postgres valid until '2001-01-01'").await?;
                cut(&client).await?;
            }
            Self::Failover => {
                let standby = site.setup.postgres.standby()?;
                site.setup.postgres.stop(Stop::Immediate)?;
                site.rows_line.lead_to(standby.port());
                site.standby = Some(standby);
            }
        }
        held.client = Some(client);
        Ok(Some(held))
    }

    pub(super) async fn end(self, site: &mut Site, mut held: Held) -> Result<()> {
        if let Some(session) = held.session.take() {
            // Its connection ends with it, and what it held is free.
            session.abort();
            let _ = session.await;
        }
        let client = held.client.take();
        let run = async |text: &str| {
            client.as_ref().context("a session")?.batch_execute(text).await.context("undo")
        };
        match self {
            Self::Stopped => site.setup.postgres.restart()?,
            Self::ReadOnly => {
                run("set default_transaction_read_only = off").await?;
                run("alter system reset default_transaction_read_only").await?;
                run("select pg_reload_conf()").await?;
            }
            Self::Deadlock => {}
            Self::Serialization => {
                let database = &site.setup.database;
                let reset = format!("alter database {} reset default_transaction_isolation", database.name);
                database.ready().await?.batch_execute(&format!("{reset}; {CUT}")).await?;
            }
            Self::DiskFull => {
                let disk = held.disk.take().context("a disk")?;
                disk.empty(client.as_ref().context("a session")?).await?;
            }
            Self::Expired => run("alter role postgres valid until 'infinity'").await?,
            Self::Failover => {
                let standby = site.standby.as_ref().context("a standby")?;
                standby.promote().await?;
                site.setup.database = Database { port: standby.port(), ..site.setup.database.clone() };
            }
        }
        Ok(())
    }
}

/// Makes the daemon sign in again, so that the change applies.
async fn cut(client: &Client) -> Result<()> {
    // Who is about to sign in is not listed yet.
    tokio::time::sleep(SIGN_IN_TIMEOUT).await;
    client.batch_execute(CUT).await?;
    Ok(())
}

async fn a_session_waits(client: &Client) -> Result<()> {
    while client.query_opt(WAITS, &[]).await?.is_none() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// The daemon waits for this session, and now this one for the daemon.
async fn deadlock(client: Client) -> Result<()> {
    a_session_waits(&client).await?;
    client.batch_execute(LOCK_CURSOR).await?;
    std::future::pending().await
}

/// The daemon waits for the cursor and gets it changed; then it waits again. More than once, since who waits may be
/// another.
async fn serialization(client: Client) -> Result<()> {
    loop {
        a_session_waits(&client).await?;
        client.batch_execute(&format!("commit; begin; {LOCK_CURSOR}")).await?;
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// A small disk with the events on it, mounted while this lives.
struct Disk {
    folder: Folder,
    events: String,
}

impl Disk {
    fn mount() -> Result<Self> {
        let folder = Folder::new("full")?;
        let made =
            Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(folder.path()).output()?;
        anyhow::ensure!(made.status.success(), "a small disk takes root");
        Ok(Self { folder, events: String::new() })
    }

    async fn fill(mut self, client: &Client) -> Result<Self> {
        let inside: PathBuf = self.folder.path().join("space");
        std::fs::create_dir(&inside)?;
        gatehouse_testkit::postgres::own(&inside)?;
        let query = "select inhrelid::regclass::text from pg_inherits where inhparent = 'gatehouse.events'::regclass \
                     and exists (select 1 from gatehouse.events e where e.tableoid = inhrelid)";
        self.events = client.query_one(query, &[]).await.context("the month of the events")?.get(0);
        let location = format!("create tablespace small location '{}'", inside.display());
        client.batch_execute(&location).await?;
        client.batch_execute(&format!("alter table {} set tablespace small", self.events)).await?;
        client.batch_execute("create table public.filler (t text) tablespace small").await?;
        let row = "insert into public.filler select repeat('x', 1000) from generate_series(1, 100)";
        while client.batch_execute(row).await.is_ok() {}
        Ok(self)
    }

    async fn empty(self, client: &Client) -> Result<()> {
        client.batch_execute("drop table public.filler").await?;
        client.batch_execute(&format!("alter table {} set tablespace pg_default", self.events)).await?;
        client.batch_execute("drop tablespace small").await.context("drop the tablespace")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).output();
    }
}
