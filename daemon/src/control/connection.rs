//! One connection to the control socket: permission check, then requests and replies.

use std::io::{self, Read};
use std::pin::pin;
use std::time::Duration;

use gatehouse_store::files::SealedReader;
use serde::Serialize;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::UCred;
use tokio::sync::watch;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::Services;
use super::handlers::{self, Answer};
use crate::supervise::stopped;
use gatehouse_control::exit;
use gatehouse_control::types::{Fault, REQUEST_BYTES_MAX, Reply, Request};

/// Bounds the time to send one request, and the idle time between two.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Bounds the work on one request: an enrollment on a slow disk takes a second or two.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bounds the time in which the client accepts one piece of a reply.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a media file that are decrypted and sent at once: one sealed chunk.
const PIECE_BYTES: usize = 64 << 10;

/// Serves one connection until it ends, exceeds a limit, or is idle while `stop` is true. `mode` is the current mode of the
/// socket.
pub(super) async fn serve(
    stream: UnixStream,
    mode: u32,
    services: &Services,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    let (read, mut write) = stream.into_split();
    if !permitted(&peer, mode) {
        let fault = Fault::with_code(exit::FORBIDDEN, "you have no permission to use this daemon")
            .advise("run as root, or join the group that owns the socket");
        return send(&mut write, &line::<()>(&Reply::Error(fault))).await;
    }
    let mut read = BufReader::new(read);
    loop {
        let received = tokio::select! {
            () = stopped(&mut stop) => return Ok(()),
            received = timeout(REQUEST_TIMEOUT, read_line(&mut read)) => received??,
        };
        let Some(received) = received else { return Ok(()) };
        let request = match parse(&received) {
            Ok(request) => request,
            Err(fault) => return send(&mut write, &line::<()>(&Reply::Error(fault))).await,
        };
        drop(received);
        let mut work = pin!(handlers::answer(services, request, peer.uid()));
        let answer = match timeout(ANSWER_TIMEOUT, &mut work).await {
            Ok(answer) => answer,
            Err(_) => {
                send(&mut write, &line::<()>(&Reply::Error(too_slow()))).await?;
                // A change must not remain incomplete: the work continues, but the client does not wait for it.
                let _ = work.await;
                return Ok(());
            }
        };
        match answer {
            Ok(Answer::Value(value)) => send(&mut write, &line(&Reply::Ok(value))).await?,
            Ok(Answer::Media(header, reader)) => {
                send(&mut write, &line(&Reply::Ok(header))).await?;
                send_media(&mut write, reader).await?;
            }
            Err(fault) => send(&mut write, &line::<()>(&Reply::Error(fault))).await?,
        }
    }
}

/// Permits root, our user and our primary group. Other users are permitted only if the mode of the socket is closed to
/// others: then the kernel checked that they are in our group.
fn permitted(peer: &UCred, mode: u32) -> bool {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    peer.uid() == 0 || peer.uid() == uid || peer.gid() == gid || mode & 0o007 == 0
}

/// One line without its end; none at the end of the connection. A line beyond the bound is returned as far as it was read,
/// and [`parse`] refuses it.
async fn read_line(read: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // The full capacity at once: a growing vector leaves encodings that are not wiped.
    let mut line = Zeroizing::new(Vec::with_capacity(REQUEST_BYTES_MAX + 1));
    let read = read.take(REQUEST_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line).await?;
    Ok((read > 0).then_some(line))
}

fn parse(line: &[u8]) -> Result<Request, Fault> {
    if line.len() > REQUEST_BYTES_MAX {
        return Err(Fault::refused(format!("the request is larger than {REQUEST_BYTES_MAX} bytes"))
            .advise("send fewer encodings at a time"));
    }
    // Not the message of the parser, which may repeat the input.
    serde_json::from_slice(line).map_err(|error| {
        let what =
            format!("the request is not valid ({:?} at character {})", error.classify(), error.column());
        Fault::refused(what).advise("gatehouse and gatehoused have different versions: restart the daemon")
    })
}

fn too_slow() -> Fault {
    Fault::refused(format!(
        "not completed within {} seconds; it may still complete",
        ANSWER_TIMEOUT.as_secs()
    ))
    .advise("check the result before you try again; gatehouse doctor shows whether the disk is the cause")
}

fn line<T: Serialize>(reply: &Reply<T>) -> Vec<u8> {
    let mut line =
        serde_json::to_vec(reply).unwrap_or_else(|_| b"{\"error\":{\"code\":1,\"message\":\"?\"}}".into());
    line.push(b'\n');
    line
}

async fn send(write: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(PIECE_BYTES) {
        timeout(WRITE_TIMEOUT, write.write_all(piece)).await??;
    }
    Ok(())
}

async fn send_media(write: &mut (impl AsyncWrite + Unpin), mut reader: SealedReader) -> io::Result<()> {
    loop {
        let (back, piece) = tokio::task::spawn_blocking(move || {
            let mut piece = Zeroizing::new(Vec::with_capacity(PIECE_BYTES));
            let read = (&mut reader).take(PIECE_BYTES as u64).read_to_end(&mut piece);
            (reader, read.map(|_| piece))
        })
        .await?;
        reader = back;
        let piece = piece?;
        if piece.is_empty() {
            return Ok(());
        }
        send(write, &piece).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_without_end_is_cut_at_the_bound_and_refused() {
        let endless = tokio::io::repeat(b'[');
        let line = read_line(&mut BufReader::new(endless)).await.unwrap().unwrap();
        assert_eq!(line.len(), REQUEST_BYTES_MAX + 1);
        assert!(parse(&line).unwrap_err().message.contains("larger than"));
    }

    #[test]
    fn a_refusal_does_not_repeat_what_was_sent() {
        let fault = parse(br#"{"person_show":{"name":"Alice"}}"#).unwrap_err();
        assert!(!fault.message.contains("Alice"), "{fault}");
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }

    #[tokio::test]
    async fn a_closed_socket_permits_every_peer_and_an_open_one_only_our_user() {
        let (near, _far) = UnixStream::pair().unwrap();
        let peer = near.peer_cred().unwrap();
        assert!(permitted(&peer, 0o660));
        assert!(permitted(&peer, 0o666), "our own user");
    }
}
