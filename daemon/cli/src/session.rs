//! What every command needs: a connection to the daemon, and output as text or JSON.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use gatehouse_control::client::Client;
use gatehouse_control::types::{Fault, Reply, Request};

/// The global options.
#[derive(Debug)]
pub(super) struct Session {
    socket: PathBuf,
    json: bool,
}

impl Session {
    pub(super) fn new(socket: PathBuf, json: bool) -> Self {
        Self { socket, json }
    }

    /// Whether the output is JSON.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// Connects to the daemon.
    pub(super) fn connect(&self) -> Result<Client, Fault> {
        Client::connect(&self.socket)
    }

    /// Sends one request to the daemon.
    pub(super) fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Fault> {
        self.connect()?.call(request)
    }

    /// Sends one request to the daemon and prints the answer: one line of JSON, or the text that `render` returns.
    pub(super) fn ask_and_show<T: DeserializeOwned + Serialize>(
        &mut self,
        request: &Request,
        render: impl FnOnce(&T) -> String,
    ) -> Result<(), Fault> {
        let answer: T = self.ask(request)?;
        self.show(&answer, render)
    }

    /// Prints an answer.
    pub(super) fn show<T: Serialize>(
        &mut self,
        answer: &T,
        render: impl FnOnce(&T) -> String,
    ) -> Result<(), Fault> {
        let mut text = if self.json { json(answer)? } else { render(answer) };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        match io::stdout().lock().write_all(text.as_bytes()) {
            // The reader (head, less) has closed the pipe: not an error.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|error| Fault::refused(format!("cannot write the answer: {error}"))),
        }
    }

    /// Prints a fault on standard error. A fault with an empty message was printed already.
    pub(super) fn print_error(&self, fault: &Fault) {
        let text = match self.json {
            true => json(&Reply::<()>::Error(fault.clone())).unwrap_or_else(|fault| fault.to_string()),
            false => format!("gatehouse: {fault}"),
        };
        if !fault.message.is_empty() {
            // Without standard error the message cannot be reported.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

fn json(value: &impl Serialize) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(Fault::refused)
}
