//! Client of the control socket. It is blocking: the command line tool makes one request at a time.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::answers::MediaHeader;
use crate::exit;
use crate::types::{Fault, REPLY_BYTES_MAX, REQUEST_BYTES_MAX, Reply, Request};

/// Bounds the wait for a reply. The daemon's own deadline for a request is shorter.
const REPLY_TIMEOUT: Duration = Duration::from_secs(45);
/// Bytes of a media file that are copied at once.
const PIECE_BYTES: usize = 64 << 10;

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the daemon at `path`.
    ///
    /// # Errors
    /// A [`Fault`] with exit code 69 if the daemon does not answer, 77 without permission for the socket.
    pub fn connect(path: &Path) -> Result<Self, Fault> {
        let stream = UnixStream::connect(path).map_err(|error| connect_fault(path, &error))?;
        let limits = stream
            .set_read_timeout(Some(REPLY_TIMEOUT))
            .and_then(|()| stream.set_write_timeout(Some(REPLY_TIMEOUT)));
        limits.map_err(|error| silent(&error))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// The [`Fault`] of the daemon, or one with exit code 69 if the connection fails.
    pub fn call<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, Fault> {
        let line = encode(request)?;
        // A daemon that refuses the peer replies before it reads the request: read the reply first.
        let sent = self.stream.get_mut().write_all(&line);
        match self.reply() {
            Err(fault) if fault.code == exit::UNREACHABLE => Err(sent.err().map_or(fault, |e| silent(&e))),
            other => other,
        }
    }

    /// Fetches a media file into `out`.
    ///
    /// # Errors
    /// As [`Client::call`]. Also if `out` cannot be written, or the file is incomplete.
    pub fn media(&mut self, media: &str, out: &mut dyn Write) -> Result<MediaHeader, Fault> {
        let header: MediaHeader = self.call(&Request::MediaGet { media: media.to_owned() })?;
        let mut left = header.media.size;
        let mut piece = vec![0; PIECE_BYTES];
        while left > 0 {
            let want = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = self.stream.read(&mut piece[..want]).map_err(|e| silent(&e))?;
            if got == 0 {
                return Err(Fault::refused(format!("the file is incomplete: {left} bytes are missing"))
                    .advise("check the log of the daemon: journalctl -u gatehoused"));
            }
            let write = out.write_all(&piece[..got]);
            write.map_err(|e| Fault::refused(format!("cannot write the file: {e}")))?;
            left -= got as u64;
        }
        Ok(header)
    }

    fn reply<T: DeserializeOwned>(&mut self) -> Result<T, Fault> {
        let mut line = Vec::new();
        let bounded = (&mut self.stream).take(REPLY_BYTES_MAX as u64).read_until(b'\n', &mut line);
        bounded.map_err(|e| silent(&e))?;
        if line.last() != Some(&b'\n') {
            return Err(silent(&ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_slice::<Reply<T>>(&line) {
            Ok(Reply::Ok(value)) => Ok(value),
            Ok(Reply::Error(fault)) => Err(fault),
            Err(error) => Err(Fault::with_code(
                exit::UNREACHABLE,
                format!("the reply is not valid: {error}"),
            )
            .advise(
                "gatehouse and gatehoused have different versions: restart the daemon (systemctl restart gatehoused)",
            )),
        }
    }
}

fn encode(request: &Request) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let mut line = Zeroizing::new(Vec::with_capacity(REQUEST_BYTES_MAX / 8));
    serde_json::to_writer(&mut *line, request).map_err(Fault::refused)?;
    line.push(b'\n');
    if line.len() > REQUEST_BYTES_MAX {
        return Err(Fault::refused("the request is too large").advise("send fewer encodings at a time"));
    }
    Ok(line)
}

fn connect_fault(path: &Path, error: &std::io::Error) -> Fault {
    let at = path.display();
    match error.kind() {
        ErrorKind::PermissionDenied => {
            Fault::with_code(exit::FORBIDDEN, format!("no permission to use {at}"))
                .advise("run as root, or join the group that owns the socket")
        }
        _ => Fault::with_code(exit::UNREACHABLE, format!("the daemon is not reachable at {at}: {error}"))
            .advise("check that it runs: systemctl status gatehoused; for another socket use --socket PATH"),
    }
}

fn silent(error: &std::io::Error) -> Fault {
    Fault::with_code(exit::UNREACHABLE, format!("the daemon does not answer: {error}"))
        .advise("check its log: journalctl -u gatehoused")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encodings::RawEncoding;
    use crate::types::ENCODINGS_MAX;

    fn enroll(encodings: usize, numbers: usize) -> Request {
        let encodings = vec![RawEncoding::from(vec![-0.123_456_79; numbers]); encodings];
        Request::PersonEnroll {
            id: "i".repeat(64),
            name: "n".repeat(256),
            encodings,
            force: false,
            gallery: Some("g".repeat(64)),
            consent: Some("c".repeat(256)),
            until: None,
        }
    }

    #[test]
    fn the_largest_allowed_enrolment_fits_into_one_request() {
        assert!(encode(&enroll(ENCODINGS_MAX, 512)).is_ok());
    }

    #[test]
    fn the_largest_allowed_enrolment_fits_also_as_numbers_in_text() {
        let numbers = vec![vec![-0.123_456_789_012_345_67_f64; 512]; ENCODINGS_MAX];
        assert!(serde_json::to_string(&numbers).unwrap().len() < REQUEST_BYTES_MAX - 4096);
    }

    #[test]
    fn a_request_beyond_the_bound_is_not_sent() {
        assert_eq!(encode(&enroll(200, 4096)).unwrap_err().code, exit::REFUSED);
    }

    #[test]
    fn a_socket_without_a_daemon_is_exit_code_69() {
        let fault = Client::connect(Path::new("/nonexistent/control.sock")).unwrap_err();
        assert_eq!(fault.code, exit::UNREACHABLE);
        assert!(fault.advice.is_some());
    }
}
