//! What thresholds are derived from, and when.
//!
//! Strangers at the door are remembered as numbers: how near the nearest person was, among how many, at which camera.
//! That is in the journal with every event anyway, so nothing more is written: at the start the newest
//! [`EVENTS_LOOKED_AT`] events are read again, and from then on each event adds its own.

use std::collections::VecDeque;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gatehouse_gallery::StrangerFace;
use gatehouse_model::{CameraName, Identification, Outcome, Timestamp};

use super::super::StoreError;
use super::{Galleries, Slot};
use crate::record::Record;

/// Strangers' faces that are remembered: about 1 MB, and enough for one in a thousand.
const STRANGERS_MAX: usize = 20_000;
/// Newest events that are read at the start: a busy door's last months, in less than a second.
const EVENTS_LOOKED_AT: usize = 20_000;
/// Faces of strangers that are worth a new fit.
const STRANGERS_DUE: usize = 64;
/// A fit is not made again before so many times the time that the last one took.
const PAUSE_FACTOR: u32 = 20;
/// The same where only strangers came, at a door with a crowd before it: a hundredth of a core.
const PAUSE_FACTOR_OF_STRANGERS: u32 = 100;

/// See the module.
#[derive(Default)]
pub(in crate::store) struct Impostors {
    /// Oldest first.
    seen: VecDeque<StrangerFace>,
    /// Whether the journal was read.
    is_loaded: bool,
    /// Faces since the last fit.
    fresh: usize,
    /// People and templates at the last fit.
    fitted: Option<(usize, usize)>,
    /// When the last fit ended and how long it took.
    last_fit: Option<(Instant, Duration)>,
}

impl Impostors {
    /// Takes the strangers of an answer to an event that came at `at`.
    pub(in crate::store) fn take<P>(
        &mut self,
        camera: &CameraName,
        at: Timestamp,
        answer: &Identification<P>,
    ) {
        for face in answer.faces.iter().filter(|face| face.outcome == Outcome::Stranger) {
            let Some(distance) = face.distance else { continue };
            while self.seen.len() >= STRANGERS_MAX {
                self.seen.pop_front();
            }
            let (at_s, people) = (at.0 / 1_000_000, answer.gallery_size);
            self.seen.push_back(StrangerFace { camera: camera.clone(), at_s, people, distance });
            self.fresh += 1;
        }
    }

    fn is_due(&self, now: (usize, usize)) -> bool {
        let changed = self.fitted != Some(now);
        let factor = if changed { PAUSE_FACTOR } else { PAUSE_FACTOR_OF_STRANGERS };
        let rests = self.last_fit.is_some_and(|(end, took)| end.elapsed() < took.saturating_mul(factor));
        !rests && (changed || self.fresh >= STRANGERS_DUE)
    }
}

impl Galleries {
    /// Whether [`Galleries::renew_thresholds`] would do anything.
    pub fn wants_thresholds(&self) -> bool {
        self.core.galleries().all().any(|slot| {
            let (gallery, impostors) = (&slot.gallery, slot.impostors());
            let now = (gallery.people(), gallery.templates());
            gallery.thresholds().target().is_some() && (!impostors.is_loaded || impostors.is_due(now))
        })
    }

    /// Fits thresholds anew where people or enough strangers came since the last time. To be called again and again.
    /// Blocking; seconds in the largest gallery, while probes go on.
    ///
    /// # Errors
    /// [`StoreError`] where the views cannot be read.
    pub fn renew_thresholds(&self) -> Result<(), StoreError> {
        self.core.galleries().all().try_for_each(|slot| self.renew_thresholds_of(slot))
    }

    fn renew_thresholds_of(&self, slot: &Slot) -> Result<(), StoreError> {
        let gallery = &slot.gallery;
        if gallery.thresholds().target().is_none() {
            return Ok(());
        }
        if !slot.impostors().is_loaded {
            self.load_impostors(slot)?;
        }
        let now = (gallery.people(), gallery.templates());
        let seen = {
            let mut impostors = slot.impostors();
            if !impostors.is_due(now) {
                return Ok(());
            }
            (impostors.fresh, impostors.fitted) = (0, Some(now));
            impostors.seen.clone()
        };
        let begin = Instant::now();
        gallery.thresholds().derive(seen.iter());
        let took = begin.elapsed();
        slot.impostors().last_fit = Some((Instant::now(), took));
        let told = gallery.thresholds().derived(None);
        tracing::debug!(
            model = slot.name(),
            people = now.0,
            threshold = told.threshold,
            micros = micros(took),
            "thresholds derived"
        );
        Ok(())
    }

    /// Reads the strangers of the newest events that the gallery answered. What is damaged or gone is left out.
    fn load_impostors(&self, slot: &Slot) -> Result<(), StoreError> {
        let mut newest = Vec::new();
        for entry in self.core.events.newest_first(None).take(EVENTS_LOOKED_AT) {
            let Ok(committed) = self.core.journal.read_at(entry?.location) else { continue };
            let record = Record::decode(&committed.payload);
            if let Ok(Record::Event { event, identification }) = record
                && identification.model == slot.name()
            {
                newest.push((event, identification));
            }
        }
        let mut impostors = slot.impostors();
        // What came meanwhile is among the newest events or comes twice, which is few; it must not come first.
        impostors.seen.clear();
        for (event, answer) in newest.iter().rev() {
            impostors.take(&event.key.camera, event.received_at, answer);
        }
        impostors.is_loaded = true;
        Ok(())
    }
}

impl Slot {
    pub(in crate::store) fn impostors(&self) -> MutexGuard<'_, Impostors> {
        self.impostors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
