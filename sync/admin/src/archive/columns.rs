//! The columns of the archive, and how an event fills them.
//!
//! Files name no person, because they cannot be changed later and an erasure must not need to. Only the fields listed
//! here are taken from an identification, so that a field added later does not name a person either. Device and date
//! are in the path of a file, where readers of partitioned data expect them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;

/// The columns in their order; times are in microseconds since 1970, UTC.
pub(super) const SCHEMA: &str = "message event {
    required int64 seq;
    required int64 received_at (TIMESTAMP(MICROS,true));
    optional int64 occurred_at (TIMESTAMP(MICROS,true));
    optional int64 clock_uncertainty_ms;
    required binary event_id (STRING);
    required binary camera (STRING);
    required binary kind (STRING);
    required int32 faces;
    required int32 matches;
    required int32 strangers;
    optional binary outcome (STRING);
    optional double distance;
    optional double threshold;
    optional double margin;
    optional double quality;
    optional int64 gallery_size;
    optional binary model (STRING);
    optional binary engine (STRING);
    optional int64 micros;
    required binary answers (STRING);
    required binary attributes (STRING);
}";
/// Columns whose values rarely repeat.
pub(super) const WITHOUT_DICTIONARY: [&str; 5] =
    ["seq", "received_at", "occurred_at", "event_id", "distance"];

/// The query whose rows [`Columns::push`] reads. An erasure does not reach a file of the archive, so the attributes of a
/// visit with a match, which may name the person, are not in it.
pub(super) const QUERY: &str = "select seq, received_at, occurred_at, clock_uncertainty_ms, event_id, camera, kind, \
     identification, case when jsonb_path_exists(identification, '$.faces[*] ? (@.outcome == \"match\")') then '{}' \
     else attributes::text end from gatehouse.events \
     where device_id = $1 and seq > $2 and seq <= $3 and received_at >= $4 and received_at < $5 order by seq limit $6";

/// Outcomes from best to worst. Of the same outcome the nearest face is the best.
const OUTCOMES: [&str; 4] = ["match", "ambiguous", "stranger", "unusable"];

/// An optional column: its values, and for each row whether it has one.
pub(super) struct Maybe<T> {
    pub(super) values: Vec<T>,
    pub(super) levels: Vec<i16>,
}

impl<T> Default for Maybe<T> {
    fn default() -> Self {
        Self { values: Vec::new(), levels: Vec::new() }
    }
}

impl<T> Maybe<T> {
    fn push(&mut self, value: Option<T>) {
        self.levels.push(i16::from(value.is_some()));
        self.values.extend(value);
    }
}

/// Events of one row group, by column.
#[derive(Default)]
pub(super) struct Columns {
    pub(super) seq: Vec<i64>,
    pub(super) received_at: Vec<i64>,
    pub(super) occurred_at: Maybe<i64>,
    pub(super) clock_uncertainty_ms: Maybe<i64>,
    pub(super) event_id: Vec<String>,
    pub(super) camera: Vec<String>,
    pub(super) kind: Vec<String>,
    pub(super) faces: Vec<i32>,
    pub(super) matches: Vec<i32>,
    pub(super) strangers: Vec<i32>,
    pub(super) outcome: Maybe<String>,
    pub(super) distance: Maybe<f64>,
    pub(super) threshold: Maybe<f64>,
    pub(super) margin: Maybe<f64>,
    pub(super) quality: Maybe<f64>,
    pub(super) gallery_size: Maybe<i64>,
    pub(super) model: Maybe<String>,
    pub(super) engine: Maybe<String>,
    pub(super) micros: Maybe<i64>,
    pub(super) answers: Vec<String>,
    pub(super) attributes: Vec<String>,
    /// Approximate size in bytes.
    pub(super) bytes: usize,
    /// Rows of kind `lost`.
    pub(super) lost: u64,
}

/// The archived result of a face.
#[derive(Serialize)]
struct Answer<'a> {
    outcome: Option<&'a str>,
    distance: Option<f64>,
    threshold: Option<f64>,
    margin: Option<f64>,
    quality: Option<f64>,
}

impl<'a> Answer<'a> {
    fn of(face: &'a Value) -> Self {
        let number = |name: &str| face.get(name).and_then(Value::as_f64);
        Self {
            outcome: face.get("outcome").and_then(Value::as_str),
            distance: number("distance"),
            threshold: number("threshold"),
            margin: number("margin"),
            quality: number("quality"),
        }
    }

    fn rank(&self) -> usize {
        let place = |outcome| OUTCOMES.iter().position(|known| *known == outcome);
        self.outcome.and_then(place).unwrap_or(OUTCOMES.len())
    }

    fn distance(&self) -> f64 {
        self.distance.unwrap_or(f64::INFINITY)
    }
}

impl Columns {
    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.seq.len()
    }

    /// Adds an event, a row of [`QUERY`].
    pub(super) fn push(&mut self, row: &Row) {
        let micros = |at: DateTime<Utc>| at.timestamp_micros();
        let identification: Value = row.get(7);
        let attributes: String = row.get(8);
        self.seq.push(row.get(0));
        self.received_at.push(micros(row.get(1)));
        self.occurred_at.push(row.get::<_, Option<_>>(2).map(micros));
        self.clock_uncertainty_ms.push(row.get(3));
        self.event_id.push(row.get(4));
        self.camera.push(row.get(5));
        self.kind.push(row.get(6));
        self.lost += u64::from(
            row.get::<_, &str>(6) == "lost" && identification.as_object().is_some_and(|o| o.is_empty()),
        );
        self.push_answer(&identification);
        // Numbers and short texts of a row have about this size.
        self.bytes += 200 + attributes.len() + self.answers.last().map_or(0, String::len);
        self.attributes.push(attributes);
    }

    fn push_answer(&mut self, identification: &Value) {
        let faces = identification.get("faces").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let answers: Vec<Answer<'_>> = faces.iter().map(Answer::of).collect();
        let of = |outcome: &str| answers.iter().filter(|answer| answer.outcome == Some(outcome)).count();
        self.faces.push(to_i32(answers.len()));
        self.matches.push(to_i32(of("match")));
        self.strangers.push(to_i32(of("stranger")));
        let best = answers.iter().min_by(|one, other| {
            one.rank().cmp(&other.rank()).then(one.distance().total_cmp(&other.distance()))
        });
        self.outcome.push(best.and_then(|best| best.outcome).map(str::to_owned));
        self.distance.push(best.and_then(|best| best.distance));
        self.threshold.push(best.and_then(|best| best.threshold));
        self.margin.push(best.and_then(|best| best.margin));
        self.quality.push(best.and_then(|best| best.quality));
        let text = |name: &str| identification.get(name).and_then(Value::as_str).map(str::to_owned);
        let number = |name: &str| identification.get(name).and_then(Value::as_i64);
        self.gallery_size.push(number("gallery_size"));
        self.model.push(text("model"));
        self.engine.push(text("engine"));
        self.micros.push(number("micros"));
        // Only strings and numbers, so this cannot fail.
        self.answers.push(serde_json::to_string(&answers).unwrap_or_default());
    }
}

/// Faces of one event. The bound on receipt is far below.
fn to_i32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_best_face_stands_for_the_event_and_no_person_is_named() {
        let mut columns = Columns::default();
        let face = |outcome: &str, distance: f64| {
            let person = json!({"id": "anna", "name": "Anna"});
            json!({"outcome": outcome, "person": person, "distance": distance, "threshold": 0.5, "later": "Anna"})
        };
        let faces = [face("stranger", 0.1), face("match", 0.4), face("match", 0.3)];
        columns
            .push_answer(&json!({"faces": faces, "model": "dlib-128", "gallery_size": 3, "later": "Anna"}));
        columns.push_answer(&json!({}));
        assert_eq!(
            (&columns.faces[..], &columns.matches[..], &columns.strangers[..]),
            (&[3, 0][..], &[2, 0][..], &[1, 0][..])
        );
        assert_eq!((&columns.distance.values[..], &columns.distance.levels[..]), (&[0.3][..], &[1, 0][..]));
        assert_eq!(
            (columns.outcome.values, columns.gallery_size.values),
            (vec!["match".to_owned()], vec![3])
        );
        assert_eq!(columns.answers[1], "[]");
        assert!(columns.answers[0].contains("0.1") && !columns.answers[0].to_lowercase().contains("anna"));
    }
}
