//! Encodings with names, from files.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::str::FromStr;

use std::collections::HashMap;

use anyhow::{Context, Result};
use fastrand::Rng;
use gatehouse_gallery::calibration::{Calibration, CalibrationTitle};
use gatehouse_gallery::evaluate::{Samples, calibrate};
use gatehouse_gallery::{Encoding, GallerySettings};
use gatehouse_model::Metric;

/// A file of encodings and how they are compared.
#[derive(Debug, Clone)]
pub struct EncodingSet {
    /// Name of the model.
    pub model: String,
    /// How encodings are compared.
    pub metric: Metric,
    /// CSV: person, number, number, ...
    pub file: PathBuf,
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
    /// From faces by person.
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

    /// The people in two random parts: two thirds to measure, one third to draw from.
    pub(crate) fn parts(&self, random: &mut Rng) -> (Vec<usize>, Vec<usize>) {
        let mut all: Vec<usize> = (0..self.faces.len()).collect();
        random.shuffle(&mut all);
        let other = all.split_off(all.len() * 2 / 3);
        (all, other)
    }

    /// The calibration of some of the people.
    pub(crate) fn calibrate(&self, set: &EncodingSet, people: &[usize]) -> Result<Calibration> {
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
