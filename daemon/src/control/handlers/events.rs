//! Stored events.

use gatehouse_model::{CameraName, Event, EventId, EventKey, Outcome, Timestamp};
use gatehouse_store::store::{Corrected, CorrectionFault, EventQuery, EventView};
use tracing::info;

use super::{ask, people, store_fault};
use crate::control::Services;
use gatehouse_control::answers::{EventLine, FaceLine, JsonText};
use gatehouse_control::types::Fault;

pub(super) fn query(
    camera: Option<String>,
    person: Option<String>,
    since: Option<&str>,
    limit: usize,
) -> Result<EventQuery, Fault> {
    let camera = camera.map(CameraName::try_from).transpose().map_err(Fault::refused)?;
    let since = since.map(|text| {
        Timestamp::parse(text).ok_or_else(|| Fault::refused(format!("`{text}` is not a time: use RFC 3339")))
    });
    Ok(EventQuery { camera, person, since: since.transpose()?, before: None, limit })
}

pub(super) async fn list(services: &Services, query: EventQuery) -> Result<Vec<EventLine>, Fault> {
    if let Some(person) = &query.person {
        // A misspelt id must be an error, not an empty list.
        people::show(services, person)?;
    }
    let found = ask(&services.store.events, move |events| events.list(&query)).await?;
    Ok(found.into_iter().map(|view| line(view, false)).collect())
}

pub(super) async fn show(services: &Services, event: String) -> Result<EventLine, Fault> {
    Ok(line(find(services, event).await?, true))
}

/// The log contains the correction and the user id of the caller, never the person.
pub(super) async fn correct(
    services: &Services,
    event: String,
    face: Option<usize>,
    uid: u32,
) -> Result<Corrected, Fault> {
    let found = find(services, event).await?;
    if !found.identification.faces.iter().any(|face| face.outcome == Outcome::Match) {
        return Err(store_fault(CorrectionFault::NoMatch));
    }
    let corrected = services.store.people.correct(&found.event.key, face).await.map_err(store_fault)?;
    info!(uid, corrections = corrected.corrections, "match corrected");
    Ok(corrected)
}

/// An event by its number, or by camera and id.
async fn find(services: &Services, event: String) -> Result<EventView, Fault> {
    let unknown = Fault::refused(format!("there is no event {event}")).advise("see gatehouse event list");
    let found = match event.parse::<u64>() {
        Ok(seq) => ask(&services.store.events, move |events| events.numbered(seq)).await?,
        Err(_) => {
            let key = key(&event)?;
            ask(&services.store.events, move |events| events.get(&key)).await?
        }
    };
    found.ok_or(unknown)
}

/// Reads `camera/event id`.
pub(super) fn key(text: &str) -> Result<EventKey, Fault> {
    let (camera, id) = text.split_once('/').ok_or_else(|| {
        Fault::refused(format!("`{text}` is not an event: use CAMERA/EVENT-ID or its number"))
    })?;
    Ok(EventKey {
        camera: CameraName::try_from(camera).map_err(Fault::refused)?,
        id: EventId::try_from(id).map_err(Fault::refused)?,
    })
}

fn line(view: EventView, whole: bool) -> EventLine {
    let Event { key, kind, occurred_at, received_at, media, attributes } = view.event;
    EventLine {
        seq: view.seq,
        correlation: key.correlation(),
        camera: key.camera.into(),
        event_id: key.id.into(),
        kind,
        occurred_at: occurred_at.map(|at| at.to_string()),
        received_at: view.time.at.to_string(),
        clock_uncertainty_ms: view.time.uncertainty_ms,
        clock_said: received_at.to_string(),
        gallery_size: view.identification.gallery_size,
        model: view.identification.model,
        effort: view.identification.effort,
        faces: view.identification.faces.into_iter().map(FaceLine::from).collect(),
        media: media.into_iter().map(String::from).collect(),
        // They were stored as a JSON object. Other text is shown as it is.
        attributes: whole.then(|| JsonText::new(&attributes)).flatten(),
    }
}
