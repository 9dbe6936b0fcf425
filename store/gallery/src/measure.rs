//! Enrolled people as probes: every sample is compared with its own person without it, and with all other
//! people.

use gatehouse_model::KeyId;

use super::engine::Nearest;
use super::people::State;
use super::vector::{Probe, square_distance};
use super::{Gallery, Metric};

/// People measured per acquisition of the lock, so that an enrollment does not wait for all of them.
const PEOPLE_AT_ONCE: usize = 16;

/// Distances of one enrolled sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Its person.
    pub person: KeyId,
    /// Distance to that person without this sample; none if it is the only one.
    pub own: Option<f32>,
    /// The nearest other person and the distance.
    pub other: Option<(KeyId, f32)>,
}

impl Gallery {
    /// Measures enrolled samples. If there are more, every n-th person is used, for about `most` samples.
    /// People may be added and removed meanwhile.
    pub fn measure(&self, most: usize) -> Vec<Measured> {
        let (places, templates) = {
            let state = self.read();
            (state.all_places(), state.table.taken())
        };
        let every = templates.div_ceil(most.max(1)).max(1);
        let places: Vec<u32> = places.into_iter().step_by(every).collect();
        let mut measured = Vec::new();
        for block in places.chunks(PEOPLE_AT_ONCE) {
            let state = self.read();
            block.iter().for_each(|place| self.measure_person(&state, *place, &mut measured));
        }
        measured
    }

    fn measure_person(&self, state: &State, place: u32, measured: &mut Vec<Measured>) {
        let Some(person) = state.key(place) else { return };
        let samples: Vec<&[f32]> = state.samples_of(place).collect();
        for (at, sample) in samples.iter().enumerate() {
            let probe = Probe::new(sample, false);
            let nearest = self.exact.among(&[&state.means, &state.table], &probe, Nearest::default());
            let other = [nearest.best, nearest.second].into_iter().flatten().find(|near| near.owner != place);
            let other =
                other.and_then(|near| Some((state.key(near.owner)?, self.metric.distance(near.square))));
            let rest =
                samples.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, sample)| *sample);
            let rest: Vec<&[f32]> = rest.collect();
            let is_unit = self.metric == Metric::Cosine;
            let mean =
                (rest.len() > 1).then(|| Probe::mean(rest.iter().copied(), sample.len(), is_unit)).flatten();
            let others = rest.iter().copied().chain(mean.as_ref().map(|mean| &mean.fine[..]));
            let own = others.map(|other| square_distance(sample, other)).min_by(f32::total_cmp);
            measured.push(Measured { person, own: own.map(|square| self.metric.distance(square)), other });
        }
    }
}
