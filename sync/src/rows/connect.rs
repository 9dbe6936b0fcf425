//! A connection to central Postgres: TLS verified by rustls (ring), and a bound on everything that can hang.
//!
//! TLS: `ca_file` given, `sslmode=require`, or a server that is not this machine: TLS, and the certificate must hold
//! (against `ca_file`, else against the public authorities). `sslmode=disable` is the only way to speak plainly with
//! another machine. A server on this machine is spoken to plainly unless `ca_file` or `sslmode=require` says more.

use std::error::Error as StdError;
use std::future::Future;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_config::{Rows, credential};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{AsyncMessage, Client, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{SyncError, words_of};
use crate::rows::fault;

/// One TCP connect, per address of the host.
const CONNECT: Duration = Duration::from_secs(10);
/// Name lookup, connect, TLS and sign-in together; eight round trips, on a line of 2 s each.
const SIGN_IN: Duration = Duration::from_secs(30);
/// One short statement.
pub(crate) const CALL: Duration = Duration::from_secs(30);
/// One batch: 1,000 events of 600 bytes take 75 s at 64 kbit/s; a batch that takes longer is halved.
pub(crate) const BATCH: Duration = Duration::from_secs(120);
/// What the server is told about this session: it must let go before a new session of ours can go on. The statement
/// timeout lies below [`BATCH`], the lock timeout below [`CALL`]; a session that the network has cut off is ended, so
/// that its lock on the cursor does not stay.
const SESSION: &str = "set statement_timeout = '110s'; set lock_timeout = '20s'; \
     set idle_in_transaction_session_timeout = '60s'; set timezone = 'UTC'; \
     set tcp_keepalives_idle = 30; set tcp_keepalives_interval = 10; set tcp_keepalives_count = 3";
/// Dead connections are noticed after about a minute, in both directions.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// An open connection; closed on drop.
pub(crate) struct Link {
    pub(crate) client: Client,
    /// Counts what the server says of its own accord; closed with the connection.
    pub(crate) news: watch::Receiver<u64>,
    driver: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        // The server rolls an open transaction back when the connection goes.
        self.driver.abort();
    }
}

/// Connects, signs in and bounds the session.
pub(crate) async fn connect(rows: &Rows) -> Result<Link, SyncError> {
    const DOING: &str = "connect to Postgres";
    let mut config = tokio_postgres::Config::from_str(&rows.url)
        .map_err(|e| SyncError::Setup(format!("central.rows.url: {}", words_of(&e))))?;
    config
        .application_name("gatehouse")
        .connect_timeout(CONNECT)
        .tcp_user_timeout(BATCH)
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES);
    let secret = credential(rows.password_file.as_deref(), "rows-password")
        .map_err(|e| SyncError::Setup(format!("central.rows.password_file: {e}")))?;
    if let Some(secret) = &secret {
        config.password(secret.bytes());
    }
    let (told, news) = watch::channel(0);
    let link = if wants_tls(&config, rows.ca_file.as_deref())? {
        config.ssl_mode(SslMode::Require);
        let tls = MakeRustlsConnect::new(tls_config(rows.ca_file.as_deref())?);
        let (client, connection) = timed(DOING, SIGN_IN, config.connect(tls)).await?;
        Link { client, news, driver: tokio::spawn(drive(connection, told)) }
    } else {
        config.ssl_mode(SslMode::Disable);
        let (client, connection) = timed(DOING, SIGN_IN, config.connect(NoTls)).await?;
        Link { client, news, driver: tokio::spawn(drive(connection, told)) }
    };
    timed(DOING, CALL, link.client.batch_execute(SESSION)).await?;
    Ok(link)
}

/// A call under a deadline, its error classified.
pub(crate) async fn timed<T>(
    doing: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, SyncError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(fault::classify(doing, &error)),
        Err(_) => Err(SyncError::Deadline { doing, after: limit }),
    }
}

/// Moves the bytes. Its error is told to whoever waits for an answer; here it would be told twice.
async fn drive<T>(mut connection: tokio_postgres::Connection<Socket, T>, told: watch::Sender<u64>)
where
    T: tokio_postgres::tls::TlsStream + Unpin,
{
    loop {
        match std::future::poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(_))) => told.send_modify(|count| *count += 1),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::debug!("connection to Postgres ended: {}", words_of(&error));
                return;
            }
            None => return,
        }
    }
}

fn wants_tls(config: &tokio_postgres::Config, ca_file: Option<&Path>) -> Result<bool, SyncError> {
    match (config.get_ssl_mode(), ca_file) {
        (SslMode::Disable, Some(_)) => Err(SyncError::Setup(
            "central.rows: ca_file asks for TLS and sslmode=disable forbids it; leave out one of the two"
                .to_owned(),
        )),
        (SslMode::Disable, None) => Ok(false),
        (SslMode::Prefer, None) => Ok(!config.get_hosts().iter().all(is_here)),
        _ => Ok(true),
    }
}

/// Whether the host is this machine.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    }
}

fn tls_config(ca_file: Option<&Path>) -> Result<ClientConfig, SyncError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let unusable = |error: &(dyn StdError + 'static)| {
                SyncError::Setup(format!("central.rows.ca_file {}: {}", path.display(), words_of(error)))
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unusable(&e))? {
                roots.add(certificate.map_err(|e| unusable(&e))?).map_err(|e| unusable(&e))?;
            }
            if roots.is_empty() {
                let words = format!("central.rows.ca_file {}: holds no certificate", path.display());
                return Err(SyncError::Setup(words));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| SyncError::Setup(format!("TLS: {}", words_of(&e))))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(url: &str, ca_file: Option<&str>) -> Option<bool> {
        wants_tls(&url.parse().unwrap(), ca_file.map(Path::new)).ok()
    }

    #[test]
    fn another_machine_is_spoken_to_plainly_only_where_it_is_asked_for() {
        assert_eq!(tls("postgres://u@db.example/x", None), Some(true));
        assert_eq!(tls("postgres://u@db.example/x?sslmode=prefer", None), Some(true));
        assert_eq!(tls("postgres://u@db.example/x?sslmode=disable", None), Some(false));
        assert_eq!(tls("postgres://u@127.0.0.1/x", None), Some(false));
        assert_eq!(tls("postgres://u@[::1]/x", None), Some(false));
        assert_eq!(tls("postgres://u@localhost/x?sslmode=require", None), Some(true));
        assert_eq!(tls("postgres://u@localhost/x", Some("ca.pem")), Some(true));
        assert_eq!(tls("postgres://u@localhost/x?sslmode=disable", Some("ca.pem")), None);
    }

    #[test]
    fn a_certificate_file_that_is_none_is_said_in_words() {
        for path in ["/nonexistent/ca.pem", "/dev/null"] {
            let error = tls_config(Some(Path::new(path))).unwrap_err();
            assert!(error.stops_sink() && error.to_string().contains(path), "{error}");
        }
    }
}
