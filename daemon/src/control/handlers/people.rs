//! Enroll, list, show, rename, suspend, erase, identify. The log contains the operation and the user id of the caller, never the person.

use gatehouse_gallery::Encoding;
use gatehouse_model::{CameraName, Model, Timestamp};
use gatehouse_store::people::PersonSummary;
use gatehouse_store::store::{Enrolled, Enrollment, Galleries, OrderedBy, ProbeFace, Refusal};
use gatehouse_store::terms::Consent;
use tracing::{info, warn};

use super::{Answer, blocking, store_fault, value};
use crate::control::Services;
use gatehouse_control::answers::{FaceLine, IdentifyAnswer, PersonErasure};
use gatehouse_control::encodings::RawEncoding;
use gatehouse_control::types::{ENCODINGS_MAX, Fault};

/// Placeholder for no camera: the threshold of the gallery applies. No camera can be configured under this name.
const NO_CAMERA: &str = "-";

/// A request to enroll a person.
pub(super) struct EnrollRequest {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) encodings: Vec<RawEncoding>,
    /// Name of the gallery; none for the one in use.
    pub(super) gallery: Option<String>,
    /// Whether doubtful encodings are accepted.
    pub(super) force: bool,
    /// The consent, as far as it is given.
    pub(super) consent: Consent,
}

/// A consent as it is requested.
pub(super) fn consent(reference: Option<String>, until: Option<&str>) -> Result<Consent, Fault> {
    let parse = |text: &str| {
        Timestamp::parse(text).ok_or_else(|| Fault::refused("the end of the consent is not RFC 3339"))
    };
    Ok(Consent { reference, until: until.map(parse).transpose()? })
}

pub(super) async fn enroll(
    services: &Services,
    request: &EnrollRequest,
    uid: u32,
) -> Result<Enrolled, Fault> {
    let galleries = services.store.galleries.current();
    let model = galleries.model(request.gallery.as_deref()).map_err(store_fault)?.clone();
    let encodings = checked(&model, &request.encodings)?;
    let EnrollRequest { id, name, force, consent, .. } = request;
    let (force, consent) = (*force, consent.clone());
    // By name: a switch in between must not move the encodings to another gallery.
    let gallery = Some(model.name.as_str());
    let enrollment = Enrollment { id, name, encodings, gallery, force, consent };
    let enrolled = services.store.people.enroll_reviewed(enrollment).await.map_err(store_fault)?;
    let Enrolled { person, added, repeated, alike, doubtful, no_threshold } = &enrolled;
    let (alike, doubtful) = (alike.len(), doubtful.len());
    info!(uid, added, repeated, force, samples = person.samples, alike, doubtful, "person enrolled");
    if let Some(cause) = no_threshold {
        warn!("no face is recognized: {cause}");
    }
    Ok(enrolled)
}

/// In a blocking task: a list of 200,000 people takes long to serialize.
pub(super) async fn list(services: &Services) -> Result<Answer, Fault> {
    let people = services.store.people.clone();
    blocking(move || value(people.list())).await
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

pub(super) async fn suspend(
    services: &Services,
    id: &str,
    reason: Option<&str>,
    uid: u32,
) -> Result<PersonSummary, Fault> {
    let person = services.store.privacy.suspend(id, reason).await.map_err(store_fault)?;
    info!(uid, "person suspended");
    Ok(person)
}

pub(super) async fn resume(services: &Services, id: &str, uid: u32) -> Result<PersonSummary, Fault> {
    let person = services.store.privacy.resume(id).await.map_err(store_fault)?;
    info!(uid, "person resumed");
    Ok(person)
}

pub(super) async fn erase(
    services: &Services,
    id: &str,
    now: bool,
    uid: u32,
) -> Result<PersonErasure, Fault> {
    let by = OrderedBy::User(uid);
    if let Some(grace) = services.settings.started().privacy.grace().filter(|_| !now) {
        let person = services.store.privacy.order_erasure(id, by, grace).await.map_err(store_fault)?;
        info!(uid, "erasure of a person ordered");
        return Ok(PersonErasure::Ordered(person));
    }
    let erased = services.store.people.erase(id, by).await.map_err(store_fault)?;
    info!(uid, samples = erased.samples, "person erased");
    Ok(PersonErasure::Done(erased))
}

pub(super) async fn restore(services: &Services, id: &str, uid: u32) -> Result<PersonSummary, Fault> {
    let person = services.store.privacy.restore(id).await.map_err(store_fault)?;
    info!(uid, "erasure of a person cancelled");
    Ok(person)
}

/// In a blocking task: a search in a large gallery takes milliseconds for each encoding.
pub(super) async fn identify(
    services: &Services,
    camera: Option<String>,
    gallery: Option<String>,
    encodings: Vec<RawEncoding>,
) -> Result<IdentifyAnswer, Fault> {
    let galleries = services.store.galleries.clone();
    blocking(move || search(&galleries, camera, gallery.as_deref(), &encodings)).await
}

fn search(
    store: &Galleries,
    camera: Option<String>,
    gallery: Option<&str>,
    encodings: &[RawEncoding],
) -> Result<IdentifyAnswer, Fault> {
    let camera = camera.unwrap_or_else(|| NO_CAMERA.to_owned());
    let camera = CameraName::try_from(camera).map_err(Fault::refused)?;
    let galleries = store.current();
    let faces = checked(galleries.model(gallery).map_err(store_fault)?, encodings)?.into_iter();
    let faces: Vec<ProbeFace> = faces.map(|encoding| ProbeFace { encoding, quality: None }).collect();
    let answer = store.identify_named(&galleries, gallery, &camera, &faces).map_err(store_fault)?;
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
            "1 to {ENCODINGS_MAX} encodings are accepted at a time, not {}",
            encodings.len()
        )));
    }
    let check = |(at, encoding): (usize, &RawEncoding)| {
        Encoding::new(encoding.to_vec(), model.dimensions)
            .map_err(|fault| Fault::refused(Refusal::Encoding { nth: at + 1, fault }))
    };
    encodings.iter().enumerate().map(check).collect()
}
