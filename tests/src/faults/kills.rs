//! kill -9 of the daemon at random moments under load, while it receives events and while it delivers them.

use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;

use super::Outcome;
use super::delivery::site::{Load, Site};
use super::street::Street;

/// Between a start and its kill at most, in milliseconds: from before it is connected to well within its work.
const LIFE: u64 = 900;
/// Between two events of the camera of the one that delivers.
const PAUSE: Duration = Duration::from_millis(10);
/// Messages that the broker has not taken yet, at most.
const WAITING: usize = 20;
/// One event in so many has a picture, and one in so many a clip of several parts.
const PICTURES: u64 = 3;
const CLIPS: u64 = 60;

/// Kills it so often.
///
/// # Errors
/// If broker or daemon do not work at all.
pub async fn run(rounds: u64, seed: u64) -> Result<Outcome> {
    let (mut outcome, mut random) = (Outcome::default(), Rng::with_seed(seed));
    let mut street = Street::build(Vec::new())?;
    street.open().await?;
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(random.u64(0..LIFE))).await;
        street.daemon.kill()?;
        outcome.rounds += 1;
        street.start_again(&mut outcome);
    }
    street.close(&mut outcome).await?;
    Ok(outcome)
}

/// Kills it so often while it delivers to Postgres and S3 and the camera goes on.
///
/// # Errors
/// If a service or the daemon does not work at all.
pub async fn delivering(rounds: u64, seed: u64) -> Result<Outcome> {
    let (mut outcome, mut random) = (Outcome::default(), Rng::with_seed(seed));
    let mut site = Site::build(seed).await?;
    for _ in 0..rounds {
        let life = Duration::from_millis(random.u64(0..LIFE));
        let end = tokio::time::Instant::now() + life;
        while tokio::time::Instant::now() < end {
            if site.waiting() < WAITING {
                drop(site.send(load(&mut random)));
            }
            tokio::time::sleep(PAUSE).await;
        }
        site.setup.daemon.kill()?;
        outcome.rounds += 1;
        if let Err(error) = site.setup.daemon.start() {
            outcome.refused += 1;
            outcome.notes.push(format!("{error:#}"));
        }
    }
    site.count(&mut outcome).await?;
    let log = std::fs::read_to_string(site.setup.daemon.log_file())?;
    outcome.panics += log.matches("panicked at").count() as u64;
    Ok(outcome)
}

fn load(random: &mut Rng) -> Load {
    match random.u64(..) {
        number if number % CLIPS == 0 => Load::Clip,
        number if number % PICTURES == 0 => Load::Picture,
        _ => Load::Event,
    }
}
