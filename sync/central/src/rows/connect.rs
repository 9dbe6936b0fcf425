//! A connection to central Postgres: TLS where required ([`tls`]), and a timeout for every call.

use std::future::Future;
use std::str::FromStr as _;
use std::time::Duration;

use gatehouse_config::{Rows, credential};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{classify, probe, tls};
use crate::error::{SyncError, error_text};

/// One TCP connect, per address of the host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Name lookup, connect, TLS and sign-in together: eight round trips on a line with 2 s each.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(30);
/// One short statement.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// One batch: 1,000 events of 600 bytes take 75 s at 64 kbit/s. A batch that takes longer is halved.
pub const BATCH_TIMEOUT: Duration = Duration::from_secs(120);
/// Settings of the session, so that the server ends an abandoned session before a new one needs its lock on the
/// cursor. The statement timeout must be below [`BATCH_TIMEOUT`], the lock timeout below [`CALL_TIMEOUT`].
const SESSION_SETTINGS: &str = "set statement_timeout = '110s'; set lock_timeout = '20s'; \
     set idle_in_transaction_session_timeout = '60s'; set timezone = 'UTC'; \
     set tcp_keepalives_idle = 30; set tcp_keepalives_interval = 10; set tcp_keepalives_count = 3";
/// Both sides detect a dead connection after about a minute.
const KEEPALIVE_DELAY: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES_MAX: u32 = 3;

const DOING: &str = "connect to Postgres";

/// An open connection, closed on drop.
pub struct Link {
    /// The session.
    pub client: Client,
    /// Counts notifications of the server. Closed with the connection.
    pub news: watch::Receiver<u64>,
    driver: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        // The server rolls back an open transaction when the connection closes.
        self.driver.abort();
    }
}

/// Connects, signs in and applies the session settings.
pub async fn connect(rows: &Rows) -> Result<Link, SyncError> {
    let mut config = tokio_postgres::Config::from_str(&rows.url)
        .map_err(|e| SyncError::Setup(format!("central.rows.url: {}", error_text(&e))))?;
    config
        .application_name("gatehouse")
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(BATCH_TIMEOUT)
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_DELAY)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES_MAX);
    let secret = credential(rows.password_file.as_deref(), "rows-password")
        .map_err(|e| SyncError::Setup(format!("central.rows.password_file: {e}")))?;
    if let Some(secret) = &secret {
        config.password(secret.bytes());
    }
    let (sender, news) = watch::channel(0);
    let link = if tls::wanted(&config, rows)? {
        config.ssl_mode(SslMode::Require);
        let tls = MakeRustlsConnect::new(tls::client(rows)?);
        let (client, connection) = sign_in(&config, tls).await?;
        Link { client, news, driver: tokio::spawn(drive(connection, sender)) }
    } else {
        config.ssl_mode(SslMode::Disable);
        let (client, connection) = sign_in(&config, NoTls).await?;
        Link { client, news, driver: tokio::spawn(drive(connection, sender)) }
    };
    timed(DOING, CALL_TIMEOUT, link.client.batch_execute(SESSION_SETTINGS)).await?;
    Ok(link)
}

/// If sign-in fails, a probe examines the peer: the client library cannot distinguish a captive portal from a broken
/// connection.
async fn sign_in<T>(
    config: &tokio_postgres::Config,
    tls: T,
) -> Result<(Client, tokio_postgres::Connection<Socket, T::Stream>), SyncError>
where
    T: MakeTlsConnect<Socket>,
{
    match timed(DOING, SIGN_IN_TIMEOUT, config.connect(tls)).await {
        Err(error @ SyncError::Unreachable { .. }) => Err(probe::explain(DOING, config, error).await),
        signed_in => signed_in,
    }
}

/// Runs a call with a deadline and classifies its error.
pub async fn timed<T>(
    doing: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, SyncError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(classify::classify(doing, &error)),
        Err(_) => Err(SyncError::Deadline { doing, after: limit }),
    }
}

/// Drives the connection. Its error reaches the caller of the pending call, so it is logged at debug level only.
async fn drive<T>(mut connection: tokio_postgres::Connection<Socket, T>, sender: watch::Sender<u64>)
where
    T: tokio_postgres::tls::TlsStream + Unpin,
{
    loop {
        match std::future::poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(_))) => sender.send_modify(|count| *count += 1),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::debug!("connection to Postgres ended: {}", error_text(&error));
                return;
            }
            None => return,
        }
    }
}
