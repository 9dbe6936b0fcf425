//! Deadlines for every call to the server. The client library has none.
//!
//! A call without a body has a fixed deadline. A call with a body has additional time for its bytes, based on a
//! measured rate: a transfer may be [`SLOWDOWN_MAX`] times slower than earlier ones. So a stalled upload is detected
//! within seconds on a fast line, and a slow line does not count as stalled. Each exceeded deadline divides the
//! estimated rate by [`RATE_DIVISOR`], down to [`RATE_MIN`], so that a line that has become slow works after a few
//! attempts.

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

/// Deadline of a call without its body: name lookup, connect, TLS and reply on a bad line with retransmissions.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Deadline of the abort of a failed upload. It only frees space, and the server may be the cause of the failure.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Completing a large upload makes a server copy its parts: this many times the deadline of a call.
const COMPLETE_TIMEOUT_FACTOR: u32 = 4;
/// Assumed bytes per second before the first measurement: a poor mobile line.
const RATE_INITIAL: u64 = 256 * 1024;
/// Lower bound of the estimated bytes per second: a third of 64 kbit/s, for three uploads at once.
const RATE_MIN: u64 = 2 * 1024;
/// How much slower than measured a transfer may be.
const SLOWDOWN_MAX: u64 = 10;
/// Divisor of the estimated rate after an exceeded deadline.
const RATE_DIVISOR: u64 = 4;
/// Transfers below this size measure latency rather than rate.
const SAMPLE_BYTES_MIN: u64 = 64 * 1024;

/// Deadlines of calls. Clones share the measured rate.
#[derive(Debug, Clone)]
pub struct Limits {
    base: Duration,
    abort: Duration,
    link_rate: Arc<LinkRate>,
    throttle: Arc<Throttle>,
}

impl Limits {
    /// The default deadlines, with the bandwidth limit that all sinks share.
    pub fn sharing(throttle: Arc<Throttle>) -> Self {
        let link_rate = Arc::new(LinkRate(AtomicU64::new(RATE_INITIAL)));
        Self { base: CALL_TIMEOUT, abort: ABORT_TIMEOUT, link_rate, throttle }
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
        Self { base, abort: base, link_rate: Arc::new(LinkRate(AtomicU64::new(1 << 30))), ..Self::default() }
    }
}

/// The estimated rate of the line, in bytes per second.
#[derive(Debug)]
struct LinkRate(AtomicU64);

impl LinkRate {
    /// Time that `size` bytes may take.
    fn transfer_time(&self, size: u64) -> Duration {
        let rate = (self.0.load(Ordering::Relaxed) / SLOWDOWN_MAX).max(RATE_MIN / SLOWDOWN_MAX);
        Duration::from_millis(size.saturating_mul(1000) / rate)
    }

    fn record(&self, size: u64, time: Duration) {
        if size < SAMPLE_BYTES_MIN {
            return;
        }
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        let measured = size.saturating_mul(1000) / millis;
        let estimate = self.0.load(Ordering::Relaxed);
        // Concurrent uploads race for this value. Any of their values is good enough.
        self.0.store((estimate / 4 * 3 + measured / 4).max(RATE_MIN), Ordering::Relaxed);
    }

    fn record_timeout(&self) {
        let estimate = self.0.load(Ordering::Relaxed);
        self.0.store((estimate / RATE_DIVISOR).max(RATE_MIN), Ordering::Relaxed);
    }
}

impl Objects {
    /// One call with a small body or none.
    pub(super) async fn call<R: S3Api + Send>(
        &self,
        doing: &'static str,
        request: R,
    ) -> Result<R::S3Response, SyncError> {
        self.ask(doing, request).await?.map_err(|error| classify(doing, &self.bucket, &error))
    }

    /// The same, for callers that handle some refusals.
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
        let limit = self.limits.base + self.limits.link_rate.transfer_time(size);
        let start = Instant::now();
        let answer = bounded(doing, limit, request.send())
            .await
            .inspect_err(|_| self.limits.link_rate.record_timeout())?;
        let answer = answer.map_err(|error| classify(doing, &self.bucket, &error))?;
        self.limits.link_rate.record(size, start.elapsed());
        Ok(answer)
    }

    /// The call that completes a multipart upload.
    pub(super) async fn complete<R: S3Api + Send>(
        &self,
        doing: &'static str,
        request: R,
    ) -> Result<R::S3Response, SyncError> {
        let answer = bounded(doing, self.limits.base * COMPLETE_TIMEOUT_FACTOR, request.send()).await?;
        answer.map_err(|error| classify(doing, &self.bucket, &error))
    }

    /// The call that aborts an upload. Its result is ignored.
    pub(super) async fn give_up<R: S3Api + Send>(&self, request: R) {
        let _ = bounded("abort upload", self.limits.abort, request.send()).await;
    }

    /// Any other future that waits for the server.
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
        let link_rate = Limits::default().link_rate;
        let part = 5 * 1024 * 1024;
        let unknown = link_rate.transfer_time(part);
        for _ in 0..20 {
            link_rate.record(part, Duration::from_millis(100));
        }
        assert!(link_rate.transfer_time(part) < Duration::from_secs(2));
        assert!(unknown < Duration::from_secs(300));

        // The line becomes a slow one: 64 kbit/s, three at once. A few attempts miss, then it gets through.
        let needed = Duration::from_secs(part / 2700);
        let mut attempts = 0;
        while link_rate.transfer_time(part) < needed {
            link_rate.record_timeout();
            attempts += 1;
        }
        assert!(attempts < 10, "{attempts}");
        link_rate.record(1, Duration::from_secs(600));
        assert!(link_rate.transfer_time(part) >= needed, "a small file says nothing about the rate");
    }

    #[test]
    fn patience_is_bounded_however_slow_the_line() {
        let link_rate = Limits::default().link_rate;
        for _ in 0..100 {
            link_rate.record_timeout();
            link_rate.record(SAMPLE_BYTES_MIN, Duration::from_secs(1_000_000));
        }
        assert!(link_rate.transfer_time(5 * 1024 * 1024) < Duration::from_secs(8 * 3600));
        assert!(link_rate.transfer_time(u64::MAX) > Duration::ZERO);
    }
}
