//! A minimal HTTP client: one GET, no authentication, no redirects.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};

/// Maximum time to wait for bytes.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Status and body of the resource at an `http://` URL.
///
/// # Errors
/// If the server does not answer, or not in HTTP.
pub fn get(url: &str) -> Result<(u16, Vec<u8>)> {
    let (host, path) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).context("an http:// URL")?;
    let mut socket = TcpStream::connect(host)?;
    socket.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    // With HTTP 1.0 the body ends with the connection.
    write!(socket, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("a head")?;
    let status = std::str::from_utf8(&answer[..end])?.split(' ').nth(1).context("a status")?.parse()?;
    Ok((status, answer.split_off(end + 4)))
}
