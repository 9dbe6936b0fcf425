//! One connection to the control socket: who is it, request, answer, and again.

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

/// Time to send one request, also the longest idle time between two.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);
/// Time to work on one request: an enrolment on a slow, busy disk takes a second or two.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// Time the other end may take to accept one piece of an answer.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a media file that are opened and sent at once: one sealed chunk.
const PIECE_BYTES: usize = 64 << 10;

/// Serves one connection until it ends, breaks a limit, or `stop` turns true while it is idle. `mode` is that of
/// the socket at this moment.
pub(super) async fn serve(
    stream: UnixStream,
    mode: u32,
    services: &Services,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    let (read, mut write) = stream.into_split();
    if !permitted(&peer, mode) {
        let fault = Fault::with_code(exit::FORBIDDEN, "you may not give orders to this daemon")
            .advise("run as root, or join the group that owns the socket");
        return send(&mut write, &line::<()>(&Reply::Error(fault))).await;
    }
    let mut read = BufReader::new(read);
    loop {
        let received = tokio::select! {
            () = stopped(&mut stop) => return Ok(()),
            received = timeout(REQUEST_PATIENCE, read_line(&mut read)) => received??,
        };
        let Some(received) = received else { return Ok(()) };
        let request = match parse(&received) {
            Ok(request) => request,
            Err(fault) => return send(&mut write, &line::<()>(&Reply::Error(fault))).await,
        };
        drop(received);
        let mut work = pin!(handlers::answer(services, request, peer.uid()));
        let answer = match timeout(ANSWER_PATIENCE, &mut work).await {
            Ok(answer) => answer,
            Err(_) => {
                send(&mut write, &line::<()>(&Reply::Error(too_slow()))).await?;
                // Half a change must not stay: what has been begun is brought to its end, only nobody waits for it.
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

/// Root, our user, our primary group; and everybody else only as far as the socket's mode lets no stranger in:
/// then the system itself has checked that they are in our group.
fn permitted(peer: &UCred, mode: u32) -> bool {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    peer.uid() == 0 || peer.uid() == uid || peer.gid() == gid || mode & 0o007 == 0
}

/// One line, without its end; none at the end of the connection. A line beyond the bound comes back whole as far
/// as it was read, which [`parse`] refuses.
async fn read_line(read: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // The whole room at once: a vector that grows would leave unwiped encodings behind.
    let mut line = Zeroizing::new(Vec::with_capacity(REQUEST_BYTES_MAX + 1));
    let read = read.take(REQUEST_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line).await?;
    Ok((read > 0).then_some(line))
}

fn parse(line: &[u8]) -> Result<Request, Fault> {
    if line.len() > REQUEST_BYTES_MAX {
        return Err(Fault::refused(format!("the request is larger than {REQUEST_BYTES_MAX} bytes"))
            .advise("give fewer encodings at a time"));
    }
    // Not the parser's own words: they may repeat what was sent.
    serde_json::from_slice(line).map_err(|error| {
        let what =
            format!("the request is not understood ({:?} at character {})", error.classify(), error.column());
        Fault::refused(what).advise("tool and daemon are of different versions: restart the daemon")
    })
}

fn too_slow() -> Fault {
    Fault::refused(format!("not done within {} seconds; it may still happen", ANSWER_PATIENCE.as_secs()))
        .advise(
            "look at the result before you try again; gatehouse doctor says whether the disk is the cause",
        )
}

fn line<T: Serialize>(reply: &Reply<T>) -> Vec<u8> {
    let mut line =
        serde_json::to_vec(reply).unwrap_or_else(|_| b"{\"error\":{\"code\":1,\"message\":\"?\"}}".into());
    line.push(b'\n');
    line
}

async fn send(write: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(PIECE_BYTES) {
        timeout(WRITE_PATIENCE, write.write_all(piece)).await??;
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
    async fn whoever_came_through_a_closed_socket_is_permitted_and_through_an_open_one_only_our_own() {
        let (near, _far) = UnixStream::pair().unwrap();
        let peer = near.peer_cred().unwrap();
        assert!(permitted(&peer, 0o660));
        assert!(permitted(&peer, 0o666), "our own user");
    }
}
