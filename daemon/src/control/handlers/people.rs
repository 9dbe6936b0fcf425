//! Enrol, show, rename, erase, identify. The log tells that it happened and who asked, never who was concerned.

use gatehouse_gallery::Encoding;
use gatehouse_model::{CameraName, Model};
use gatehouse_store::people::PersonSummary;
use gatehouse_store::store::{Enrolled, Enrollment, Erased, ProbeFace, Refusal};
use tracing::{info, warn};

use super::store_fault;
use crate::control::Services;
use gatehouse_control::answers::{FaceLine, IdentifyAnswer};
use gatehouse_control::encodings::RawEncoding;
use gatehouse_control::types::{ENCODINGS_MAX, Fault};

/// Stands for no camera: the gallery's own threshold counts. No camera can be configured under this name.
const NO_CAMERA: &str = "-";

pub(super) async fn enroll(
    services: &Services,
    (id, name): (&str, &str),
    encodings: &[RawEncoding],
    (gallery, force): (Option<String>, bool),
    uid: u32,
) -> Result<Enrolled, Fault> {
    // By its name, so that a switch in between does not take them into another one.
    let model = services.store.galleries.current().model(gallery.as_deref()).map_err(store_fault)?.clone();
    let encodings = checked(&model, encodings)?;
    let gallery = Some(model.name.as_str());
    let enrolled =
        services.store.people.enroll_reviewed(Enrollment { id, name, encodings, gallery, force }).await;
    let enrolled = enrolled.map_err(store_fault)?;
    let Enrolled { person, added, repeated, alike, doubtful, no_threshold } = &enrolled;
    let (alike, doubtful) = (alike.len(), doubtful.len());
    info!(uid, added, repeated, force, samples = person.samples, alike, doubtful, "person enrolled");
    if let Some(cause) = no_threshold {
        warn!("no face is recognized: {cause}");
    }
    Ok(enrolled)
}

pub(super) fn show(services: &Services, id: &str) -> Result<PersonSummary, Fault> {
    services.store.people.get(id).ok_or_else(|| store_fault(Refusal::UnknownPerson(id.to_owned())))
}

pub(super) async fn rename(
    services: &Services,
    id: &str,
    name: &str,
    uid: u32,
) -> Result<PersonSummary, Fault> {
    let person = services.store.people.rename(id, name).await.map_err(store_fault)?;
    info!(uid, "person renamed");
    Ok(person)
}

pub(super) async fn erase(services: &Services, id: &str, uid: u32) -> Result<Erased, Fault> {
    let erased = services.store.people.erase(id).await.map_err(store_fault)?;
    info!(uid, samples = erased.samples, "person erased");
    Ok(erased)
}

pub(super) fn identify(
    services: &Services,
    camera: Option<String>,
    gallery: Option<&str>,
    encodings: &[RawEncoding],
) -> Result<IdentifyAnswer, Fault> {
    let camera = camera.unwrap_or_else(|| NO_CAMERA.to_owned());
    let camera = CameraName::try_from(camera).map_err(Fault::refused)?;
    let galleries = services.store.galleries.current();
    let faces = checked(galleries.model(gallery).map_err(store_fault)?, encodings)?.into_iter();
    let faces: Vec<ProbeFace> = faces.map(|encoding| ProbeFace { encoding, quality: None }).collect();
    let answer =
        services.store.galleries.identify_named(&galleries, gallery, &camera, &faces).map_err(store_fault)?;
    Ok(IdentifyAnswer {
        gallery_size: answer.gallery_size,
        model: answer.model,
        effort: answer.effort,
        faces: answer.faces.into_iter().map(FaceLine::from).collect(),
    })
}

fn checked(model: &Model, encodings: &[RawEncoding]) -> Result<Vec<Encoding>, Fault> {
    if encodings.is_empty() || encodings.len() > ENCODINGS_MAX {
        return Err(Fault::refused(format!(
            "1 to {ENCODINGS_MAX} encodings are taken at a time, there are {}",
            encodings.len()
        )));
    }
    let check = |(at, encoding): (usize, &RawEncoding)| {
        Encoding::new(encoding.to_vec(), model.dimensions)
            .map_err(|fault| Fault::refused(Refusal::Encoding { nth: at + 1, fault }))
    };
    encodings.iter().enumerate().map(check).collect()
}
