//! `gatehouse media list|get|url`

use std::fs::{self, File};
use std::io::{BufWriter, IsTerminal, Write, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatehouse_central::grant::{EXPIRES, Grant};
use gatehouse_config::{duration_text, parse_duration};
use gatehouse_model::Sha256;

use super::session::Session;
use super::table::Table;
use super::{event, format};
use gatehouse_control::answers::{MediaHeader, MediaLine};
use gatehouse_control::exit;
use gatehouse_control::types::{Fault, Request};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List media files, newest first.
    #[command(alias = "ls")]
    List {
        /// Only files of this event.
        #[arg(long, value_name = "CAMERA/EVENT-ID")]
        event: Option<String>,
        /// Maximum number of files.
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = event::limit)]
        limit: usize,
    },
    /// Fetch a media file.
    Get {
        /// Id of the file, or CAMERA/EVENT-ID/NAME.
        media: String,
        /// Write to this file instead of standard output.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Create a presigned download URL for a delivered file; recorded in the audit log.
    Url {
        /// Id of the file, or CAMERA/EVENT-ID/NAME.
        media: String,
        /// Link to the thumbnail with this longest edge, one of media.thumbnails, instead of the file.
        #[arg(long, value_name = "PIXELS")]
        thumbnail: Option<u16>,
        #[command(flatten)]
        expires: Expires,
    },
}

/// Validity of a URL.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Expires {
    /// Validity of the URL, from 1s to 7d.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = expires)]
    pub(super) expires: Duration,
}

fn expires(text: &str) -> Result<Duration, String> {
    let whole = |time: &Duration| time.subsec_nanos() == 0 && EXPIRES.contains(time);
    parse_duration(text).filter(whole).ok_or_else(|| {
        let least = duration_text(*EXPIRES.start());
        let most = duration_text(*EXPIRES.end());
        format!("expected whole seconds from {least} to {most}, such as 30s, 15m, 2h or 7d")
    })
}

pub(super) fn run(command: Command, session: &mut Session) -> Result<(), Fault> {
    match command {
        Command::List { event, limit } => {
            session.ask_and_show(&Request::MediaList { event, limit }, |files: &Vec<MediaLine>| list(files))
        }
        Command::Get { media, output: Some(file) } => {
            let header = to_file(&media, &file, session)?;
            session.show(&header, |header| {
                format!("{} ({}, {})", file.display(), format::bytes(header.media.size), header.content_type)
            })
        }
        Command::Get { media, output: None } if !session.json() && !stdout().is_terminal() => {
            let mut out = HashingWriter::new(stdout().lock());
            let header = session.connect()?.media(&media, &mut out)?;
            out.finish(&header).map(drop)
        }
        Command::Url { media, thumbnail, expires: Expires { expires } } => {
            let request = Request::MediaUrl { media, thumbnail, expires_s: expires.as_secs() };
            session.ask_and_show(&request, granted)
        }
        Command::Get { .. } => {
            Err(Fault::with_code(exit::USAGE, "the file is not written to a terminal or into JSON")
                .advise("name a file: --output FILE"))
        }
    }
}

/// The URL is alone on the first line, so that it can be copied.
pub(super) fn granted(grant: &Grant) -> String {
    format!(
        "{}\nvalid until {}; anyone with this URL can read the file\n",
        grant.url,
        format::time(&grant.expires_at)
    )
}

fn list(files: &[MediaLine]) -> String {
    let mut table = Table::new(["RECEIVED", "CAMERA", "EVENT", "NAME", "SIZE", "STATE", "ON DISK", "ID"]);
    for file in files {
        table.row([
            format::time(&file.received_at),
            file.camera.clone(),
            file.event_id.clone(),
            file.name.clone(),
            format::bytes(file.size),
            state(file),
            if file.on_disk { "yes" } else { "no" }.to_owned(),
            file.id.clone(),
        ]);
    }
    table.text("no media files\n")
}

fn state(file: &MediaLine) -> String {
    match &file.fault {
        Some(fault) => format!("{}; cannot be read: {fault}", file.state),
        None => file.state.clone(),
    }
}

/// Writes to a temporary file and renames it, so that a file with the final name is complete.
fn to_file(media: &str, file: &Path, session: &Session) -> Result<MediaHeader, Fault> {
    let cannot = |error| Fault::refused(format!("cannot write {}: {error}", file.display()));
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut client = session.connect()?;
    let mut out = HashingWriter::new(BufWriter::new(File::create(&part).map_err(cannot)?));
    let fetched = client.media(media, &mut out).and_then(|header| out.finish(&header).map(|()| header));
    match fetched {
        Ok(header) => fs::rename(&part, file).map_err(cannot).map(|()| header),
        Err(fault) => {
            // The partial file is useless; the fault is reported.
            let _ = fs::remove_file(&part);
            Err(fault)
        }
    }
}

/// Hashes what is written through it.
pub(super) struct HashingWriter<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> HashingWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, hash: Sha256::new() }
    }

    pub(super) fn finish(mut self, header: &MediaHeader) -> Result<(), Fault> {
        self.out.flush().map_err(|error| Fault::refused(format!("cannot write the file: {error}")))?;
        match hex::encode(self.hash.finish()) == header.media.sha256 {
            true => Ok(()),
            false => Err(Fault::refused(
                "the received file differs from the stored one: its SHA-256 does not match",
            )
            .advise("try again; if it fails again, run gatehouse doctor")),
        }
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
