//! Deadlines for every call to the server.
//!
//! The client waits for ever by itself. A call without a body gets a fixed time; a call with one gets that and the
//! time that its bytes may take. How long bytes may take is learnt: a transfer may be [`SLACK`] times slower than
//! those before it, so that a stalled upload is noticed within seconds on a fast line, and a slow line is not taken
//! for a stalled one. Each missed deadline lets the next one be [`PATIENCE_STEP`] times longer, down to the rate of
//! [`RATE_FLOOR`], so a line that has become slow gets through after a few attempts.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use minio::s3::error::Error;
use minio::s3::types::S3Api;

use super::Objects;
use super::classify::classify;
use crate::error::SyncError;
use crate::throttle::Throttle;

/// Time for a call without its body: name look-up, connect, TLS and answer on a bad line, with lost packets sent
/// again a few times.
const BASE: Duration = Duration::from_secs(30);
/// Time for taking a failed upload back: it is only tidiness, and the server may be what failed.
const ABORT: Duration = Duration::from_secs(5);
/// Completing a large upload makes a server copy its parts: this many times the base.
const COMPLETE_TIMES: u32 = 4;
/// Bytes per second taken for granted before anything was measured: a poor mobile line.
const RATE_START: u64 = 256 * 1024;
/// Least bytes per second ever believed: a third of 64 kbit/s, three clips at once.
const RATE_FLOOR: u64 = 2 * 1024;
/// How much slower than measured a transfer may be.
const SLACK: u64 = 10;
/// Division of the believed rate after a missed deadline.
const PATIENCE_STEP: u64 = 4;
/// Transfers below this say more about latency than about rate.
const MEASURED_BYTES_MIN: u64 = 64 * 1024;

/// How long calls may take. Clones share what was learnt of the line.
#[derive(Debug, Clone)]
pub struct Limits {
    base: Duration,
    abort: Duration,
    pace: Arc<Pace>,
    throttle: Arc<Throttle>,
}

impl Limits {
    /// The usual ones, with what all sinks may send per second.
    pub fn sharing(throttle: Arc<Throttle>) -> Self {
        let pace = Arc::new(Pace(AtomicU64::new(RATE_START)));
        Self { base: BASE, abort: ABORT, pace, throttle }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::sharing(Arc::new(Throttle::new(None)))
    }
}

impl Limits {
    /// The same deadline for every call, whatever its size. For tests against a server that does not answer.
    pub fn short(base: Duration) -> Self {
        Self { base, abort: base, pace: Arc::new(Pace(AtomicU64::new(1 << 30))), ..Self::default() }
    }
}

/// What is believed of the line, in bytes per second.
#[derive(Debug)]
struct Pace(AtomicU64);

impl Pace {
    /// Time that `size` bytes may take.
    fn patience(&self, size: u64) -> Duration {
        let rate = (self.0.load(Ordering::Relaxed) / SLACK).max(RATE_FLOOR / SLACK);
        Duration::from_millis(size.saturating_mul(1000) / rate)
    }

    fn took(&self, size: u64, time: Duration) {
        if size < MEASURED_BYTES_MIN {
            return;
        }
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        let measured = size.saturating_mul(1000) / millis;
        let believed = self.0.load(Ordering::Relaxed);
        // Uploads share the line and race for this value; any of their values will do.
        self.0.store((believed / 4 * 3 + measured / 4).max(RATE_FLOOR), Ordering::Relaxed);
    }

    fn missed(&self) {
        let believed = self.0.load(Ordering::Relaxed);
        self.0.store((believed / PATIENCE_STEP).max(RATE_FLOOR), Ordering::Relaxed);
    }
}

impl Objects {
    /// One call without a body to speak of.
    pub(super) async fn call<R: S3Api + Send>(
        &self,
        doing: &'static str,
        request: R,
    ) -> Result<R::S3Response, SyncError> {
        self.ask(doing, request).await?.map_err(|error| classify(doing, &self.bucket, &error))
    }

    /// The same, for callers that have an answer to some refusals.
    pub(super) async fn ask<R: S3Api + Send>(
        &self,
        doing: &'static str,
        request: R,
    ) -> Result<Result<R::S3Response, Error>, SyncError> {
        bounded(doing, self.limits.base, request.send()).await
    }

    /// One call whose body is `size` bytes.
    pub(super) async fn transfer<R: S3Api + Send>(
        &self,
        doing: &'static str,
        size: u64,
        request: R,
    ) -> Result<R::S3Response, SyncError> {
        self.limits.throttle.wait(size).await;
        let limit = self.limits.base + self.limits.pace.patience(size);
        let start = Instant::now();
        let answer =
            bounded(doing, limit, request.send()).await.inspect_err(|_| self.limits.pace.missed())?;
        let answer = answer.map_err(|error| classify(doing, &self.bucket, &error))?;
        self.limits.pace.took(size, start.elapsed());
        Ok(answer)
    }

    /// The call that ends an upload in parts.
    pub(super) async fn complete<R: S3Api + Send>(
        &self,
        doing: &'static str,
        request: R,
    ) -> Result<R::S3Response, SyncError> {
        let answer = bounded(doing, self.limits.base * COMPLETE_TIMES, request.send()).await?;
        answer.map_err(|error| classify(doing, &self.bucket, &error))
    }

    /// The call that takes an upload back. Whether it worked changes nothing.
    pub(super) async fn give_up<R: S3Api + Send>(&self, request: R) {
        let _ = bounded("abort upload", self.limits.abort, request.send()).await;
    }

    /// Anything else that waits for the server.
    pub(super) async fn within<T>(
        &self,
        doing: &'static str,
        future: impl Future<Output = T>,
    ) -> Result<T, SyncError> {
        bounded(doing, self.limits.base, future).await
    }
}

async fn bounded<T>(
    doing: &'static str,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Result<T, SyncError> {
    tokio::time::timeout(limit, future).await.map_err(|_| SyncError::Deadline { doing, after: limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_follows_the_line() {
        let pace = Limits::default().pace;
        let part = 5 * 1024 * 1024;
        let unknown = pace.patience(part);
        for _ in 0..20 {
            pace.took(part, Duration::from_millis(100));
        }
        assert!(pace.patience(part) < Duration::from_secs(2));
        assert!(unknown < Duration::from_secs(300));

        // The line becomes a slow one: 64 kbit/s, three at once. A few attempts miss, then it gets through.
        let needed = Duration::from_secs(part / 2700);
        let mut attempts = 0;
        while pace.patience(part) < needed {
            pace.missed();
            attempts += 1;
        }
        assert!(attempts < 10, "{attempts}");
        pace.took(1, Duration::from_secs(600));
        assert!(pace.patience(part) >= needed, "a small file says nothing about the rate");
    }

    #[test]
    fn patience_is_bounded_however_slow_the_line() {
        let pace = Limits::default().pace;
        for _ in 0..100 {
            pace.missed();
            pace.took(MEASURED_BYTES_MIN, Duration::from_secs(1_000_000));
        }
        assert!(pace.patience(5 * 1024 * 1024) < Duration::from_secs(8 * 3600));
        assert!(pace.patience(u64::MAX) > Duration::ZERO);
    }
}
