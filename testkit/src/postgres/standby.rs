//! A second server that follows a first one by streaming replication, until it is promoted.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Database, PASSWORD, Postgres, SUPERUSER, own, text, unprivileged};
use crate::folder::Folder;
use crate::process::Launch;
use crate::{ports, wait};

/// A base backup of a small server takes a second.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(60);
/// A promotion takes about a second.
const PROMOTE_TIMEOUT: Duration = Duration::from_secs(60);

impl Postgres {
    /// Starts a read-only copy of this server that follows it.
    ///
    /// # Errors
    /// If the copy cannot be made or does not start.
    pub fn standby(&self) -> Result<Self> {
        let folder = Folder::new("standby")?;
        own(folder.path())?;
        let arguments = [
            "--host=127.0.0.1".to_owned(),
            format!("--port={}", self.port),
            format!("--username={SUPERUSER}"),
            format!("--pgdata={}", text(&folder.path().join("data"))),
            "--checkpoint=fast".into(),
            "--wal-method=stream".into(),
            "--write-recovery-conf".into(),
            "--no-sync".into(),
        ];
        let backup =
            Launch::new(self.installation.join("bin/pg_basebackup"), folder.path().join("backup.log"));
        unprivileged(backup.args(arguments).env("PGPASSWORD", PASSWORD)).run(BACKUP_TIMEOUT)?;
        let standby = Self {
            installation: self.installation.clone(),
            folder,
            port: ports::free_port()?,
            settings: self.settings.clone(),
            process: Mutex::new(None),
        };
        standby.restart()?;
        Ok(standby)
    }

    /// Promotes a standby, which can then be written to.
    ///
    /// # Errors
    /// If the promotion takes too long.
    pub async fn promote(&self) -> Result<()> {
        let database = Database { name: "postgres".into(), port: self.port };
        let client = database.ready().await?;
        client.execute("select pg_promote(wait => false)", &[]).await.context("pg_promote")?;
        wait::until_async("the standby to be promoted", PROMOTE_TIMEOUT, || async {
            let row = client.query_one("select pg_is_in_recovery()", &[]).await;
            row.is_ok_and(|row| !row.get::<_, bool>(0))
        })
        .await
    }
}
