//! `gatehouse identify FILE`

use std::path::PathBuf;

use super::session::Session;
use super::table::Table;
use super::{format, input};
use gatehouse_control::answers::{FaceLine, IdentifyAnswer};
use gatehouse_control::types::{Fault, Request};
use gatehouse_model::{Effort, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// JSON file with one encoding or an array of encodings; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Use the threshold of this camera.
    #[arg(long, value_name = "CAMERA")]
    camera: Option<String>,
    /// Search this gallery instead of the one in use.
    #[arg(long, value_name = "NAME")]
    gallery: Option<String>,
}

pub(super) fn run(args: Args, session: &mut Session) -> Result<(), Fault> {
    let Args { file, camera, gallery } = args;
    let encodings = input::encodings(&file)?;
    session.ask_and_show(&Request::Identify { camera, gallery, encodings }, |answer: &IdentifyAnswer| {
        let against = format::count(answer.gallery_size.into(), "person", "people");
        let IdentifyAnswer { model, effort, .. } = answer;
        format!("{}\nagainst {against}, model {model}{}\n", faces(&answer.faces), effort_text(*effort))
    })
}

/// Engine and time of a search, to be appended to a line; empty if unknown.
pub(super) fn effort_text(effort: Option<Effort>) -> String {
    effort.map_or_else(String::new, |Effort { engine, micros }| {
        format!(", engine {}, {micros} us", engine.as_str())
    })
}

/// A table of faces with their outcomes.
pub(super) fn faces(faces: &[FaceLine]) -> String {
    let mut table =
        Table::new(["FACE", "OUTCOME", "ID", "NAME", "DISTANCE", "THRESHOLD", "MARGIN", "QUALITY"]);
    for (at, face) in faces.iter().enumerate() {
        let (id, name) = face.person.as_ref().map_or(("-", "-"), |person| (&person.id, &person.name));
        table.row([
            (at + 1).to_string(),
            outcome(face.outcome).to_owned(),
            id.to_owned(),
            name.to_owned(),
            format::distance(face.distance),
            format::distance(Some(face.threshold)),
            format::distance(face.margin),
            format::distance(face.quality),
        ]);
    }
    table.text("no faces\n")
}

/// Name of an outcome.
pub(super) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Match => "match",
        Outcome::Ambiguous => "ambiguous",
        Outcome::Stranger => "stranger",
        Outcome::Unusable => "unusable",
    }
}
