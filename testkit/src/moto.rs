//! moto, an S3 mock written in Python, if its Python is named. The same S3 tests run against it. It keeps objects in
//! memory and checks no signatures.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::folder::Folder;
use crate::objects::Objects;
use crate::process::{Launch, Process};
use crate::require::Need;
use crate::{ports, wait};

/// Environment variable with the path of a Python that has `moto[server]`.
pub const MOTO_VARIABLE: &str = "GATEHOUSE_TEST_MOTO";
/// It loads all of its services first.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A server on a free port; stopped on drop.
#[derive(Debug)]
pub struct Moto {
    port: u16,
    _process: Mutex<Process>,
    _folder: Folder,
}

/// The Python that has it; none if none is named.
pub fn python() -> Option<PathBuf> {
    std::env::var_os(MOTO_VARIABLE).map(PathBuf::from).filter(|path| path.is_file())
}

impl Moto {
    /// Starts a server without a bucket.
    ///
    /// # Errors
    /// If no Python is named, or if it does not start.
    pub fn start() -> Result<Self> {
        let python =
            python().with_context(|| format!("name a Python with moto[server] in {MOTO_VARIABLE}"))?;
        let (folder, port) = (Folder::new("moto")?, ports::free_port()?);
        let process = Launch::new(python, folder.path().join("server.log"))
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .spawn()?;
        wait::until_listening(port, START_TIMEOUT)
            .map_err(|error| anyhow!("{error}:\n{}", process.log_tail(4000)))?;
        Ok(Self { port, _process: Mutex::new(process), _folder: folder })
    }

    /// Starts one, or returns none if no Python is named and no test requires one.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_if_present() -> Result<Option<Self>> {
        if Need::Moto.is_missing(python().is_some()) { Ok(None) } else { Self::start().map(Some) }
    }

    /// Endpoint and credentials, which it ignores.
    pub fn objects(&self) -> Objects {
        Objects {
            endpoint: format!("http://127.0.0.1:{}", self.port),
            region: "us-east-1".into(),
            access_key: "gatehouse".into(),
            secret_key: "gatehouse-secret".into(),
        }
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}
