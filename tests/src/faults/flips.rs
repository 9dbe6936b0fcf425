//! A flipped bit or a truncated file, anywhere in a state directory. It must open and report what is lost, and nothing
//! else may be lost.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fastrand::Rng;
use gatehouse_store::store::EventQuery;
use gatehouse_testkit::folder::Folder;
use gatehouse_vault::keys::RootKey;

use super::Outcome;
use super::street::{self, Street};

/// Events in the directory at least; more are on their way when it is stopped.
const EVENTS: u64 = 300;
/// One damage in so many cuts a file short.
const CUTS: u64 = 4;
/// The reserve holds nothing.
const BALLAST: &str = "ballast";

/// Damages copies of one state directory so often.
///
/// # Errors
/// If the directory cannot be made or copied.
pub async fn run(rounds: u64, seed: u64) -> Result<Outcome> {
    let (mut outcome, mut random) = (Outcome::default(), Rng::with_seed(seed));
    let mut street = Street::build(Vec::new())?;
    street.open().await?;
    street.until(EVENTS).await?;
    let mut made = Outcome::default();
    street.close(&mut made).await?;
    let root = RootKey::read(&street.root_key())?;
    let whole = street.daemon.state();
    let known = events(&whole, &root).context("an undamaged directory must open")?.0;
    outcome.acknowledged = known.len() as u64;
    for round in 0..rounds {
        let folder = Folder::new("flip")?;
        let copy = folder.path().join("state");
        let files = copy_tree(&whole, &copy)?;
        let file = &files[random.usize(0..files.len())];
        let damage = damage(file, &mut random)?;
        outcome.rounds += 1;
        let name = file.strip_prefix(&copy).unwrap_or(file).display().to_string();
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| events(&copy, &root)));
        match opened {
            Err(_) => {
                outcome.panics += 1;
                outcome.notes.push(format!("round {round}: {damage} of {name}: a panic"));
            }
            Ok(Err(error)) => {
                outcome.refused += 1;
                outcome.notes.push(format!("round {round}: {damage} of {name}: {error:#}"));
            }
            Ok(Ok((found, said))) => {
                let gone = known.iter().filter(|(seq, id)| found.get(*seq) != Some(*id)).count() as u64;
                if said {
                    outcome.lost_said += gone;
                } else if gone > 0 {
                    outcome.lost += gone;
                    outcome
                        .notes
                        .push(format!("round {round}: {damage} of {name}: {gone} events gone unsaid"));
                }
                outcome.doubles += found.len().saturating_sub(known.len()) as u64;
            }
        }
    }
    Ok(outcome)
}

/// Number and id of every event, and whether anything was said to be damaged.
type Events = (BTreeMap<u64, String>, bool);

fn events(state: &Path, root: &RootKey) -> Result<Events> {
    let (store, report) = street::open(state, root)?;
    let query = EventQuery { limit: usize::MAX, ..EventQuery::default() };
    let events = store.events.list(&query)?;
    let said = !report.damaged.is_empty() || report.views_rebuilt.is_some() || report.torn_bytes > 0;
    Ok((events.into_iter().map(|event| (event.seq, event.event.key.id.to_string())).collect(), said))
}

fn damage(file: &Path, random: &mut Rng) -> Result<String> {
    let mut bytes = std::fs::read(file)?;
    if bytes.is_empty() {
        return Ok("nothing".to_owned());
    }
    let at = random.usize(0..bytes.len());
    let what = if random.u64(0..CUTS) == 0 {
        bytes.truncate(at);
        format!("cut at {at}")
    } else {
        let bit = random.u8(0..8);
        bytes[at] ^= 1 << bit;
        format!("bit {bit} of byte {at}")
    };
    std::fs::write(file, bytes)?;
    Ok(what)
}

/// Copies a folder; all files in it that hold something.
fn copy_tree(from: &Path, to: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            files.extend(copy_tree(&entry.path(), &target)?);
        } else if entry.file_name() != BALLAST && entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), &target)?;
            if entry.metadata()?.len() > 0 {
                files.push(target);
            }
        }
    }
    files.sort();
    Ok(files)
}
