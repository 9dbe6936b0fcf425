//! Runs the built `gatehoused` and `gatehouse`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::folder::Folder;
use crate::objects::Objects;
use crate::postgres::PASSWORD;
use crate::process::{Launch, Process, Signal};
use crate::wait;

mod binaries;
mod notify;

pub use binaries::binary;
use notify::Notifications;

/// A start in a debug build with thousands of records to replay takes a few seconds.
pub const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// The daemon's own shutdown deadline is below this.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Settings of the daemon.
#[derive(Debug, Clone, Default)]
pub struct DaemonOptions {
    /// Device id.
    pub device: String,
    /// URL of the broker.
    pub mqtt_url: String,
    /// URL of central Postgres without the password.
    pub rows_url: Option<String>,
    /// Central S3.
    pub objects: Option<Objects>,
    /// Bucket; if none, the contract's name for environment dev.
    pub bucket: Option<String>,
    /// Further settings: lines of TOML by section, appended to the sections above.
    pub settings: BTreeMap<String, String>,
    /// Further variables of its environment.
    pub environment: Vec<(String, String)>,
    /// A program with its arguments that runs the daemon, such as `strace -D`; if none, the daemon runs directly.
    pub wrapper: Vec<String>,
}

/// A daemon with its own state directory; killed on drop.
#[derive(Debug)]
pub struct Daemon {
    folder: Folder,
    options: DaemonOptions,
    process: Option<Process>,
    notifications: Notifications,
    programs: Option<PathBuf>,
}

/// The result of a command of the operator's tool.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Daemon {
    /// Writes configuration, secrets and a root key; does not start the daemon.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn new(options: DaemonOptions) -> Result<Self> {
        let folder = Folder::new("daemon")?;
        let notifications = Notifications::listen(&folder.path().join("notify.sock"))?;
        let daemon = Self { folder, options, process: None, notifications, programs: None };
        let key: [u8; 32] = std::array::from_fn(|_| fastrand::u8(..));
        daemon.secret("root.key", &key)?;
        daemon.secret("rows-password", PASSWORD.as_bytes())?;
        if let Some(objects) = &daemon.options.objects {
            daemon.secret("access-key", objects.access_key.as_bytes())?;
            daemon.secret("secret-key", objects.secret_key.as_bytes())?;
        }
        daemon.write_config()?;
        Ok(daemon)
    }

    /// Uses `gatehoused` and `gatehouse` of this folder instead of building and finding them.
    pub fn use_programs(&mut self, folder: PathBuf) {
        self.programs = Some(folder);
    }

    /// Changes the settings; the next start uses them.
    ///
    /// # Errors
    /// If the configuration cannot be written.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut DaemonOptions)) -> Result<()> {
        change(&mut self.options);
        self.write_config()
    }

    /// Starts it and waits until it notifies READY.
    ///
    /// # Errors
    /// If it ends or is not ready in time; the message contains the end of its log.
    pub fn start(&mut self) -> Result<()> {
        self.launch()?;
        self.wait_ready(READY_TIMEOUT)
    }

    /// Starts it without waiting.
    ///
    /// # Errors
    /// If the binary is missing.
    pub fn launch(&mut self) -> Result<()> {
        if self.running() {
            bail!("the daemon is already running");
        }
        self.notifications.clear();
        let config = self.config_file().to_string_lossy().into_owned();
        let mut words = self.options.wrapper.clone();
        words.push(self.program("gatehoused")?.display().to_string());
        let program = words.remove(0);
        let mut launch = Launch::new(program, self.log_file())
            .args(words)
            .args(["--config", &config])
            .env("NOTIFY_SOCKET", &self.folder.path().join("notify.sock").to_string_lossy());
        launch.environment.extend(self.options.environment.iter().cloned());
        self.process = Some(launch.spawn()?);
        Ok(())
    }

    /// Waits for READY.
    ///
    /// # Errors
    /// If it ends, or `timeout` has passed; with the end of its log.
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<()> {
        let end = Instant::now() + timeout;
        while !self.notifications.contain("READY=1") {
            if !self.running() {
                bail!("gatehoused ended before it was ready:\n{}", self.log_tail());
            }
            if Instant::now() > end {
                bail!("gatehoused was not ready within {} s:\n{}", timeout.as_secs(), self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until all its connections to the broker exist, the inputs subscribed: until then a broker that does not know
    /// it yet drops what a camera publishes.
    ///
    /// # Errors
    /// After `timeout`; with the end of its log.
    pub fn wait_connected(&self, timeout: Duration) -> Result<()> {
        let connected = || self.json(&["status"]).is_ok_and(|status| status["broker"]["connected"] == true);
        wait::until("the daemon to be connected to the broker", timeout, connected)
            .with_context(|| self.log_tail())
    }

    /// Whether it runs.
    pub fn running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_ok_and(|status| status.is_none()))
    }

    /// Process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    /// If it had already ended by itself; with the end of its log.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { bail!("the daemon does not run") };
        if let Some(status) = process.ended()? {
            bail!("gatehoused had ended by itself with {status}:\n{}", self.log_tail());
        }
        process.kill()
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// If it had ended before, or had to be killed; with the end of its log.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        let Some(mut process) = self.process.take() else { bail!("the daemon does not run") };
        process.stop(Signal::Term, STOP_TIMEOUT)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.as_mut().ok_or_else(|| anyhow!("the daemon does not run"))?.signal(signal)
    }

    /// Its notifications to the service manager since the last start.
    pub fn notified(&self) -> Vec<String> {
        self.notifications.all()
    }

    /// Runs `gatehouse` with these arguments (and the socket).
    ///
    /// # Errors
    /// If the binary cannot be run.
    pub fn cli(&self, arguments: &[&str]) -> Result<Answer> {
        let mut command = Command::new(self.program("gatehouse")?);
        command.arg("--socket").arg(self.socket());
        let output = command.args(arguments).output()?;
        Ok(Answer {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs `gatehouse --json` with these arguments.
    ///
    /// # Errors
    /// If it fails or does not answer with JSON; the message contains its output.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let answer = self.cli(&all)?;
        if answer.code != 0 {
            bail!(
                "`gatehouse {}` ended with {}:\n{}{}",
                all.join(" "),
                answer.code,
                answer.stdout,
                answer.stderr
            );
        }
        serde_json::from_str(&answer.stdout)
            .with_context(|| format!("`gatehouse {}` returned:\n{}", all.join(" "), answer.stdout))
    }

    /// Enrolls a person with the operator's tool, even if an encoding is nearer to another person: of many synthetic
    /// people some are.
    ///
    /// # Errors
    /// If the tool refuses.
    pub fn enroll(&self, id: &str, name: &str, encodings: &[Vec<f32>]) -> Result<Value> {
        let file = self.folder.path().join("enroll.json");
        std::fs::write(&file, serde_json::to_vec(encodings)?)?;
        let path = file.to_string_lossy().into_owned();
        let all = ["person", "enroll", "--force", "--id", id, "--name", name, "--encodings", &path];
        let answer = self.json(&all);
        std::fs::remove_file(&file)?;
        answer
    }

    /// Runs `gatehouse central init`.
    ///
    /// # Errors
    /// If it fails; the message contains its output.
    pub fn central_init(&self) -> Result<()> {
        let config = self.config_file().to_string_lossy().into_owned();
        let answer = self.cli(&["central", "init", "--config", &config])?;
        if answer.code != 0 {
            bail!("`gatehouse central init` ended with {}:\n{}{}", answer.code, answer.stdout, answer.stderr);
        }
        Ok(())
    }

    /// Its folder: configuration, secrets, log, and the state below it.
    pub fn folder(&mut self) -> &mut Folder {
        &mut self.folder
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("gatehouse.toml")
    }

    /// Its log: standard output and error of all runs.
    pub fn log_file(&self) -> PathBuf {
        self.folder.path().join("gatehoused.log")
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        crate::process::tail(&self.log_file(), 12_000)
    }

    fn program(&self, name: &str) -> Result<PathBuf> {
        self.programs.as_ref().map_or_else(|| binary(name), |folder| Ok(folder.join(name)))
    }

    fn secret(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(())
    }

    fn write_config(&self) -> Result<()> {
        std::fs::write(self.config_file(), config_text(&self.options, self.folder.path())?)?;
        Ok(())
    }
}

fn config_text(options: &DaemonOptions, folder: &Path) -> Result<String> {
    let path = |name: &str| format!("\"{}\"", folder.join(name).display());
    let mut sections: BTreeMap<&str, String> = BTreeMap::from([
        ("device", format!("id = \"{}\"\nsite = \"test\"\nenvironment = \"dev\"\n", options.device)),
        ("state", format!("directory = {}\n", path("state"))),
        ("mqtt", format!("url = \"{}\"\n", options.mqtt_url)),
        ("keys", format!("root_key_file = {}\n", path("root.key"))),
        ("control", format!("socket = {}\n", path("control.sock"))),
    ]);
    if let Some(url) = &options.rows_url {
        sections
            .insert("central.rows", format!("url = \"{url}\"\npassword_file = {}\n", path("rows-password")));
    }
    if let Some(objects) = &options.objects {
        let mut text = format!("endpoint = \"{}\"\nregion = \"{}\"\n", objects.endpoint, objects.region);
        writeln!(text, "access_key_file = {}\nsecret_key_file = {}", path("access-key"), path("secret-key"))?;
        if let Some(bucket) = &options.bucket {
            writeln!(text, "bucket = \"{bucket}\"")?;
        }
        sections.insert("central.objects", text);
    }
    for (section, lines) in &options.settings {
        sections.entry(section).or_default().push_str(lines);
    }
    let mut text = String::new();
    for (section, lines) in sections {
        writeln!(text, "[{section}]\n{lines}")?;
    }
    Ok(text)
}
