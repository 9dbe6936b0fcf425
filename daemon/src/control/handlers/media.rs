//! Stored media files.

use std::time::Duration;

use gatehouse_central::grant::Grant;
use gatehouse_model::{KeyId, MediaName};
use gatehouse_store::files::{SealedReader, content_type};
use gatehouse_store::record::Thumbnail;
use gatehouse_store::store::{MediaQuery, MediaState, MediaView, Refusal};

use super::{ask, events};
use crate::control::Services;
use gatehouse_control::answers::{MediaHeader, MediaLine};
use gatehouse_control::types::Fault;

pub(super) async fn list(
    services: &Services,
    event: Option<String>,
    limit: usize,
) -> Result<Vec<MediaLine>, Fault> {
    let event = event.as_deref().map(events::key).transpose()?;
    let query = MediaQuery { event, limit };
    let found = ask(&services.store.media, move |media| media.list(&query)).await?;
    Ok(found.into_iter().map(line).collect())
}

pub(super) async fn open(services: &Services, media: String) -> Result<(MediaHeader, SealedReader), Fault> {
    let view = find(services, &media).await?;
    if !view.on_disk {
        let place = line(view).place;
        let fault = Fault::refused(format!("{media} is no longer on this device"));
        return Err(match place {
            Some(place) => fault.advise(format!("it was delivered to {place}")),
            None => fault,
        });
    }
    let id = view.media.id;
    let reader = ask(&services.store.media, move |media| media.open(&id)).await?;
    let content_type = content_type(view.media.name.as_str(), &[]).to_owned();
    Ok((MediaHeader { media: line(view), content_type }, reader))
}

/// A URL for a delivered file.
pub(super) async fn url(
    services: &Services,
    media: String,
    thumbnail: Option<u16>,
    expires: Duration,
    uid: u32,
) -> Result<Grant, Fault> {
    let view = find(services, &media).await?;
    if services.settings.started().central.objects.is_none() {
        return Err(Fault::refused("[central.objects] is not configured: there are no delivered files")
            .advise("use gatehouse media get to read the file from this appliance"));
    }
    if let Some(edge) = thumbnail {
        let Some(found) = view.thumbnails.iter().find(|known| known.edge == edge) else {
            return Err(no_thumbnail(&media, edge, &view));
        };
        let id = Thumbnail::id(&view.media.id, edge);
        return services.sync.url(&id, &found.place, expires, uid).await.map_err(Fault::refused);
    }
    let place = match view.state {
        MediaState::Delivered(place) => place,
        MediaState::Dropped(reason) => {
            return Err(Fault::refused(format!("{media} was never delivered (dropped: {reason})")));
        }
        MediaState::Waiting | MediaState::Pending => {
            return Err(
                Fault::refused(format!("{media} is not delivered yet")).advise("run gatehouse sync status")
            );
        }
    };
    services.sync.url(&view.media.id, &place, expires, uid).await.map_err(Fault::refused)
}

fn no_thumbnail(media: &str, edge: u16, view: &MediaView) -> Fault {
    let fault = Fault::refused(format!("{media} has no delivered thumbnail of {edge} pixels"));
    let edges: Vec<_> = view.thumbnails.iter().map(|known| known.edge.to_string()).collect();
    match &view.fault {
        Some(message) => fault.advise(format!("it cannot be shown: {message}")),
        None if edges.is_empty() => {
            fault.advise("it is not created yet, or media.thumbnails does not contain it")
        }
        None => fault.advise(format!("available: {}", edges.join(", "))),
    }
}

async fn find(services: &Services, media: &str) -> Result<MediaView, Fault> {
    let unknown = || super::store_fault(Refusal::UnknownMedia);
    if let Some(id) = KeyId::parse(media) {
        return ask(&services.store.media, move |media| media.get(&id)).await?.ok_or_else(unknown);
    }
    let (event, name) = media.rsplit_once('/').ok_or_else(|| {
        Fault::refused(format!("`{media}` is not a media file: use its id or CAMERA/EVENT-ID/NAME"))
    })?;
    let name = MediaName::try_from(name).map_err(Fault::refused)?;
    let query = MediaQuery { event: Some(events::key(event)?), limit: usize::MAX };
    let files = ask(&services.store.media, move |media| media.list(&query)).await?;
    files.into_iter().find(|file| file.media.name == name).ok_or_else(unknown)
}

pub(super) fn line(view: MediaView) -> MediaLine {
    let (state, place) = match view.state {
        MediaState::Waiting => ("waiting".to_owned(), None),
        MediaState::Pending => ("pending".to_owned(), None),
        MediaState::Delivered(place) => {
            ("delivered".to_owned(), Some(format!("{}/{}", place.bucket, place.key)))
        }
        MediaState::Dropped(reason) => (format!("dropped: {reason}"), None),
    };
    let media = view.media;
    MediaLine {
        id: media.id.to_string(),
        camera: media.event.camera.into(),
        event_id: media.event.id.into(),
        name: media.name.into(),
        size: media.size,
        sha256: hex::encode(media.sha256),
        received_at: media.received_at.to_string(),
        state,
        on_disk: view.on_disk,
        place,
        thumbnails: view.thumbnails.iter().map(|thumbnail| thumbnail.edge).collect(),
        fault: view.fault,
    }
}
