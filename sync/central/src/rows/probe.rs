//! Diagnosis after a failed sign-in: finds out what answers at the address of Postgres.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::error::SyncError;

/// Limit for the diagnosis. The failure itself is already known.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Default port of Postgres.
const PORT_DEFAULT: u16 = 5432;
/// The request for TLS, which every Postgres answers with one letter.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// Yes, no, and the reply of a server too old to know it.
const TLS_REPLIES: [u8; 3] = *b"SNE";

/// A more precise error, if the probe finds the cause.
pub(super) async fn explain(doing: &'static str, config: &Config, error: SyncError) -> SyncError {
    let Some(Host::Tcp(name)) = config.get_hosts().first() else { return error };
    let port = config.get_ports().first().copied().unwrap_or(PORT_DEFAULT);
    let message = match tokio::time::timeout(PROBE_TIMEOUT, probe(name, port)).await {
        Ok(Finding::NoAddress) => format!("the name `{name}` has no address; check it, and the DNS"),
        Ok(Finding::NotPostgres) => {
            "the peer is not Postgres: a proxy or a captive portal answers in its place".to_owned()
        }
        Ok(Finding::Unknown) | Err(_) => return error,
    };
    SyncError::Unreachable { doing, message }
}

enum Finding {
    NoAddress,
    NotPostgres,
    Unknown,
}

async fn probe(name: &str, port: u16) -> Finding {
    let Ok(addresses) = lookup_host((name, port)).await else { return Finding::NoAddress };
    let addresses: Vec<_> = addresses.collect();
    let answer = async {
        let mut socket = TcpStream::connect(addresses.as_slice()).await?;
        socket.write_all(&TLS_REQUEST).await?;
        socket.read_u8().await
    };
    match answer.await {
        Ok(letter) if !TLS_REPLIES.contains(&letter) => Finding::NotPostgres,
        _ => Finding::Unknown,
    }
}
