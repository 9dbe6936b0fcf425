//! Impostor scores from which thresholds are derived, and the schedule of the derivation.
//!
//! Each stranger is kept as an impostor score: the distance to the nearest person, the gallery size, and the
//! camera. The journal has these numbers with every event, so nothing more is written. At the start the
//! newest [`EVENTS_READ_MAX`] events are read, and afterwards each event adds its scores.

use std::collections::VecDeque;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gatehouse_gallery::{Gallery, StrangerFace};
use gatehouse_model::{CameraName, Identification, Outcome, Timestamp};

use super::super::StoreError;
use super::{Galleries, Slot};
use crate::record::Record;

/// Impostor scores that are kept: about 1 MB, and enough for a rate of 0.001.
const STRANGERS_MAX: usize = 20_000;
/// Newest events that are read at the start: the last months of a busy door, in less than a second.
const EVENTS_READ_MAX: usize = 20_000;
/// New impostor scores that trigger a fit.
const STRANGERS_DUE: usize = 64;
/// Minimum pause before the next fit, as a multiple of the duration of the last one.
const PAUSE_FACTOR: u32 = 20;
/// The same factor where the people did not change: fits then use at most 1 % of a core.
const PAUSE_FACTOR_OF_STRANGERS: u32 = 100;

/// Impostor scores of one gallery; see the module.
#[derive(Default)]
pub(in crate::store) struct Impostors {
    /// Oldest first.
    seen: VecDeque<StrangerFace>,
    /// Whether the journal was read.
    is_loaded: bool,
    /// Scores since the last fit.
    fresh: usize,
    /// Size of the gallery at the last fit.
    fitted: Option<GallerySize>,
    /// When the last fit ended and how long it took.
    last_fit: Option<(Instant, Duration)>,
}

/// Size of a gallery. A change of it makes a fit due.
#[derive(Clone, Copy, PartialEq, Eq)]
struct GallerySize {
    people: usize,
    templates: usize,
}

impl GallerySize {
    fn of(gallery: &Gallery) -> Self {
        Self { people: gallery.people(), templates: gallery.templates() }
    }
}

impl Impostors {
    /// Adds the impostor scores of an answer to an event that was received at `at`.
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

    fn is_due(&self, size: GallerySize) -> bool {
        let changed = self.fitted != Some(size);
        let factor = if changed { PAUSE_FACTOR } else { PAUSE_FACTOR_OF_STRANGERS };
        let is_paused = self.last_fit.is_some_and(|(end, took)| end.elapsed() < took.saturating_mul(factor));
        !is_paused && (changed || self.fresh >= STRANGERS_DUE)
    }
}

impl Galleries {
    /// Whether [`Galleries::renew_thresholds`] would do anything.
    pub fn wants_thresholds(&self) -> bool {
        self.core.galleries().all().any(|slot| {
            let (gallery, impostors) = (&slot.gallery, slot.impostors());
            let size = GallerySize::of(gallery);
            gallery.thresholds().target().is_some() && (!impostors.is_loaded || impostors.is_due(size))
        })
    }

    /// Derives thresholds again where people changed, or enough impostor scores were added. Call it
    /// periodically. Blocking: seconds in the largest gallery. Probes are answered meanwhile.
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
        let size = GallerySize::of(gallery);
        let seen = {
            let mut impostors = slot.impostors();
            if !impostors.is_due(size) {
                return Ok(());
            }
            impostors.fresh = 0;
            impostors.fitted = Some(size);
            impostors.seen.clone()
        };
        let begin = Instant::now();
        gallery.thresholds().derive(seen.iter());
        let took = begin.elapsed();
        slot.impostors().last_fit = Some((Instant::now(), took));
        let derived = gallery.thresholds().derived(None);
        tracing::debug!(
            model = slot.name(),
            people = size.people,
            threshold = derived.threshold,
            micros = micros(took),
            "thresholds derived"
        );
        Ok(())
    }

    /// Reads the impostor scores of the newest events that the gallery answered. Damaged or removed events
    /// are skipped.
    fn load_impostors(&self, slot: &Slot) -> Result<(), StoreError> {
        let mut newest = Vec::new();
        for entry in self.core.events.newest_first(None).take(EVENTS_READ_MAX) {
            let Ok(committed) = self.core.journal.read_at(entry?.location) else { continue };
            let record = Record::decode(&committed.payload);
            if let Ok(Record::Event { event, identification, .. }) = record
                && identification.model == slot.name()
            {
                newest.push((event, identification));
            }
        }
        let mut impostors = slot.impostors();
        // Scores that were added meanwhile are read again from the journal, so they are dropped to keep the
        // order.
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
