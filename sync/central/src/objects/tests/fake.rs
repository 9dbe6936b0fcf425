//! A server that answers what a test wants, right or wrong.

use std::sync::{Arc, Mutex};

use gatehouse_testkit::objects::Objects as Looker;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What came in, e.g. `PUT /bucket/key?partNumber=1`.
pub(super) type Seen = Arc<Mutex<Vec<String>>>;

/// Status and body for a request.
pub(super) type Answer = fn(&str) -> (u16, &'static str);

/// Starts one; it ends with the runtime.
pub(super) async fn start(answer: Answer) -> (Looker, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let looker = looker(listener.local_addr().unwrap().port());
    let seen = Seen::default();
    let log = seen.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, answer, log.clone()));
        }
    });
    (looker, seen)
}

/// A server that accepts and never says a word.
pub(super) async fn silent() -> Looker {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let looker = looker(listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
    looker
}

fn looker(port: u16) -> Looker {
    Looker {
        endpoint: format!("http://127.0.0.1:{port}"),
        region: "us-east-1".into(),
        access_key: "gatehouse".into(),
        secret_key: "gatehouse-secret".into(),
    }
}

async fn serve(socket: TcpStream, answer: Answer, seen: Seen) -> Option<()> {
    let mut socket = BufReader::new(socket);
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).await.ok()?;
        let request = line.rsplit_once(" HTTP/1")?.0.to_owned();
        let mut length = 0;
        loop {
            let mut header = String::new();
            socket.read_line(&mut header).await.ok()?;
            if header.trim().is_empty() {
                break;
            }
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await.ok()?;
        let (status, body) = answer(&request);
        let kind = if body.starts_with("<html") { "text/html" } else { "application/xml" };
        let head = request.starts_with("HEAD");
        seen.lock().unwrap().push(request);
        let head_length = if head { 0 } else { body.len() };
        let text = format!(
            "HTTP/1.1 {status} x\r\netag: \"0123\"\r\ncontent-type: {kind}\r\ncontent-length: {head_length}\r\n\r\n{}",
            if head { "" } else { body }
        );
        socket.write_all(text.as_bytes()).await.ok()?;
    }
}
