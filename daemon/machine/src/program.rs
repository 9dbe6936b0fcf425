//! Runs system programs with a deadline: a TPM or a bus that does not answer must not block the caller.

use std::io::{self, ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

/// Runs a program with this standard input. A program that needs longer than `limit` is killed with its children, and the
/// error is of kind `TimedOut`.
pub fn run_within(limit: Duration, command: &mut Command, input: &[u8]) -> io::Result<Output> {
    // A process group of its own: children may keep the output open.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let group = Pid::from_child(&child);
    let input = Zeroizing::new(input.to_vec());
    let (done, ended) = mpsc::sync_channel(1);
    // The thread ends with the program, also after a timeout.
    thread::spawn(move || {
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not read its input reports an error itself.
            let _ = stdin.write_all(&input);
        }
        let _ = done.send(child.wait_with_output());
    });
    ended.recv_timeout(limit).unwrap_or_else(|_| {
        // The group may have ended already.
        let _ = kill_process_group(group, Signal::KILL);
        Err(io::Error::new(ErrorKind::TimedOut, format!("not finished within {limit:?}; it was killed")))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Longer than a test may take, so that only the deadline can end it.
    const FOR_EVER: &str = "600";

    #[test]
    fn output_and_exit_status_of_a_program_are_returned() {
        let mut command = Command::new("sh");
        let output =
            run_within(Duration::from_secs(60), command.args(["-c", "cat; echo no >&2; exit 3"]), b"words")
                .unwrap();
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"words"[..], &b"no\n"[..]));
        assert_eq!(output.status.code(), Some(3));
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let mut command = Command::new("sh");
        command.args(["-c", "sleep \"$0\" & echo $! >\"$1\"; wait", FOR_EVER]).arg(&pid);
        // More than a pipe holds, and it reads nothing of it.
        let error = run_within(Duration::from_secs(2), &mut command, &[0; 1 << 20]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let sleeper: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        while runs(sleeper) {
            assert!(Instant::now() < end, "what it has started runs on");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A dead process may remain as a zombie if no process reaps it.
    fn runs(pid: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).is_some_and(|state| state != 'Z')
    }
}
