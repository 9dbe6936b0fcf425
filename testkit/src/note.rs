//! The reference implementation of signed notes, `golang.org/x/mod/sumdb/note`, as the program `tests/peers/note`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::postgres::services_folders;

/// Environment variable with the path of the program.
pub const NOTE_VARIABLE: &str = "GATEHOUSE_TEST_NOTE";

/// A note that the reference implementation signed with a new key.
#[derive(Debug)]
pub struct SignedNote {
    /// The verifier key.
    pub key: String,
    /// The note.
    pub note: String,
}

/// The program.
#[derive(Debug)]
pub struct ReferenceNotes {
    program: PathBuf,
}

impl ReferenceNotes {
    /// The program, if it is installed.
    pub fn find() -> Option<Self> {
        let named = std::env::var_os(NOTE_VARIABLE).map(PathBuf::from);
        let services = services_folders().into_iter().map(|folder| folder.join("note"));
        named.into_iter().chain(services).find(|file| file.is_file()).map(|program| Self { program })
    }

    /// The text of a note that one of the verifier keys signed.
    ///
    /// # Errors
    /// If the program refuses the note or a key.
    pub fn open(&self, keys: &[String], note: &str) -> Result<String> {
        let keys = keys.iter().map(String::as_str);
        self.run(&["open"].into_iter().chain(keys).collect::<Vec<_>>(), note)
    }

    /// Signs a text with a new key of this name.
    ///
    /// # Errors
    /// If the program refuses the name or the text.
    pub fn sign(&self, name: &str, text: &str) -> Result<SignedNote> {
        let output = self.run(&["sign", name], text)?;
        let (key, note) = output.split_once('\n').context("the key and the note")?;
        Ok(SignedNote { key: key.to_owned(), note: note.to_owned() })
    }

    fn run(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start the program of signed notes")?;
        // The program reads all input before it writes.
        child.stdin.take().context("its input")?.write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }
}
