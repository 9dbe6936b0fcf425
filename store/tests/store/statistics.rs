//! Impostor statistics of a model for tests: the encodings of its people are orthogonal.

use gatehouse_gallery::calibration::{
    BoundFactor, CALIBRATION_FORMAT, Calibration, Quantile, SamplesFactor, Spread,
};
use gatehouse_model::Metric;

/// Statistics of a model with one stranger in a thousand within slightly more than half of the mean distance.
pub(crate) fn statistics(model: &str, dimensions: usize, metric: Metric) -> Calibration {
    let unit = match metric {
        Metric::Euclidean => std::f64::consts::SQRT_2,
        Metric::Cosine => 1.0,
    };
    let point = |share: f64, distance: f64| Quantile { share, distance: distance * unit };
    Calibration {
        format: CALIBRATION_FORMAT,
        model: model.to_owned(),
        dimensions,
        metric,
        source: "made up".into(),
        people: 10_000,
        encodings: 10_000,
        norm: Spread { mean: 1.0, deviation: 0.1 },
        impostor_distance: unit,
        gallery_deviation: 0.1,
        impostor: vec![point(0.001, 0.57), point(0.01, 0.64), point(0.5, 1.0), point(0.99, 1.14)],
        samples: vec![SamplesFactor { samples: 1, factor: 1.0 }],
        bounds: vec![BoundFactor { people: 1, target: 0.001, factor: 0.9 }],
        genuine: Vec::new(),
    }
}
