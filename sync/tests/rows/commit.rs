//! A proxy that knows one word of the Postgres protocol: it cuts the connection at COMMIT.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// When the connection is cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// COMMIT does not reach the server.
    Before,
    /// The server commits, and its answer does not come back.
    After,
}

/// Starts it in front of `target`; every connection through it is cut at its first COMMIT of a batch.
pub(crate) async fn cutting_proxy(target: u16, cut: Cut) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
            tokio::spawn(forward(client, server, cut));
        }
    });
    port
}

async fn forward(mut client: TcpStream, mut server: TcpStream, cut: Cut) {
    let (mut up, mut down) = ([0; 16384], [0; 16384]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                // The writer's own COMMIT is lower case; that of sign-in goes through.
                let commit = up[..length].windows(7).any(|word| word == b"commit\0");
                if commit && cut == Cut::Before {
                    return;
                }
                if server.write_all(&up[..length]).await.is_err() {
                    return;
                }
                if commit {
                    // The answer says that it is done; it is not passed on.
                    let _ = server.read(&mut down).await;
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&down[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
