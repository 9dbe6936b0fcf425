//! Gallery report: expected error rates, look-alikes, weak enrollments.
//!
//! Every sample is a probe against the other samples of its person, which gives FNIR. It is also a probe
//! against all other people, which gives FPIR at this gallery size. Only distances leave the gallery.

use std::collections::{BTreeMap, HashMap};

use gatehouse_gallery::rates::{Estimate, Score, Scores, Threshold};
use gatehouse_gallery::{Derived, Measured, Prospect};
use gatehouse_model::KeyId;
use serde::{Deserialize, Serialize};

use super::super::Refusal;
use super::Galleries;

/// Maximum number of measured samples: enough for a rate of 0.001, and a few seconds in the largest gallery.
const SAMPLES_MEASURED: usize = 10_000;
/// Maximum length of a list; the rest is only counted.
const LINES_MAX: usize = 50;
/// Bins of the two distributions.
const BINS: usize = 60;
/// Shares of false accepts for which a threshold is reported.
const TARGETS: [f64; 2] = [0.001, 0.01];

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GalleryReport {
    /// Model of the gallery.
    pub model: String,
    /// People enrolled.
    pub people: usize,
    /// Their samples.
    pub samples: usize,
    /// Samples that were measured.
    pub measured: usize,
    /// The threshold in force for cameras without their own.
    pub threshold: f32,
    /// The target share of false accepts; none where the threshold is fixed.
    pub target_fpir: Option<f64>,
    /// How the threshold was determined, and its error rates by the statistics of the model.
    pub derived: Derived,
    /// Source of these statistics.
    pub calibration: Option<String>,
    /// Effective number of independent measurements for FPIR.
    pub independent: f64,
    /// Expected results with other numbers of samples.
    pub prospects: Vec<Prospect>,
    /// Cameras with a threshold of their own.
    pub cameras: Vec<CameraLine>,
    /// Strangers falsely accepted at that threshold; none with fewer than two people.
    pub fpir: Option<Estimate>,
    /// Enrolled people not found at that threshold; none where no person has two samples.
    pub fnir: Option<Estimate>,
    /// Thresholds for a share of strangers.
    pub targets: Vec<TargetLine>,
    /// People who look so much alike that one may be taken for the other, the most alike first.
    pub alike: Vec<Pair>,
    /// How many such pairs there are.
    pub alike_pairs: usize,
    /// People who are likely to be missed.
    pub weak: Vec<Weak>,
    /// How many there are.
    pub weak_people: usize,
    /// Distances to the own person and to the nearest other one.
    pub bins: Vec<Bin>,
}

/// A camera with a threshold of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CameraLine {
    /// The camera.
    pub camera: String,
    /// Its threshold.
    #[serde(flatten)]
    pub derived: Derived,
}

/// The threshold for a share of strangers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetLine {
    /// The share.
    pub fpir: f64,
    /// The threshold; none where there are too few people.
    pub threshold: Option<Threshold>,
    /// Enrolled people not found there.
    pub fnir: Option<Estimate>,
}

/// Two people who look alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Their ids.
    pub ids: [String; 2],
    /// Smallest distance of a sample of one to the other.
    pub distance: f32,
}

/// A person who is likely to be missed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weak {
    /// The person's id.
    pub id: String,
    /// Samples of the person.
    pub samples: usize,
    /// Of these, samples by which the person would not have been recognised from the others.
    pub missed: usize,
}

/// A range of distances.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Its upper end.
    pub to: f32,
    /// Samples with this distance to their own person.
    pub own: u32,
    /// Samples with this distance to the nearest other person.
    pub other: u32,
}

impl Galleries {
    /// The report on the current state of a gallery, by its name, or of the one in use. Takes up to a few
    /// seconds.
    ///
    /// # Errors
    /// [`Refusal::UnknownGallery`].
    pub fn report(&self, gallery: Option<&str>) -> Result<GalleryReport, Refusal> {
        let galleries = self.core.galleries();
        let slot = galleries.named(gallery)?;
        let gallery = &slot.gallery;
        let measured = gallery.measure(SAMPLES_MEASURED);
        let derived = gallery.thresholds().derived(None);
        let threshold = derived.threshold;
        let (others, owns) = scores(&measured);
        let has = |scores: &Scores| !scores.is_empty();
        let target = |fpir: f64| {
            let threshold = others.threshold(fpir);
            let fnir = threshold.filter(|_| has(&owns)).map(|t| owns.beyond(t.value));
            TargetLine { fpir, threshold, fnir }
        };
        let camera =
            |camera: String| CameraLine { derived: gallery.thresholds().derived(Some(&camera)), camera };
        let (alike, alike_pairs) = self.alike_pairs(&measured, threshold);
        let (weak, weak_people) = self.weak(&measured, threshold);
        Ok(GalleryReport {
            model: slot.mark.model.name.clone(),
            people: gallery.people(),
            samples: gallery.templates(),
            measured: measured.len(),
            threshold,
            target_fpir: gallery.thresholds().target(),
            derived,
            calibration: gallery.thresholds().calibration().map(|calibration| calibration.source.clone()),
            independent: others.independent(threshold),
            prospects: gallery.thresholds().prospects(),
            cameras: gallery.thresholds().cameras_apart().into_iter().map(camera).collect(),
            fpir: has(&others).then(|| others.within(threshold)),
            fnir: has(&owns).then(|| owns.beyond(threshold)),
            targets: TARGETS.iter().map(|fpir| target(*fpir)).collect(),
            alike,
            alike_pairs,
            weak,
            weak_people,
            bins: bins(&measured),
        })
    }

    fn id_of(&self, key: &KeyId) -> Option<String> {
        self.core.people().member(key).map(|member| member.profile.person.id.clone())
    }

    fn alike_pairs(&self, measured: &[Measured], threshold: f32) -> (Vec<Pair>, usize) {
        let mut pairs: BTreeMap<[KeyId; 2], f32> = BTreeMap::new();
        for Measured { person, other, .. } in measured {
            let Some((other, distance)) = other.filter(|(_, distance)| *distance <= threshold) else {
                continue;
            };
            let pair = if *person < other { [*person, other] } else { [other, *person] };
            let least = pairs.entry(pair).or_insert(distance);
            *least = least.min(distance);
        }
        let mut sorted: Vec<_> = pairs.into_iter().collect();
        sorted.sort_by(|a, b| a.1.total_cmp(&b.1));
        let line = |([a, b], distance): &([KeyId; 2], f32)| {
            Some(Pair { ids: [self.id_of(a)?, self.id_of(b)?], distance: *distance })
        };
        (sorted.iter().filter_map(line).take(LINES_MAX).collect(), sorted.len())
    }

    /// People with one sample, or with samples that the others do not find; the worst first.
    fn weak(&self, measured: &[Measured], threshold: f32) -> (Vec<Weak>, usize) {
        let mut people: HashMap<KeyId, (usize, usize)> = HashMap::new();
        for Measured { person, own, other } in measured {
            let nearest_other = other.map_or(f32::INFINITY, |(_, distance)| distance);
            let is_missed = own.is_some_and(|own| own > threshold || own >= nearest_other);
            let (samples, missed) = people.entry(*person).or_default();
            *samples += 1;
            *missed += usize::from(is_missed);
        }
        let mut weak: Vec<_> =
            people.into_iter().filter(|(_, (samples, missed))| *samples == 1 || *missed > 0).collect();
        weak.sort_by_key(|(key, (samples, missed))| (std::cmp::Reverse(*missed), *samples, *key));
        let line = |(key, (samples, missed)): &(KeyId, (usize, usize))| {
            Some(Weak { id: self.id_of(key)?, samples: *samples, missed: *missed })
        };
        (weak.iter().filter_map(line).take(LINES_MAX).collect(), weak.len())
    }
}

/// Distances to the nearest other person, and to the own person where no other is nearer.
fn scores(measured: &[Measured]) -> (Scores, Scores) {
    let mut numbers: HashMap<KeyId, u32> = HashMap::new();
    let (mut others, mut owns) = (Vec::new(), Vec::new());
    for Measured { person, own, other } in measured {
        let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        let person = *numbers.entry(*person).or_insert(next);
        let other = other.map(|(_, distance)| distance);
        others.extend(other.map(|distance| Score { person, distance }));
        let found = |own: f32| if own < other.unwrap_or(f32::INFINITY) { own } else { f32::INFINITY };
        owns.extend(own.map(|own| Score { person, distance: found(own) }));
    }
    (Scores::new(others), Scores::new(owns))
}

fn bins(measured: &[Measured]) -> Vec<Bin> {
    let others = measured.iter().filter_map(|sample| sample.other.map(|(_, distance)| distance));
    let owns = measured.iter().filter_map(|sample| sample.own);
    let largest = others.clone().chain(owns.clone()).fold(0.0_f32, f32::max);
    let step = largest / BINS as f32;
    if step <= 0.0 {
        return Vec::new();
    }
    let mut bins: Vec<Bin> = (1..=BINS).map(|at| Bin { to: step * at as f32, own: 0, other: 0 }).collect();
    let at = |distance: f32| ((distance / step) as usize).min(BINS - 1);
    others.for_each(|distance| bins[at(distance)].other += 1);
    owns.for_each(|distance| bins[at(distance)].own += 1);
    bins
}
