//! `gatehouse media list|get|url`

use std::fs::{self, File};
use std::io::{BufWriter, IsTerminal, Write, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatehouse_config::{duration_text, parse_duration};
use gatehouse_store::seal::Sha256;
use gatehouse_sync::central::grant::{EXPIRES, Grant};

use super::shell::Shell;
use super::table::Table;
use super::{event, words};
use crate::control::answers::{MediaHeader, MediaLine};
use crate::control::types::{Fault, Request};
use crate::exit;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Media files, newest first.
    List {
        /// Only of this event, CAMERA/EVENT-ID.
        #[arg(long)]
        event: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = event::limit)]
        limit: usize,
    },
    /// Fetch one media file.
    Get {
        /// Its id, or CAMERA/EVENT-ID/NAME.
        media: String,
        /// Write into this file instead of standard output.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// A URL that gives one delivered file to everybody who has it, for a while; each is noted in the audit log.
    Url {
        /// Its id, or CAMERA/EVENT-ID/NAME.
        media: String,
        /// Not the file, but its thumbnail whose longest edge has so many pixels (media.thumbnails).
        #[arg(long, value_name = "PIXELS")]
        thumbnail: Option<u16>,
        #[command(flatten)]
        expires: Expires,
    },
}

/// How long a URL is valid.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Expires {
    /// For how long it is valid, from 1s to 7d.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = expires)]
    pub(super) expires: Duration,
}

fn expires(text: &str) -> Result<Duration, String> {
    let whole = |time: &Duration| time.subsec_nanos() == 0 && EXPIRES.contains(time);
    parse_duration(text).filter(whole).ok_or_else(|| {
        let (least, most) = (duration_text(*EXPIRES.start()), duration_text(*EXPIRES.end()));
        format!("whole seconds from {least} to {most} are needed, written as 30s, 15m, 2h or 7d")
    })
}

pub(super) fn run(command: Command, shell: &mut Shell) -> Result<(), Fault> {
    match command {
        Command::List { event, limit } => {
            shell.ask_and_show(&Request::MediaList { event, limit }, |files: &Vec<MediaLine>| list(files))
        }
        Command::Get { media, output: Some(file) } => {
            let header = to_file(&media, &file, shell)?;
            shell.show(&header, |header| {
                format!("{} ({}, {})", file.display(), words::bytes(header.media.size), header.content_type)
            })
        }
        Command::Get { media, output: None } if !shell.json() && !stdout().is_terminal() => {
            let mut out = Checked::new(stdout().lock());
            let header = shell.connect()?.media(&media, &mut out)?;
            out.finish(&header).map(drop)
        }
        Command::Url { media, thumbnail, expires: Expires { expires } } => {
            let request = Request::MediaUrl { media, thumbnail, expires_s: expires.as_secs() };
            shell.ask_and_show(&request, granted)
        }
        Command::Get { .. } => {
            Err(Fault::with_code(exit::USAGE, "standard output is not the place for the file here")
                .advise("say where to: --output FILE"))
        }
    }
}

/// The URL alone on the first line, for who copies it.
pub(super) fn granted(grant: &Grant) -> String {
    format!(
        "{}\nvalid until {}; whoever has it can read the file\n",
        grant.url,
        words::time(&grant.expires_at)
    )
}

fn list(files: &[MediaLine]) -> String {
    let mut table = Table::new(["RECEIVED", "CAMERA", "EVENT", "NAME", "SIZE", "STATE", "HERE", "ID"]);
    for file in files {
        table.row([
            words::time(&file.received_at),
            file.camera.clone(),
            file.event_id.clone(),
            file.name.clone(),
            words::bytes(file.size),
            state(file),
            if file.on_disk { "yes" } else { "no" }.to_owned(),
            file.id.clone(),
        ]);
    }
    table.text("no media files\n")
}

fn state(file: &MediaLine) -> String {
    match &file.fault {
        Some(fault) => format!("{}; cannot be shown: {fault}", file.state),
        None => file.state.clone(),
    }
}

/// Writes beside the file and renames, so that a file of that name is whole.
fn to_file(media: &str, file: &Path, shell: &Shell) -> Result<MediaHeader, Fault> {
    let cannot = |error| Fault::refused(format!("cannot write {}: {error}", file.display()));
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut client = shell.connect()?;
    let mut out = Checked::new(BufWriter::new(File::create(&part).map_err(cannot)?));
    let fetched = client.media(media, &mut out).and_then(|header| out.finish(&header).map(|()| header));
    match fetched {
        Ok(header) => fs::rename(&part, file).map_err(cannot).map(|()| header),
        Err(fault) => {
            // What is left is only rubbish; the fault is what counts.
            let _ = fs::remove_file(&part);
            Err(fault)
        }
    }
}

/// Takes the hash of what goes through.
struct Checked<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Checked<W> {
    fn new(out: W) -> Self {
        Self { out, hash: Sha256::new() }
    }

    fn finish(mut self, header: &MediaHeader) -> Result<(), Fault> {
        self.out.flush().map_err(|error| Fault::refused(format!("cannot write the file: {error}")))?;
        match hex::encode(self.hash.finish()) == header.media.sha256 {
            true => Ok(()),
            false => Err(Fault::refused("what came is not what was stored: its SHA-256 differs")
                .advise("try again; if it stays, gatehouse doctor")),
        }
    }
}

impl<W: Write> Write for Checked<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
