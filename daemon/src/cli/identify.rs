//! `gatehouse identify FILE`

use std::path::PathBuf;

use gatehouse_store::record::{Effort, Outcome};

use super::shell::Shell;
use super::table::Table;
use super::{input, words};
use crate::control::answers::{FaceLine, IdentifyAnswer};
use crate::control::types::{Fault, Request};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// JSON file with one encoding or an array of them; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Judge by the threshold of this camera.
    #[arg(long)]
    camera: Option<String>,
    /// Ask this gallery and not the one in use.
    #[arg(long, value_name = "NAME")]
    gallery: Option<String>,
}

pub(super) fn run(args: Args, shell: &mut Shell) -> Result<(), Fault> {
    let Args { file, camera, gallery } = args;
    let encodings = input::encodings(&file)?;
    shell.ask_and_show(&Request::Identify { camera, gallery, encodings }, |answer: &IdentifyAnswer| {
        let against = words::count(answer.gallery_size.into(), "person", "people");
        let IdentifyAnswer { model, effort, .. } = answer;
        format!("{}\nagainst {against}, model {model}{}\n", faces(&answer.faces), found(*effort))
    })
}

/// How an answer was found, behind other words; nothing where it is not known.
pub(super) fn found(effort: Option<Effort>) -> String {
    effort.map_or_else(String::new, |Effort { engine, micros }| {
        format!(", engine {}, {micros} us", engine.as_str())
    })
}

/// Faces with their answers.
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
            words::distance(face.distance),
            words::distance(Some(face.threshold)),
            words::distance(face.margin),
            words::distance(face.quality),
        ]);
    }
    table.text("no face\n")
}

/// The word for a decision.
pub(super) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Match => "match",
        Outcome::Ambiguous => "ambiguous",
        Outcome::Stranger => "stranger",
        Outcome::Unusable => "unusable",
    }
}
