//! Export of a person, in pages. No page contains data of another person: of a visit only the person's own faces are
//! exported, and attributes are left out if they may describe another person.

use gatehouse_model::{Event, Person};
use gatehouse_store::store::{EventQuery, EventView, MediaQuery, Store};
use serde_json::Value;
use tracing::info;

use super::{blocking, media, people, store_fault};
use crate::control::Services;
use gatehouse_control::answers::{
    ExportedTemplates, ExportedVisit, FaceLine, JsonText, MediaLine, PersonExportPage,
};
use gatehouse_control::types::Fault;

/// Visits in one page. With their files they are far below the largest reply.
const PAGE_VISITS: usize = 200;

/// A request for a page.
pub(super) struct ExportRequest {
    pub(super) id: String,
    /// Number before which the page begins; none for the first page.
    pub(super) before: Option<u64>,
    /// Whether the first page has the numbers of the encodings.
    pub(super) templates: bool,
}

/// The log contains the export and the user id of the caller, never the person.
pub(super) async fn page(
    services: &Services,
    request: ExportRequest,
    uid: u32,
) -> Result<PersonExportPage, Fault> {
    let person = people::show(services, &request.id)?;
    let device = services.settings.started().device.id.clone();
    let (is_first, with_numbers) = (request.before.is_none(), request.templates);
    let (store, id) = (services.store.clone(), request.id.clone());
    let templates = match is_first {
        true => blocking(move || Ok(templates_of(&store, &id, with_numbers))).await?,
        false => Vec::new(),
    };
    let store = services.store.clone();
    let visits = blocking(move || visits_of(&store, &request)).await?;
    if is_first {
        info!(uid, templates = with_numbers, "person exported");
    }
    let next = visits.last().map(|visit| visit.seq).filter(|_| visits.len() >= PAGE_VISITS);
    Ok(PersonExportPage { device, person, visits, next, templates })
}

/// Signs the list of files of an export.
pub(super) async fn sign(services: &Services, manifest: &str) -> Result<Option<String>, Fault> {
    let mut digest = [0; 32];
    hex::decode_to_slice(manifest, &mut digest)
        .map_err(|_| Fault::refused("the hash of the list of files is not 64 hexadecimal digits"))?;
    let (device, privacy) = (services.settings.started().device.clone(), services.store.privacy.clone());
    let sign =
        move || privacy.sign_export(device.environment.as_str(), &device.id, digest).map_err(store_fault);
    blocking(sign).await
}

fn templates_of(store: &Store, id: &str, with_numbers: bool) -> Vec<ExportedTemplates> {
    let galleries = store.privacy.encodings(id).into_iter();
    let exported = galleries.map(|own| {
        let numbers = || own.encodings.iter().map(|encoding| encoding.as_slice().to_vec()).collect();
        let encodings = with_numbers.then(numbers);
        let (model, dimensions, count) = (own.model, own.dimensions, own.encodings.len());
        ExportedTemplates { model, dimensions, count, encodings }
    });
    exported.collect()
}

fn visits_of(store: &Store, request: &ExportRequest) -> Result<Vec<ExportedVisit>, Fault> {
    let (person, before) = (Some(request.id.clone()), request.before);
    let query = EventQuery { person, before, limit: PAGE_VISITS, ..EventQuery::default() };
    let others = store.privacy.words_of_others(&request.id);
    let visits = store.events.list(&query).map_err(store_fault)?;
    visits.into_iter().map(|view| visit(store, view, &request.id, &others)).collect()
}

fn visit(store: &Store, view: EventView, id: &str, others: &[String]) -> Result<ExportedVisit, Fault> {
    let EventView { seq, event, identification, time } = view;
    let files = MediaQuery { event: Some(event.key.clone()), limit: usize::MAX };
    let files = store.media.list(&files).map_err(store_fault)?;
    let is_own = |person: &Option<Person>| person.as_ref().is_some_and(|person| person.id == id);
    let (own, other): (Vec<_>, Vec<_>) =
        identification.faces.into_iter().partition(|face| is_own(&face.person));
    let Event { key, attributes, .. } = event;
    let is_left_out = !other.is_empty() || names_any(&attributes, others);
    Ok(ExportedVisit {
        seq,
        camera: key.camera.into(),
        event_id: key.id.into(),
        received_at: time.at.to_string(),
        faces: own.into_iter().map(FaceLine::from).collect(),
        other_faces: other.len(),
        attributes: if is_left_out { None } else { JsonText::new(&attributes) },
        attributes_left_out: is_left_out,
        files: files.into_iter().map(media::line).collect::<Vec<MediaLine>>(),
    })
}

/// Whether a text of JSON contains one of these words, in any case of letters and with any escapes.
fn names_any(json: &str, words: &[String]) -> bool {
    let mut text = String::new();
    match serde_json::from_str(json) {
        Ok(value) => collect(&value, &mut text),
        Err(_) => text.push_str(json),
    }
    let text = text.to_lowercase();
    words.iter().any(|word| text.contains(word))
}

/// Appends all strings, numbers and names of members. The depth of attributes is bounded on arrival.
fn collect(value: &Value, text: &mut String) {
    match value {
        Value::String(string) => text.push_str(string),
        Value::Array(items) => items.iter().for_each(|item| collect(item, text)),
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            text.push_str(name);
            text.push('\n');
            collect(value, text);
        }),
        other => text.push_str(&other.to_string()),
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_that_name_another_person_are_found_whatever_the_escapes() {
        let others = ["bert berg".to_owned(), "josé".to_owned()];
        for named in [r#"{"a":["x",{"who":"BERT Berg"}]}"#, r#"{"Jos\u00e9":1}"#, "bert berg, no JSON"] {
            assert!(names_any(named, &others), "{named}");
        }
        for free in [r#"{"who":"Bert","last":"Berg"}"#, "{}", r#"{"n":12}"#] {
            assert!(!names_any(free, &others), "{free}");
        }
    }
}
