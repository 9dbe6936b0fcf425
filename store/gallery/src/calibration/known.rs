//! Models whose impostor statistics are built into the program.
//!
//! Each file in `known/` is the output of `gatehouse gallery evaluate --save-calibration`. Its `source` names
//! the encodings.

use std::sync::{Arc, OnceLock};

use super::Calibration;
use crate::Metric;

const FILES: [&str; 5] = [
    include_str!("known/dlib-128-euclidean.json"),
    include_str!("known/dlib-128-cosine.json"),
    include_str!("known/facenet-512-euclidean.json"),
    include_str!("known/facenet-512-cosine.json"),
    include_str!("known/cosface-512-cosine.json"),
];
/// Maximum number of edits between two names that are treated as a typing error.
const EDITS_MAX: usize = 2;

/// The built-in calibrations.
pub fn known_calibrations() -> &'static [Arc<Calibration>] {
    static KNOWN: OnceLock<Vec<Arc<Calibration>>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let parse = |text: &&str| {
            serde_json::from_str::<Calibration>(text).ok().filter(|known| known.check().is_ok())
        };
        FILES.iter().filter_map(parse).map(Arc::new).collect()
    })
}

/// The calibration of a model with these dimensions and metric, if the model is known.
pub fn known_calibration(model: &str, dimensions: usize, metric: Metric) -> Option<Arc<Calibration>> {
    known_calibrations().iter().find(|known| known.is_of(model, dimensions, metric)).cloned()
}

/// For an unknown model, a sentence that suggests values for `gallery.model` and related settings.
pub fn model_advice(model: &str, dimensions: usize, metric: Metric) -> Option<String> {
    if known_calibration(model, dimensions, metric).is_some() {
        return None;
    }
    let same_name: Vec<String> =
        known_calibrations().iter().filter(|known| known.model == model).map(|known| known.title()).collect();
    if !same_name.is_empty() {
        return Some(format!("{model} is known as {}", same_name.join(" or ")));
    }
    let plain =
        |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let ours = plain(model);
    let is_near = |known: &&Arc<Calibration>| {
        let theirs = plain(&known.model);
        let family = theirs.trim_end_matches(|digit: char| digit.is_ascii_digit());
        edits(&ours, &theirs) <= EDITS_MAX || ours.starts_with(family)
    };
    let near = known_calibrations().iter().find(is_near)?;
    Some(format!("did you mean {}?", near.title()))
}

/// The Levenshtein distance of two short names.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_read_and_names_its_source() {
        assert_eq!(known_calibrations().len(), FILES.len());
        assert!(known_calibrations().iter().all(|known| !known.source.is_empty()));
    }

    #[test]
    fn a_name_that_is_nearly_known_is_asked_about() {
        let advice = |model, dimensions, metric| model_advice(model, dimensions, metric);
        assert_eq!(advice("dlib-128", 128, Metric::Euclidean), None);
        for (model, dimensions) in [("dlib128", 128), ("DLIB-128", 128), ("dlib", 128), ("dilb-128", 128)] {
            let advice = advice(model, dimensions, Metric::Euclidean).unwrap();
            assert!(advice.contains("did you mean dlib-128 with 128 components, euclidean"), "{advice}");
        }
        for model in ["facenet", "FaceNet512", "facenet_512"] {
            assert!(advice(model, 512, Metric::Cosine).unwrap().contains("facenet-512"), "{model}");
        }
        let metric = advice("cosface-512", 512, Metric::Euclidean).unwrap();
        assert_eq!(metric, "cosface-512 is known as cosface-512 with 512 components, cosine");
        assert_eq!(advice("our-own-model", 256, Metric::Cosine), None);
    }
}
