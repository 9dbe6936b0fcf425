//! Labeled encodings from files.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::str::FromStr;

use std::collections::HashMap;

use anyhow::{Context, Result};
use fastrand::Rng;
use gatehouse_gallery::calibration::{CALIBRATION_PEOPLE_MIN, CalibrationTitle, Measured};
use gatehouse_gallery::evaluate::{Samples, calibrate};
use gatehouse_gallery::{Encoding, GallerySettings};
use gatehouse_model::Metric;

use super::MEASURED_ONE_OF;

/// Minimum number of strangers of a draw.
const STRANGERS_MIN: usize = 5;

/// A file of encodings, with the model and the metric.
#[derive(Debug, Clone)]
pub struct EncodingSet {
    /// Name of the model.
    pub model: String,
    /// How encodings are compared.
    pub metric: Metric,
    /// CSV: person, number, number, ...
    pub file: PathBuf,
}

/// One of two fixed halves of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    /// For choosing a constant.
    Choice,
    /// For evaluating it.
    Report,
}

impl Half {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Choice => "choice",
            Self::Report => "report",
        }
    }
}

/// How many of the people are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Split {
    /// One of n people.
    OneOf(usize),
    /// None: the built-in calibration is used, which contains the people who are drawn.
    Program,
}

/// The people who are measured, and those who are drawn.
pub(crate) struct Parts {
    pub(crate) measured: Vec<usize>,
    pub(crate) drawn: Vec<usize>,
}

/// The people of a set.
pub(crate) struct People {
    dimensions: usize,
    faces: Vec<Vec<Encoding>>,
}

impl FromStr for EncodingSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, ',');
        let (Some(model), Some(metric), Some(file)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("write MODEL,METRIC,FILE.csv".to_owned());
        };
        let metric = match metric {
            "euclidean" => Metric::Euclidean,
            "cosine" => Metric::Cosine,
            _ => return Err("the metric is euclidean or cosine".to_owned()),
        };
        Ok(Self { model: model.to_owned(), metric, file: file.into() })
    }
}

impl EncodingSet {
    /// Model and metric.
    pub(crate) fn name(&self) -> String {
        format!("{}, {}", self.model, metric_name(self.metric))
    }

    /// Settings of a gallery of the set, without a fixed threshold.
    pub(crate) fn settings(&self, dimensions: usize) -> GallerySettings {
        GallerySettings {
            model: self.model.clone(),
            dimensions,
            metric: self.metric,
            normalised: false,
            threshold: 0.0,
            camera_thresholds: HashMap::new(),
            minimum_quality: 0.0,
            exact_limit: usize::MAX,
        }
    }

    pub(crate) fn read(&self) -> Result<People> {
        let file = File::open(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?;
        let samples = Samples::read(BufReader::new(file))?;
        let mut faces = vec![Vec::new(); samples.people()];
        for (person, encoding) in samples.list() {
            faces[*person as usize].push(encoding.clone());
        }
        Ok(People { dimensions: samples.dimensions(), faces })
    }
}

impl People {
    /// People with the given faces.
    pub(crate) fn new(faces: Vec<Vec<Encoding>>, dimensions: usize) -> Self {
        Self { dimensions, faces }
    }

    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub(crate) fn count(&self) -> usize {
        self.faces.len()
    }

    pub(crate) fn faces(&self, person: usize) -> &[Encoding] {
        &self.faces[person]
    }

    /// Number of people with more encodings than `samples`.
    pub(crate) fn with_more_than(&self, samples: usize) -> usize {
        self.faces.iter().filter(|faces| faces.len() > samples).count()
    }

    /// One half: every other person of the file.
    pub(crate) fn half(&self, half: Half) -> Self {
        let first = usize::from(half == Half::Report);
        let faces = self.faces.iter().skip(first).step_by(2).cloned().collect();
        Self { dimensions: self.dimensions, faces }
    }

    /// The first split with enough people for enrollment and enough strangers.
    pub(crate) fn split_for(&self, enrolled: usize, samples: usize) -> Option<Split> {
        let leaves_enough = |one_of: usize| {
            let (people, fit) = (self.count(), self.with_more_than(samples));
            people / one_of >= CALIBRATION_PEOPLE_MIN
                && fit - fit.div_ceil(one_of) >= enrolled
                && people - people.div_ceil(one_of) >= enrolled + STRANGERS_MIN
        };
        if let Some(one_of) = MEASURED_ONE_OF.into_iter().find(|one_of| leaves_enough(*one_of)) {
            return Some(Split::OneOf(one_of));
        }
        let is_small = self.count() < 2 * CALIBRATION_PEOPLE_MIN;
        let is_enough = self.with_more_than(samples) >= enrolled && self.count() >= enrolled + STRANGERS_MIN;
        (is_small && is_enough).then_some(Split::Program)
    }

    /// Two random parts. Both contain people with many encodings and people with few.
    pub(crate) fn parts(&self, split: Split, random: &mut Rng) -> Parts {
        let mut all: Vec<usize> = (0..self.faces.len()).collect();
        random.shuffle(&mut all);
        all.sort_by_key(|person| std::cmp::Reverse(self.faces[*person].len()));
        let Split::OneOf(one_of) = split else { return Parts { measured: Vec::new(), drawn: all } };
        let (mut measured, mut drawn) = (Vec::new(), Vec::new());
        for people in all.chunks(one_of) {
            let chosen = random.usize(..people.len());
            for (at, person) in people.iter().enumerate() {
                if at == chosen { measured.push(*person) } else { drawn.push(*person) }
            }
        }
        Parts { measured, drawn }
    }

    /// The calibration of some of the people.
    pub(crate) fn calibrate(&self, set: &EncodingSet, people: &[usize]) -> Result<Measured> {
        let mut samples = Samples::default();
        for person in people {
            let faces = self.faces[*person].iter().cloned();
            faces.for_each(|face| samples.push(&person.to_string(), face));
        }
        let title = CalibrationTitle { model: set.model.clone(), source: "a part".to_owned() };
        Ok(calibrate(&samples, set.metric, title, 1)?)
    }
}

pub(crate) fn metric_name(metric: Metric) -> &'static str {
    match metric {
        Metric::Euclidean => "euclidean",
        Metric::Cosine => "cosine",
    }
}
