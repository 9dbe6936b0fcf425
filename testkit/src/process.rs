//! Child processes that never outlive the test.
//!
//! Every child gets a parent death signal from `setpriv`. The kernel sends it when the *thread* that forked ends. So all
//! children are forked by one thread that lives as long as the process.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// A signal that a test sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Interrupt,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    Hangup,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Continue,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Interrupt => "INT",
            Self::Quit => "QUIT",
            Self::Hangup => "HUP",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program: a path, or a name to be found on PATH.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables added to the environment.
    pub environment: Vec<(String, String)>,
    /// User to run as; needs root.
    pub user: Option<u32>,
    /// File that standard output and error are appended to.
    pub log: PathBuf,
    /// Signal that ends it when the test process dies.
    pub death_signal: &'static str,
}

impl Launch {
    /// A program without arguments, logging to `log`.
    pub fn new(program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            user: None,
            log: log.into(),
            death_signal: "KILL",
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// If the log cannot be opened or the program cannot be run.
    pub fn spawn(&self) -> Result<Process> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("cannot open {}", self.log.display()))?;
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig").arg(self.death_signal);
        if let Some(user) = self.user {
            command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".into()]);
        }
        command.arg("--").arg(&self.program).args(&self.arguments);
        command.envs(self.environment.iter().map(|(n, v)| (n, v)));
        // The user that it runs as may not have access to the caller's folder.
        command.current_dir(self.log.parent().unwrap_or(Path::new("/")));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = fork(command).with_context(|| format!("cannot run {}", self.program.display()))?;
        Ok(Process { child, name: self.program.display().to_string(), log: self.log.clone() })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// If it fails or takes longer than `timeout`; the message contains the end of its log.
    pub fn run(&self, timeout: Duration) -> Result<()> {
        let mut process = self.spawn()?;
        match process.wait(timeout)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{} ended with {status}:\n{}", process.name, process.log_tail(4000)),
            None => bail!("{} took longer than {} s", process.name, timeout.as_secs()),
        }
    }
}

/// A running child; killed on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status; none while it runs.
    ///
    /// # Errors
    /// If the system returns an error.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.ended()? {
            bail!("{} has already ended with {status}:\n{}", self.name, self.log_tail(4000));
        }
        // The shell's `kill` needs neither unsafe code nor another package.
        let line = format!("kill -{} {}", signal.name(), self.id());
        let status = Command::new("sh").arg("-c").arg(line).status()?;
        if !status.success() {
            bail!("{} did not take SIG{}", self.name, signal.name());
        }
        Ok(())
    }

    /// Waits for its end; none if it still runs after `timeout`.
    ///
    /// # Errors
    /// If the system returns an error.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            if Instant::now() > end {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends `signal` and waits for the end; sends SIGKILL after `timeout`.
    ///
    /// # Errors
    /// If it had to be killed.
    pub fn stop(&mut self, signal: Signal, timeout: Duration) -> Result<ExitStatus> {
        self.signal(signal)?;
        if let Some(status) = self.wait(timeout)? {
            return Ok(status);
        }
        self.kill()?;
        bail!("{} did not end within {} s:\n{}", self.name, timeout.as_secs(), self.log_tail(4000))
    }

    /// Sends SIGKILL and waits.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.child.kill()?;
            self.child.wait()?;
        }
        Ok(())
    }

    /// The last `bytes` of its log.
    pub fn log_tail(&self, bytes: usize) -> String {
        tail(&self.log, bytes)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last `bytes` of a file as text; empty if the file does not exist.
pub fn tail(path: &Path, bytes: usize) -> String {
    let mut content = Vec::new();
    if File::open(path).and_then(|mut file| file.read_to_end(&mut content)).is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&content[content.len().saturating_sub(bytes)..]).into_owned()
}

/// The path of a program, on PATH or in the folders of system programs.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|file| file.is_file())
}

type Order = (Command, Sender<std::io::Result<Child>>);

/// Forks on the one thread that lives as long as the process.
fn fork(command: Command) -> Result<Child> {
    static FORKER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let forker = FORKER.get_or_init(|| {
        let (orders, incoming) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in incoming {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, child) = channel();
    forker
        .lock()
        .map_err(|_| anyhow!("a test panicked while it started a process"))?
        .send((command, answer))
        .map_err(|_| anyhow!("the thread that starts processes is gone"))?;
    Ok(child.recv()??)
}
