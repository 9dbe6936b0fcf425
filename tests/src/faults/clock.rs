//! A clock that jumps fifty years, either way, between two starts and under a running daemon.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::Outcome;
use super::street::Street;

/// Where the library that lies about the time is, by architecture.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/arm-linux-gnueabihf/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];
/// Time between two jumps.
const STAY: Duration = Duration::from_millis(700);

/// Lets the clock jump so often.
///
/// # Errors
/// Where broker or daemon do not work at all.
pub async fn run(rounds: u64, seed: u64) -> Result<Outcome> {
    let (mut outcome, mut random) = (Outcome::default(), fastrand::Rng::with_seed(seed));
    let Some(library) = LIBRARIES.iter().find(|path| Path::new(path).exists()) else {
        outcome.notes.push("no jumps of the clock: libfaketime is not installed".to_owned());
        return Ok(outcome);
    };
    let folder = gatehouse_testkit::folder::Folder::new("clock")?;
    let offset = folder.path().join("offset");
    std::fs::write(&offset, "+0")?;
    let mut street = Street::build(vec![
        ("LD_PRELOAD".into(), (*library).into()),
        ("FAKETIME_TIMESTAMP_FILE".into(), offset.to_string_lossy().into_owned()),
        ("FAKETIME_NO_CACHE".into(), "1".into()),
        ("DONT_FAKE_MONOTONIC".into(), "1".into()),
    ])?;
    street.open().await?;
    for round in 0..rounds {
        tokio::time::sleep(STAY).await;
        std::fs::write(&offset, ["-50y", "+0", "+50y", "+0"][round as usize % 4])?;
        outcome.rounds += 1;
        if random.bool() {
            street.daemon.kill()?;
            street.start_again(&mut outcome);
        }
    }
    street.close(&mut outcome).await?;
    Ok(outcome)
}
