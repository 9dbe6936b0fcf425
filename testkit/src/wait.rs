//! Waiting with a deadline: a test ends with words, it never hangs.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(25);

/// Waits until `check` is true.
///
/// # Errors
/// In the words of `what` once `patience` has passed.
pub fn until(what: &str, patience: Duration, mut check: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + patience;
    while !check() {
        if Instant::now() > end {
            bail!("waited {} s in vain: {what}", patience.as_secs());
        }
        std::thread::sleep(STEP);
    }
    Ok(())
}

/// Waits until `check` gives true; the async twin of [`until`].
///
/// # Errors
/// In the words of `what` once `patience` has passed.
pub async fn until_async<F: Future<Output = bool>>(
    what: &str,
    patience: Duration,
    mut check: impl FnMut() -> F,
) -> Result<()> {
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if let Ok(true) = tokio::time::timeout(left, check()).await {
            return Ok(());
        }
        if Instant::now() >= end {
            bail!("waited {} s in vain: {what}", patience.as_secs());
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Waits until something listens on a port of 127.0.0.1.
///
/// # Errors
/// Once `patience` has passed.
pub fn until_listening(port: u16, patience: Duration) -> Result<()> {
    until(&format!("a listener on port {port}"), patience, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    })
}
