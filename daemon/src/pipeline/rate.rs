//! Rate limit of events: a token bucket per camera.

use std::collections::HashMap;
use std::time::Instant;

use gatehouse_model::CameraName;

/// Cameras with a bucket. Every publisher can invent names, so the number is bounded.
const CAMERAS_MAX: usize = 1024;

struct Bucket {
    tokens: f64,
    filled: Instant,
}

/// See the module.
pub(crate) struct RateLimit {
    per_second: f64,
    burst: f64,
    buckets: HashMap<CameraName, Bucket>,
}

impl RateLimit {
    /// `per_second` on average, `burst` at once.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second: per_second.into(), burst: burst.max(1).into(), buckets: HashMap::new() }
    }

    /// Whether the camera may send one more event now.
    pub(crate) fn allow(&mut self, camera: &CameraName, now: Instant) -> bool {
        if !self.buckets.contains_key(camera) && !self.evict_full(now) {
            return false;
        }
        let (per_second, burst) = (self.per_second, self.burst);
        let bucket = self.buckets.entry(camera.clone()).or_insert(Bucket { tokens: burst, filled: now });
        bucket.tokens = level(bucket, per_second, burst, now);
        bucket.filled = now;
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }

    /// Removes full buckets, which equal absent ones.
    fn evict_full(&mut self, now: Instant) -> bool {
        if self.buckets.len() >= CAMERAS_MAX {
            let (per_second, burst) = (self.per_second, self.burst);
            self.buckets.retain(|_, bucket| level(bucket, per_second, burst, now) < burst);
        }
        self.buckets.len() < CAMERAS_MAX
    }
}

fn level(bucket: &Bucket, per_second: f64, burst: f64, now: Instant) -> f64 {
    let gained = now.saturating_duration_since(bucket.filled).as_secs_f64() * per_second;
    (bucket.tokens + gained).min(burst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn camera(name: &str) -> CameraName {
        name.try_into().unwrap()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let (mut rate, now, door) = (RateLimit::new(2, 3), Instant::now(), camera("door"));
        let allowed = (0..10).filter(|_| rate.allow(&door, now)).count();
        assert_eq!(allowed, 3);
        let later = now + Duration::from_secs(1);
        assert_eq!((0..10).filter(|_| rate.allow(&door, later)).count(), 2);
        let much_later = later + Duration::from_secs(1000);
        assert_eq!((0..10).filter(|_| rate.allow(&door, much_later)).count(), 3);
    }

    #[test]
    fn one_camera_does_not_take_from_another() {
        let (mut rate, now) = (RateLimit::new(1, 1), Instant::now());
        assert!(rate.allow(&camera("a"), now) && !rate.allow(&camera("a"), now));
        assert!(rate.allow(&camera("b"), now));
    }

    #[test]
    fn made_up_cameras_do_not_fill_the_memory() {
        let (mut rate, now) = (RateLimit::new(1, 2), Instant::now());
        let allowed = (0..5000).filter(|n| rate.allow(&camera(&format!("c{n}")), now)).count();
        assert_eq!((allowed, rate.buckets.len()), (CAMERAS_MAX, CAMERAS_MAX));
        assert!(rate.allow(&camera("new"), now + Duration::from_secs(2)));
        assert_eq!(rate.buckets.len(), 1);
    }
}
