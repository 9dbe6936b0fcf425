//! A clock that jumps fifty years in either direction, between two starts and under a running daemon. Every event must
//! have its correct time when the time is known.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use gatehouse_model::Timestamp;
use gatehouse_store::Store;
use gatehouse_store::clock::{self, ClockSource, ReferenceTime};
use gatehouse_store::store::EventQuery;
use gatehouse_vault::keys::RootKey;

use super::Outcome;
use super::street::Street;

/// Paths of libfaketime by architecture.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/arm-linux-gnueabihf/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];
/// Time between two jumps.
const RUN_PERIOD: Duration = Duration::from_millis(700);

/// Lets the clock jump so often.
///
/// # Errors
/// If broker or daemon do not work at all.
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
    let began = Timestamp::now();
    street.open().await?;
    for round in 0..rounds {
        tokio::time::sleep(RUN_PERIOD).await;
        std::fs::write(&offset, ["-50y", "+0", "+50y", "+0"][round as usize % 4])?;
        outcome.rounds += 1;
        if random.bool() {
            street.daemon.kill()?;
            street.start_again(&mut outcome);
        }
    }
    street.close(&mut outcome).await?;
    let root = RootKey::read(&street.root_key())?;
    let (store, _) = super::street::open(&street.daemon.state(), &root)?;
    let wrong = wrong_times(&store, began).await?;
    outcome.lost(wrong, &format!("{wrong} events have another time than their true one"));
    store.close();
    Ok(outcome)
}

/// Events that came between `began` and now and, once the time is known, say otherwise, or that they do not know.
async fn wrong_times(store: &Store, began: Timestamp) -> Result<u64> {
    let from = clock::uptime();
    let reference = ReferenceTime::asked(ClockSource::Rows, Timestamp::now(), from, clock::uptime());
    store.events.learn_time(reference.context("this machine's own clock is not set")?).await?;
    let (now, mut wrong) = (Timestamp::now(), 0);
    for event in store.events.list(&EventQuery { limit: usize::MAX, ..EventQuery::default() })? {
        let off = event.time.uncertainty_ms.and_then(|off| i64::try_from(off * 1000).ok());
        let fits = off.is_some_and(|off| (began.0 - off..=now.0 + off).contains(&event.time.at.0));
        wrong += u64::from(!fits);
    }
    Ok(wrong)
}
