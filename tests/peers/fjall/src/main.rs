//! Durable records per second of fjall, whose journal is synced after every batch.
//!
//! Usage: gatehouse-peer-fjall FOLDER RECORDS_PER_BATCH BYTES SECONDS. One JSON object on stdout: rate, p50 and p99 of a batch
//! in ms, and bytes written to the disk per byte of payload.

use std::error::Error;
use std::time::Instant;

/// Bytes that this process has had written.
fn written() -> Result<u64, Box<dyn Error>> {
    let io = std::fs::read_to_string("/proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:")).ok_or("no write_bytes")?;
    Ok(line.trim().parse()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, group, size, seconds] = arguments.as_slice() else { return Err("four arguments".into()) };
    let (group, size, seconds): (u64, usize, f64) = (group.parse()?, size.parse()?, seconds.parse()?);
    let keyspace = fjall::Config::new(folder).open()?;
    let events = keyspace.open_partition("events", fjall::PartitionCreateOptions::default())?;
    // What cannot be made smaller, as sealed records cannot.
    let mut state = 1u64;
    let payload: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(size)
    .collect();
    let (before, begin, mut times, mut records) = (written()?, Instant::now(), Vec::new(), 0u64);
    while begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        let mut batch = keyspace.batch();
        for _ in 0..group {
            records += 1;
            batch.insert(&events, records.to_be_bytes(), &payload);
        }
        batch.commit()?;
        keyspace.persist(fjall::PersistMode::SyncData)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let rate = records as f64 / begin.elapsed().as_secs_f64();
    let written = (written()? - before) as f64 / (records as f64 * size as f64);
    times.sort_by(f64::total_cmp);
    let (p50, p99) = (times[times.len() / 2], times[(times.len() * 99 / 100).min(times.len() - 1)]);
    println!("{{\"rate\": {rate}, \"p50\": {p50}, \"p99\": {p99}, \"written\": {written}}}");
    Ok(())
}
