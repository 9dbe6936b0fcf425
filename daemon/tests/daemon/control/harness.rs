//! A daemon of its own in a temporary folder, and the tool that talks to it.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use gatehouse_testkit::daemon::binary;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take on a slow, busy machine.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Numbers in one encoding by default.
pub(crate) const DIMENSIONS: usize = 128;

/// The folder of an appliance: settings, state, sockets. Outlives its daemons.
pub(crate) struct Home {
    folder: TempDir,
    notify: UnixDatagram,
}

impl Home {
    /// Settings of environment dev with these lines added.
    pub(crate) fn new(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let notify = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        notify.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let home = Self { folder, notify };
        home.configure("dev", more);
        home
    }

    pub(crate) fn configure(&self, environment: &str, more: &str) {
        // Port 1 is closed. The daemon must run without a broker.
        let text = format!(
            "[device]\nid = \"box-1\"\nenvironment = \"{environment}\"\n[state]\ndirectory = \"{}\"\n\
             [control]\nsocket = \"{}\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n{more}",
            self.path("state").display(),
            self.path("control.sock").display()
        );
        fs::write(self.path("gatehouse.toml"), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command of the daemon's program with this home's settings.
    pub(crate) fn gatehoused(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatehoused"));
        command.arg("--config").arg(self.path("gatehouse.toml"));
        command.env("NOTIFY_SOCKET", self.path("notify")).env("WATCHDOG_USEC", "1000000");
        for name in ["WATCHDOG_PID", "JOURNAL_STREAM", "CREDENTIALS_DIRECTORY", "GATEHOUSE_LOG"] {
            command.env_remove(name);
        }
        command
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub(crate) fn start(&self) -> Daemon<'_> {
        self.start_with(&[])
    }

    /// The same with settings from the environment.
    pub(crate) fn start_with(&self, environment: &[(&str, &str)]) -> Daemon<'_> {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.gatehoused();
        command.envs(environment.iter().copied());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let daemon = Daemon { home: self, child };
        assert!(self.was_notified("READY=1"), "not ready; its log: {}", self.log());
        daemon
    }

    /// Waits until the daemon sends this notification to the service manager.
    pub(crate) fn was_notified(&self, word: &str) -> bool {
        let end = Instant::now() + TEST_TIMEOUT;
        let mut buffer = [0; 4096];
        while Instant::now() < end {
            if let Ok(length) = self.notify.recv(&mut buffer)
                && String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line.starts_with(word))
            {
                return true;
            }
        }
        false
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Runs the tool.
    pub(crate) fn tool(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(tool_program());
        command.arg("--socket").arg(self.path("control.sock")).args(arguments);
        command.env_remove("GATEHOUSE_SOCKET").stdin(Stdio::null()).output().unwrap()
    }

    /// Runs the tool, which must succeed; what it said.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.gives(arguments)).unwrap()
    }

    /// Runs the tool, which must succeed; the bytes it gave.
    pub(crate) fn gives(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.tool(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}\nlog: {}", self.log());
        output.stdout
    }

    /// Runs the tool with `--json`, which must succeed; the answer.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.says(&[&["--json"], arguments].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// Runs the tool, which must fail; its exit code and what it said on standard error.
    pub(crate) fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.tool(arguments);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// A file with this content; its path.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Every file below the state directory.
    pub(crate) fn state_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(&self.path("state"), &mut found);
        found
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

/// A running daemon; ends with its test.
pub(crate) struct Daemon<'a> {
    home: &'a Home,
    child: Child,
}

impl Daemon<'_> {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn ended(mut self) -> ExitStatus {
        let end = Instant::now() + TEST_TIMEOUT;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the daemon did not end; its log: {}", self.home.log());
    }

    /// Asks it to stop, which must go well.
    pub(crate) fn stop(self) {
        let home = self.home;
        self.signal(Signal::TERM);
        let status = self.ended();
        assert_eq!(status.code(), Some(0), "log: {}", home.log());
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The `nth` encoding of a made-up person: near to their other encodings, far from those of all other people.
pub(crate) fn encoding(person: u64, nth: u64) -> Vec<f32> {
    let mut state = person.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut small = (person ^ (nth << 32)).wrapping_mul(0xBF58_476D_1CE4_E5B9) | 1;
    let next = |state: &mut u64, width: f32| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        ((*state >> 40) as f32 / (1_u32 << 24) as f32 - 0.5) * width
    };
    (0..DIMENSIONS).map(|_| next(&mut state, 0.4) + next(&mut small, 0.04)).collect()
}

/// Encodings of a person as the text of a file.
pub(crate) fn encodings(person: u64, count: u64) -> String {
    let all: Vec<_> = (0..count).map(|nth| encoding(person, nth)).collect();
    serde_json::to_string(&all).unwrap()
}

/// The program `gatehouse`, which another crate builds.
pub(crate) fn tool_program() -> PathBuf {
    binary("gatehouse").unwrap()
}
