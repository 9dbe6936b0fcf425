//! What every command needs: the daemon, and a way to show the answer.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::control::client::Client;
use crate::control::types::{Fault, Reply, Request};

/// Options that hold for every command.
#[derive(Debug)]
pub(super) struct Shell {
    socket: PathBuf,
    json: bool,
}

impl Shell {
    pub(super) fn new(socket: PathBuf, json: bool) -> Self {
        Self { socket, json }
    }

    /// Whether the answer is for a program.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// A connection to the daemon.
    pub(super) fn connect(&self) -> Result<Client, Fault> {
        Client::connect(&self.socket)
    }

    /// Asks the daemon one thing.
    pub(super) fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Fault> {
        self.connect()?.call(request)
    }

    /// Asks the daemon one thing and shows the answer: as one line of JSON, or as `human` says it.
    pub(super) fn ask_and_show<T: DeserializeOwned + Serialize>(
        &mut self,
        request: &Request,
        human: impl FnOnce(&T) -> String,
    ) -> Result<(), Fault> {
        let answer: T = self.ask(request)?;
        self.show(&answer, human)
    }

    /// Shows an answer.
    pub(super) fn show<T: Serialize>(
        &mut self,
        answer: &T,
        human: impl FnOnce(&T) -> String,
    ) -> Result<(), Fault> {
        let mut text = if self.json { json(answer)? } else { human(answer) };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        match io::stdout().lock().write_all(text.as_bytes()) {
            // Who reads (head, less) has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|error| Fault::refused(format!("cannot write the answer: {error}"))),
        }
    }

    /// Says on standard error what went wrong.
    pub(super) fn complain(&self, fault: &Fault) {
        let text = match self.json {
            true => json(&Reply::<()>::Error(fault.clone())).unwrap_or_else(|fault| fault.to_string()),
            false => format!("gatehouse: {fault}"),
        };
        if !fault.message.is_empty() {
            // There is nobody left to tell.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

fn json(value: &impl Serialize) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(Fault::refused)
}
