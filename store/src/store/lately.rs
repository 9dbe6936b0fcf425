//! What RAM keeps of faces after the answer, and for how long; nothing of it is ever on disk.
//!
//! Strangers of today, where labels are switched on: see [`crate::gallery::StrangerMark`].

use std::sync::{MutexGuard, PoisonError};
use std::time::Instant;

use chrono::{Datelike, Local};

use super::{ProbeFace, Store};
use crate::gallery::{Moment, StrangerMark, Strangers};
use crate::names::EventKey;
use crate::record::{Identification, Outcome, Person};

/// How an event came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// As it happened.
    Fresh,
    /// For the first time, but not as it happened: the broker had kept it, or sends it again.
    Late,
    /// It is stored already.
    Known,
}

/// See the module.
#[derive(Default)]
pub(super) struct Lately {
    strangers: Strangers,
}

impl Store {
    /// Takes the faces of an event after the gallery has answered, and tells for each what is known of a stranger.
    /// Everything that is not kept is wiped.
    pub fn take_faces(
        &self,
        _event: &EventKey,
        faces: Vec<ProbeFace>,
        answer: &Identification<Person>,
        arrival: Arrival,
    ) -> Vec<Option<StrangerMark>> {
        let metric = self.inner.settings.gallery.metric;
        let now = moment();
        let mut lately = self.lately();
        let told = faces.into_iter().zip(&answer.faces).map(|(probe, face)| {
            let is_stranger = face.outcome == Outcome::Stranger;
            let rule = (metric, face.threshold);
            is_stranger
                .then(|| lately.strangers.visit(&probe.encoding, rule, now, arrival == Arrival::Fresh))
                .flatten()
        });
        told.collect()
    }

    /// Switches labels for strangers on or off; off forgets all of them at once.
    pub fn label_strangers(&self, on: bool) {
        self.lately().strangers.switch(on);
    }

    /// Forgets what has had its time. To be called often: what is due goes at the next call.
    pub fn forget_old(&self) {
        self.lately().strangers.sweep(moment());
    }

    fn lately(&self) -> MutexGuard<'_, Lately> {
        self.inner.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Now, with the day of the machine's time zone: midnight is that of the people at the door.
fn moment() -> Moment {
    Moment { day: Local::now().num_days_from_ce(), at: Instant::now() }
}
