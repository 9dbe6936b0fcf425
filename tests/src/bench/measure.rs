//! What several benchmarks need: percentiles, and the limits of the machine.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Minimum length of a measurement. In a shorter one a single slow flush decides.
pub const MEASURE_PERIOD: Duration = Duration::from_secs(3);

/// Median and 99th percentile.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spread {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
}

impl Spread {
    /// Of these values, in their unit.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let index = (values.len() * percent / 100).min(values.len().saturating_sub(1));
            values.get(index).copied().unwrap_or(0.0)
        };
        Self { p50: at(50), p99: at(99) }
    }
}

/// Records per second and the time of a record until it is durable, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Durable {
    /// Records per second.
    pub rate: f64,
    /// Milliseconds until a record is durable.
    pub wait: Spread,
    /// Bytes written to the disk per byte of payload.
    pub written: f64,
    /// Records per fdatasync, on average.
    pub group: f64,
}

/// The limit of the disk: `group` records of `bytes` in one write, then one fdatasync, again and again.
///
/// # Errors
/// If the file cannot be written.
pub fn bare_append(folder: &Path, bytes: usize, group: usize) -> Result<Durable> {
    let path = folder.join("bare");
    let mut file = File::create(&path)?;
    let batch: Vec<u8> = (0..bytes * group).map(|_| fastrand::u8(..)).collect();
    let (before, begin, mut waits, mut records) = (written_bytes(), Instant::now(), Vec::new(), 0);
    while begin.elapsed() < MEASURE_PERIOD {
        let start = Instant::now();
        file.write_all(&batch)?;
        file.sync_data()?;
        waits.push(start.elapsed().as_secs_f64() * 1e3);
        records += group;
    }
    let rate = records as f64 / begin.elapsed().as_secs_f64();
    let written = (written_bytes() - before) as f64 / (records * bytes) as f64;
    std::fs::remove_file(&path)?;
    Ok(Durable { rate, wait: Spread::of(waits), written, group: group as f64 })
}

/// Bytes that this process has had written to disks so far; 0 where the system does not report it.
pub fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:"));
    line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

/// Milliseconds between two instants.
pub fn millis(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1e3
}
