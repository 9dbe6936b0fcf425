//! A real mosquitto.
//!
//! Persistence is on, so that a restart keeps sessions and queued messages. [`Broker::kill`] loses them, like a power
//! cut.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::certs::Certificates;
use crate::folder::Folder;
use crate::process::{Launch, Process, Signal, find_program};
use crate::{ports, wait};

/// It usually listens within 0.1 s.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// It writes its state before it exits.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Settings of the broker.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Users and passwords; if empty, every client may connect.
    pub users: Vec<(String, String)>,
    /// Lines of an ACL file; if empty, every client may use every topic.
    pub acl: String,
    /// TLS with generated certificates.
    pub tls: bool,
    /// With TLS: clients must present a certificate.
    pub client_certificates: bool,
    /// QoS 1 messages in flight to one client.
    pub inflight: u16,
    /// `set_tcp_nodelay true`; mosquitto's own default is false.
    pub nodelay: bool,
    /// Further lines of its configuration.
    pub extra: String,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            users: Vec::new(),
            acl: String::new(),
            tls: false,
            client_certificates: false,
            // With mosquitto's default of 20 the broker is the bottleneck of every measurement.
            inflight: 1000,
            nodelay: true,
            extra: String::new(),
        }
    }
}

/// A broker on a free port; stopped on drop.
#[derive(Debug)]
pub struct Broker {
    folder: Folder,
    port: u16,
    certificates: Option<Certificates>,
    process: Mutex<Option<Process>>,
}

impl Broker {
    /// Starts a broker with default options.
    ///
    /// # Errors
    /// If mosquitto is missing (the message says how to install it) or does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(&BrokerOptions::default())
    }

    /// Starts a broker with options.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub fn start_with(options: &BrokerOptions) -> Result<Self> {
        let folder = Folder::new("mosquitto")?;
        let port = ports::free_port()?;
        let certificates = options.tls.then(|| Certificates::make(folder.path())).transpose()?;
        std::fs::write(
            folder.path().join("mosquitto.conf"),
            config(options, &folder, port, certificates.as_ref())?,
        )?;
        let broker = Self { folder, port, certificates, process: Mutex::default() };
        broker.restart()?;
        Ok(broker)
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `mqtt://127.0.0.1:port`, or `mqtts://localhost:port` with TLS.
    pub fn url(&self) -> String {
        match self.certificates {
            Some(_) => format!("mqtts://localhost:{}", self.port),
            None => format!("mqtt://127.0.0.1:{}", self.port),
        }
    }

    /// Its certificates if it uses TLS.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// Stops it with SIGTERM: sessions and queues are written.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop(&self) -> Result<()> {
        let process = self.lock()?.take();
        process.map_or(Ok(()), |mut process| process.stop(Signal::Term, STOP_TIMEOUT).map(drop))
    }

    /// Sends SIGKILL: what it has not written is lost.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&self) -> Result<()> {
        let process = self.lock()?.take();
        process.map_or(Ok(()), |mut process| process.kill())
    }

    /// Starts it again on the same port. Does nothing if it runs.
    ///
    /// # Errors
    /// If it does not start.
    pub fn restart(&self) -> Result<()> {
        let mut process = self.lock()?;
        if process.is_some() {
            return Ok(());
        }
        let config = self.folder.path().join("mosquitto.conf").to_string_lossy().into_owned();
        let mut child =
            Launch::new(program()?, self.folder.path().join("broker.log")).args(["-c", &config]).spawn()?;
        wait::until("mosquitto to listen", START_TIMEOUT, || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
                || child.ended().is_ok_and(|status| status.is_some())
        })?;
        if child.ended()?.is_some() {
            bail!("mosquitto did not start:\n{}", child.log_tail(4000));
        }
        *process = Some(child);
        Ok(())
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        crate::process::tail(&self.folder.path().join("broker.log"), 8000)
    }

    fn lock(&self) -> Result<std::sync::MutexGuard<'_, Option<Process>>> {
        self.process.lock().map_err(|_| anyhow!("a test panicked while it held the broker"))
    }
}

fn program() -> Result<std::path::PathBuf> {
    find_program("mosquitto").context("this test needs mosquitto and found none: `./run test` installs it")
}

fn config(
    options: &BrokerOptions,
    folder: &Folder,
    port: u16,
    certificates: Option<&Certificates>,
) -> Result<String> {
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut text = format!(
        "listener {port} 127.0.0.1\npersistence true\npersistence_location {}/\nallow_anonymous {}\n\
         max_inflight_messages {}\nmax_queued_messages 0\nlog_dest stdout\nlog_type error\nlog_type warning\n\
         set_tcp_nodelay {}\n",
        folder.path().display(),
        options.users.is_empty(),
        options.inflight,
        options.nodelay,
    );
    // As root it would change to a user that cannot write its folder; this line is ignored otherwise.
    text.push_str("user root\n");
    if !options.users.is_empty() {
        passwords(&folder.path().join("passwords"), &options.users)?;
        writeln!(text, "password_file {}", path("passwords"))?;
    }
    if !options.acl.is_empty() {
        std::fs::write(folder.path().join("acl"), &options.acl)?;
        writeln!(text, "acl_file {}", path("acl"))?;
    }
    if let Some(files) = certificates {
        writeln!(text, "cafile {}", files.ca.display())?;
        writeln!(text, "certfile {}\nkeyfile {}", files.server.display(), files.server_key.display())?;
        writeln!(text, "require_certificate {}", options.client_certificates)?;
    }
    text.push_str(&options.extra);
    Ok(text)
}

/// mosquitto's own tool hashes the passwords of a plain file in place.
fn passwords(file: &Path, users: &[(String, String)]) -> Result<()> {
    let lines: String = users.iter().map(|(user, password)| format!("{user}:{password}\n")).collect();
    std::fs::write(file, lines)?;
    let tool =
        find_program("mosquitto_passwd").context("mosquitto_passwd is missing: `./run test` installs it")?;
    let status = Command::new(tool).arg("-U").arg(file).status()?;
    if !status.success() {
        bail!("mosquitto_passwd failed");
    }
    Ok(())
}
