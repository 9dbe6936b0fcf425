//! What answers where Postgres should, looked at when nobody could be signed in.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::error::SyncError;

/// For the look; the failure itself is known already.
const LOOK: Duration = Duration::from_secs(5);
/// Where Postgres listens when nothing else is said.
const PORT: u16 = 5432;
/// The request for TLS, which every Postgres answers with one letter.
const REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// Yes, no, and a server too old to know it.
const ANSWERS: [u8; 3] = *b"SNE";

/// The error in plainer words, where a look tells more.
pub(super) async fn explain(doing: &'static str, config: &Config, error: SyncError) -> SyncError {
    let Some(Host::Tcp(name)) = config.get_hosts().first() else { return error };
    let port = config.get_ports().first().copied().unwrap_or(PORT);
    let words = match tokio::time::timeout(LOOK, look(name, port)).await {
        Ok(Seen::NoAddress) => format!("the name `{name}` has no address; check it, and the DNS"),
        Ok(Seen::Stranger) => {
            "what answers there is no Postgres: a proxy or a captive portal stands between".to_owned()
        }
        Ok(Seen::Nothing) | Err(_) => return error,
    };
    SyncError::Unreachable { doing, words }
}

enum Seen {
    NoAddress,
    Stranger,
    Nothing,
}

async fn look(name: &str, port: u16) -> Seen {
    let Ok(addresses) = lookup_host((name, port)).await else { return Seen::NoAddress };
    let addresses: Vec<_> = addresses.collect();
    let answer = async {
        let mut socket = TcpStream::connect(addresses.as_slice()).await?;
        socket.write_all(&REQUEST).await?;
        socket.read_u8().await
    };
    match answer.await {
        Ok(letter) if !ANSWERS.contains(&letter) => Seen::Stranger,
        _ => Seen::Nothing,
    }
}
