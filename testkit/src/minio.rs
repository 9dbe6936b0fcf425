//! A real MinIO server, if its binary is available. The same S3 tests run against it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::folder::Folder;
use crate::objects::Objects;
use crate::postgres::services_folders;
use crate::process::{Launch, Process, Signal, find_program};
use crate::require::Need;
use crate::{ports, wait};

/// Environment variable with the path of the binary.
pub const MINIO_VARIABLE: &str = "GATEHOUSE_TEST_MINIO";
/// A first start formats its drive in about a second.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// It finishes running requests first.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A server on a free port; stopped on drop.
#[derive(Debug)]
pub struct Minio {
    binary: PathBuf,
    folder: Folder,
    port: u16,
    process: Mutex<Option<Process>>,
}

/// The binary of the server; none if it is not installed (building it needs Go).
pub fn binary() -> Option<PathBuf> {
    let named = std::env::var_os(MINIO_VARIABLE).map(PathBuf::from);
    let services = services_folders().into_iter().map(|folder| folder.join("minio"));
    named.into_iter().chain(services).find(|file| file.is_file()).or_else(|| find_program("minio"))
}

impl Minio {
    /// Starts a server with an empty folder.
    ///
    /// # Errors
    /// If there is no binary, or if it does not start.
    pub fn start() -> Result<Self> {
        let Some(binary) = binary() else {
            bail!("no MinIO server: name its binary in {MINIO_VARIABLE} (`./run test` builds it where Go is)")
        };
        let folder = Folder::new("minio")?;
        let server = Self { binary, folder, port: ports::free_port()?, process: Mutex::default() };
        server.restart()?;
        Ok(server)
    }

    /// Starts one, or returns none if there is no binary and no test requires one.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_if_present() -> Result<Option<Self>> {
        if Need::Minio.is_missing(binary().is_some()) { Ok(None) } else { Self::start().map(Some) }
    }

    /// The folder in which the server keeps its objects.
    pub fn files(&self) -> &Path {
        self.folder.path()
    }

    /// Endpoint and credentials.
    pub fn objects(&self) -> Objects {
        Objects {
            endpoint: format!("http://127.0.0.1:{}", self.port),
            region: "us-east-1".into(),
            access_key: "gatehouse".into(),
            secret_key: "gatehouse-secret".into(),
        }
    }

    /// Credentials for a quarter of an hour with the permissions of a policy (JSON): access key, secret key, session
    /// token. None if `curl`, which signs the request, is not installed and no test requires it.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn session(&self, policy: &str) -> Result<Option<[String; 3]>> {
        let curl = find_program("curl");
        if Need::Curl.is_missing(curl.is_some()) {
            return Ok(None);
        }
        let curl = curl.context("no curl")?;
        let objects = self.objects();
        let answer = Command::new(curl)
            .args(["--silent", "--max-time", "30", "--aws-sigv4", "aws:amz:us-east-1:sts", "--user"])
            .arg(format!("{}:{}", objects.access_key, objects.secret_key))
            .args(["--data", "Action=AssumeRole&Version=2011-06-15&DurationSeconds=900"])
            .args(["--data-urlencode", &format!("Policy={policy}"), &objects.endpoint])
            .output()?;
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        let field = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            rest.split_once('<').map(|(value, _)| value.to_owned())
        };
        match (field("AccessKeyId"), field("SecretAccessKey"), field("SessionToken")) {
            (Some(access), Some(secret), Some(token)) => Ok(Some([access, secret, token])),
            _ => bail!("MinIO gave no keys: {text}"),
        }
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops it; its port then refuses connections.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop(&self) -> Result<()> {
        let process =
            self.process.lock().map_err(|_| anyhow!("a test panicked while it held the server"))?.take();
        process.map_or(Ok(()), |mut process| process.stop(Signal::Term, STOP_TIMEOUT).map(drop))
    }

    /// Starts it again on the same port with the same objects. Does nothing if it runs.
    ///
    /// # Errors
    /// If it does not start.
    pub fn restart(&self) -> Result<()> {
        let mut process =
            self.process.lock().map_err(|_| anyhow!("a test panicked while it held the server"))?;
        if process.is_some() {
            return Ok(());
        }
        let objects = self.objects();
        let address = format!("127.0.0.1:{}", self.port);
        let data = self.folder.path().join("data").to_string_lossy().into_owned();
        let child = Launch::new(&self.binary, self.folder.path().join("server.log"))
            .args(["server", "--quiet", "--address", &address, &data])
            .env("MINIO_ROOT_USER", &objects.access_key)
            .env("MINIO_ROOT_PASSWORD", &objects.secret_key)
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            .env("HOME", &self.folder.path().to_string_lossy())
            .spawn()?;
        let ready = wait::until("MinIO to be ready", START_TIMEOUT, || healthy(self.port));
        if let Err(error) = ready {
            bail!("{error}:\n{}", child.log_tail(4000));
        }
        *process = Some(child);
        Ok(())
    }
}

/// It listens and reports ready before it serves. When it serves, it refuses an unsigned listing with 403.
fn healthy(port: u16) -> bool {
    use std::io::{Read, Write};
    let ask = || -> std::io::Result<bool> {
        let mut socket = std::net::TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = [0; 12];
        socket.read_exact(&mut answer)?;
        Ok(answer.ends_with(b" 403"))
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_real_server_keeps_objects_over_a_restart() {
        let Some(server) = Minio::start_if_present().unwrap() else { return };
        let objects = server.objects();
        objects.create_bucket("bucket").await.unwrap();
        objects.put("bucket", "a/b", b"hello".to_vec()).await.unwrap();
        server.stop().unwrap();
        server.restart().unwrap();
        assert_eq!(objects.get("bucket", "a/b").await.unwrap(), b"hello");
    }
}
