//! Waiting with a timeout: a test ends with a message and never hangs.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// Waits until `check` returns true.
///
/// # Errors
/// After `timeout`; the message contains `what`.
pub fn until(what: &str, timeout: Duration, mut check: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + timeout;
    while !check() {
        if Instant::now() > end {
            bail!("waited {} s without success: {what}", timeout.as_secs());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// Waits until `check` returns true; the async variant of [`until`].
///
/// # Errors
/// After `timeout`; the message contains `what`.
pub async fn until_async<F: Future<Output = bool>>(
    what: &str,
    timeout: Duration,
    mut check: impl FnMut() -> F,
) -> Result<()> {
    let end = Instant::now() + timeout;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if let Ok(true) = tokio::time::timeout(left, check()).await {
            return Ok(());
        }
        if Instant::now() >= end {
            bail!("waited {} s without success: {what}", timeout.as_secs());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Waits until something listens on a port of 127.0.0.1.
///
/// # Errors
/// After `timeout`.
pub fn until_listening(port: u16, timeout: Duration) -> Result<()> {
    until(&format!("a listener on port {port}"), timeout, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    })
}
