//! A connection to central Postgres: TLS where it is due ([`tls`]), and a bound on everything that can hang.

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
use crate::error::{SyncError, words_of};

/// One TCP connect, per address of the host.
const CONNECT: Duration = Duration::from_secs(10);
/// Name lookup, connect, TLS and sign-in together; eight round trips, on a line of 2 s each.
const SIGN_IN: Duration = Duration::from_secs(30);
/// One short statement.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// One batch: 1,000 events of 600 bytes take 75 s at 64 kbit/s; a batch that takes longer is halved.
pub const BATCH_TIMEOUT: Duration = Duration::from_secs(120);
/// What the server is told about this session: it must let go before a new session of ours can go on. The statement
/// timeout lies below [`BATCH_TIMEOUT`], the lock timeout below [`CALL_TIMEOUT`]; a session that the network has cut off is ended, so
/// that its lock on the cursor does not stay.
const SESSION: &str = "set statement_timeout = '110s'; set lock_timeout = '20s'; \
     set idle_in_transaction_session_timeout = '60s'; set timezone = 'UTC'; \
     set tcp_keepalives_idle = 30; set tcp_keepalives_interval = 10; set tcp_keepalives_count = 3";
/// Dead connections are noticed after about a minute, in both directions.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

const DOING: &str = "connect to Postgres";

/// An open connection; closed on drop.
pub struct Link {
    /// The session.
    pub client: Client,
    /// Counts what the server says of its own accord; closed with the connection.
    pub news: watch::Receiver<u64>,
    driver: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        // The server rolls an open transaction back when the connection goes.
        self.driver.abort();
    }
}

/// Connects, signs in and bounds the session.
pub async fn connect(rows: &Rows) -> Result<Link, SyncError> {
    let mut config = tokio_postgres::Config::from_str(&rows.url)
        .map_err(|e| SyncError::Setup(format!("central.rows.url: {}", words_of(&e))))?;
    config
        .application_name("gatehouse")
        .connect_timeout(CONNECT)
        .tcp_user_timeout(BATCH_TIMEOUT)
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
    let link = if tls::wanted(&config, rows)? {
        config.ssl_mode(SslMode::Require);
        let tls = MakeRustlsConnect::new(tls::client(rows)?);
        let (client, connection) = sign_in(&config, tls).await?;
        Link { client, news, driver: tokio::spawn(drive(connection, told)) }
    } else {
        config.ssl_mode(SslMode::Disable);
        let (client, connection) = sign_in(&config, NoTls).await?;
        Link { client, news, driver: tokio::spawn(drive(connection, told)) }
    };
    timed(DOING, CALL_TIMEOUT, link.client.batch_execute(SESSION)).await?;
    Ok(link)
}

/// Where nobody can be signed in, what answers is looked at once more: the client cannot tell a portal from a break.
async fn sign_in<T>(
    config: &tokio_postgres::Config,
    tls: T,
) -> Result<(Client, tokio_postgres::Connection<Socket, T::Stream>), SyncError>
where
    T: MakeTlsConnect<Socket>,
{
    match timed(DOING, SIGN_IN, config.connect(tls)).await {
        Err(error @ SyncError::Unreachable { .. }) => Err(probe::explain(DOING, config, error).await),
        signed_in => signed_in,
    }
}

/// A call under a deadline, its error classified.
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
