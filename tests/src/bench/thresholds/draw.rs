//! One draw: a gallery of random people, with all others as strangers.

use std::collections::BTreeMap;

use anyhow::Result;
use fastrand::Rng;
use gatehouse_gallery::{Basis, Encoding, Gallery, GallerySettings};
use gatehouse_model::{CameraName, KeyId};

use super::rates::is_shown_over;
use super::sets::{EncodingSet, People};

/// Maximum number of probes of one enrolled person.
const PROBES_MAX: usize = 20;
/// A threshold above any distance.
const NO_LIMIT: f32 = 1e9;
/// Margin of the second person, as a share of the threshold (`AMBIGUITY_RATIO` of the gallery).
const AMBIGUITY_RATIO: f32 = 0.1;

/// The parameters of one row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) enrolled: usize,
    pub(super) samples: usize,
}

/// The result of a draw at one target.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    /// Number of strangers, by person.
    pub(super) strangers: usize,
    /// Share of strangers' faces within the threshold.
    pub(super) faces: f64,
    /// The same share, without strangers who are probably enrolled people under another name.
    pub(super) faces_not_set_aside: f64,
    /// Share of strangers' faces within the threshold, with the same weight for each stranger.
    pub(super) persons: f64,
    /// Whether the number of accepted strangers is significantly above the target.
    pub(super) is_shown_over: bool,
    /// Whether there was no threshold.
    pub(super) is_closed: bool,
    /// Share of enrolled people's faces that are missed, with the same weight for each person.
    pub(super) missed: f64,
    /// The same at the best fixed threshold of this draw.
    pub(super) missed_at_best: f64,
    pub(super) threshold: f32,
    pub(super) best: f32,
    /// Faces of the enrolled people.
    pub(super) own: OwnFaces,
}

/// Distances of the enrolled people's faces that are not enrolled.
#[derive(Debug, Clone)]
pub(super) struct OwnFaces {
    by_person: Vec<Vec<OwnFace>>,
}

/// Distances of one face.
#[derive(Debug, Clone, Copy)]
struct OwnFace {
    /// Distance to the nearest person; infinite if that is another person.
    distance: f32,
    /// Additional distance to the second person.
    margin: f32,
}

/// A gallery with its people and its strangers.
pub(super) struct House {
    pub(super) gallery: Gallery,
    settings: GallerySettings,
    /// Faces of each enrolled person that are not enrolled.
    pub(super) rest: Vec<Vec<Encoding>>,
    /// Faces of strangers with the number of their person.
    pub(super) strangers: Vec<StrangerProbe>,
}

/// A face of a stranger.
pub(super) struct StrangerProbe {
    pub(super) person: usize,
    pub(super) face: Encoding,
}

/// Distance of a stranger's face to the nearest enrolled person.
struct Near {
    person: usize,
    distance: f32,
}

impl OwnFaces {
    /// Share of faces that are not identified at a threshold, with the same weight for each person.
    pub(super) fn missed(&self, threshold: f32) -> f64 {
        let with_faces = self.by_person.iter().filter(|faces| !faces.is_empty());
        let shares: Vec<f64> = with_faces
            .map(|faces| {
                faces.iter().filter(|face| face.is_missed(threshold)).count() as f64 / faces.len() as f64
            })
            .collect();
        shares.iter().sum::<f64>() / shares.len().max(1) as f64
    }
}

impl OwnFace {
    fn is_missed(&self, threshold: f32) -> bool {
        let is_ambiguous =
            self.distance + self.margin <= threshold && self.margin < AMBIGUITY_RATIO * threshold;
        threshold <= 0.0 || self.distance > threshold || is_ambiguous
    }
}

impl House {
    /// Enrolls random people of a list; all others of the list are strangers. None if there are too few
    /// people.
    pub(super) fn draw(
        set: &EncodingSet,
        people: &People,
        from: &[usize],
        case: Case,
        random: &mut Rng,
    ) -> Result<Option<Self>> {
        let Case { enrolled, samples } = case;
        let mut fit: Vec<usize> =
            from.iter().copied().filter(|person| people.faces(*person).len() > samples).collect();
        if fit.len() < enrolled {
            return Ok(None);
        }
        random.shuffle(&mut fit);
        fit.truncate(enrolled);
        let settings = set.settings(people.dimensions());
        let gallery = Gallery::new(settings.clone());
        let mut rest = Vec::new();
        for (number, person) in fit.iter().enumerate() {
            let mut faces = people.faces(*person).to_vec();
            random.shuffle(&mut faces);
            let mut others = faces.split_off(samples);
            others.truncate(PROBES_MAX);
            gallery.add(key(number), &faces);
            rest.push(others);
        }
        let faces = |person: &usize| {
            let person = *person;
            people.faces(person).iter().map(move |face| StrangerProbe { person, face: face.clone() })
        };
        let strangers = from.iter().filter(|person| !fit.contains(person)).flat_map(faces).collect();
        Ok(Some(Self { gallery, settings, rest, strangers }))
    }

    /// Derives the threshold for each target and probes with all strangers and enrolled people.
    pub(super) fn outcomes(&self, targets: &[f64], set_aside_below: f64) -> Vec<Outcome> {
        let thresholds: Vec<Option<f32>> = targets
            .iter()
            .map(|target| {
                self.gallery.thresholds().follow(Some(*target));
                self.gallery.thresholds().derive([].iter());
                self.threshold()
            })
            .collect();
        self.outcomes_at(targets, &thresholds, set_aside_below)
    }

    /// The threshold in force, if there is one.
    pub(super) fn threshold(&self) -> Option<f32> {
        (self.gallery.thresholds().derived(None).basis != Basis::Unknown).then(|| self.gallery.threshold())
    }

    /// The results at thresholds for some targets.
    pub(super) fn outcomes_at(
        &self,
        targets: &[f64],
        thresholds: &[Option<f32>],
        set_aside_below: f64,
    ) -> Vec<Outcome> {
        self.gallery.thresholds().follow(None);
        self.gallery.apply(GallerySettings { threshold: NO_LIMIT, ..self.settings.clone() });
        let near: Vec<Near> = self
            .strangers
            .iter()
            .map(|probe| Near { person: probe.person, distance: self.nearest(&probe.face).distance })
            .collect();
        let own = self.own_faces();
        let outcome = |(target, threshold): (&f64, &Option<f32>)| {
            let threshold = threshold.unwrap_or(0.0);
            let mut distances: Vec<f32> = near.iter().map(|near| near.distance).collect();
            distances.sort_by(f32::total_cmp);
            let allowed = (target * distances.len() as f64) as usize;
            let best = distances.get(allowed).copied().unwrap_or(NO_LIMIT).next_down().max(0.0);
            let accepted = Accepted::new(&near, threshold, set_aside_below);
            Outcome {
                strangers: accepted.strangers,
                faces: accepted.faces,
                faces_not_set_aside: accepted.faces_not_set_aside,
                persons: accepted.persons,
                is_shown_over: is_shown_over(accepted.accepted_strangers, accepted.strangers, *target),
                is_closed: threshold <= 0.0,
                missed: own.missed(threshold),
                missed_at_best: own.missed(best),
                threshold,
                best,
                own: own.clone(),
            }
        };
        targets.iter().zip(thresholds).map(outcome).collect()
    }

    fn nearest(&self, face: &Encoding) -> OwnFace {
        let answer = self.gallery.identify(&door(), face, None);
        OwnFace {
            distance: answer.distance.unwrap_or(f32::INFINITY),
            margin: answer.margin.unwrap_or(f32::INFINITY),
        }
    }

    fn own_faces(&self) -> OwnFaces {
        let near = self.rest.iter().map(|faces| faces.iter().map(|face| self.nearest(face)).collect());
        let mut by_person: Vec<Vec<OwnFace>> = near.collect();
        for (number, faces) in by_person.iter_mut().enumerate() {
            for (found, face) in faces.iter_mut().zip(&self.rest[number]) {
                // Only the nearest person is within this threshold, so that the gallery names them.
                let threshold = found.distance.next_up();
                self.gallery.apply(GallerySettings { threshold, ..self.settings.clone() });
                if self.gallery.identify(&door(), face, None).person != Some(key(number)) {
                    found.distance = f32::INFINITY;
                }
            }
        }
        OwnFaces { by_person }
    }
}

/// Shares of strangers within a threshold.
struct Accepted {
    strangers: usize,
    accepted_strangers: usize,
    faces: f64,
    faces_not_set_aside: f64,
    persons: f64,
}

impl Accepted {
    fn new(near: &[Near], threshold: f32, set_aside_below: f64) -> Self {
        let is_within = |near: &Near| threshold > 0.0 && near.distance <= threshold;
        let mut by_person: BTreeMap<usize, Vec<&Near>> = BTreeMap::new();
        near.iter().for_each(|near| by_person.entry(near.person).or_default().push(near));
        let within = |faces: &[&Near]| faces.iter().filter(|near| is_within(near)).count();
        let share_of = |faces: &[&Near]| within(faces) as f64 / faces.len() as f64;
        let mut accepted_strangers = 0;
        let (mut persons, mut all, mut all_within, mut kept, mut kept_within) = (0.0, 0, 0, 0, 0);
        for faces in by_person.values() {
            accepted_strangers += usize::from(within(faces) > 0);
            persons += share_of(faces);
            all += faces.len();
            all_within += within(faces);
            if faces.iter().all(|near| f64::from(near.distance) >= set_aside_below) {
                kept += faces.len();
                kept_within += within(faces);
            }
        }
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        Self {
            strangers: by_person.len(),
            accepted_strangers,
            faces: share(all_within, all),
            faces_not_set_aside: share(kept_within, kept),
            persons: persons / by_person.len().max(1) as f64,
        }
    }
}

pub(super) fn door() -> CameraName {
    // The constant is a valid name.
    CameraName::try_from("door").unwrap_or_else(|_| unreachable!())
}

pub(super) fn key(number: usize) -> KeyId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    KeyId::from_bytes(bytes)
}
