//! kill -9 of the daemon at random moments, under load.

use std::time::Duration;

use anyhow::Result;

use super::Outcome;
use super::street::Street;

/// Between a start and its kill at most, in milliseconds: from before it is connected to well within its work.
const LIFE: u64 = 900;

/// Kills it so often.
///
/// # Errors
/// Where broker or daemon do not work at all.
pub async fn run(rounds: u64, seed: u64) -> Result<Outcome> {
    let (mut outcome, mut random) = (Outcome::default(), fastrand::Rng::with_seed(seed));
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
