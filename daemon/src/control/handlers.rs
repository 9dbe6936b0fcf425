//! What each order does. Blocking questions to the store are put off the async threads.

mod events;
mod galleries;
mod keys;
mod media;
mod people;
mod selftest;
pub(super) mod state;

use std::time::Duration;

use gatehouse_store::files::SealedReader;
use gatehouse_store::store::{Galleries, RequestError, StoreError, Upkeep};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{Services, doctor};
use gatehouse_control::answers::MediaHeader;
use gatehouse_control::exit;
use gatehouse_control::types::{Fault, LIST_MAX, Request};

/// How long an operator waits to hear how a central side is: a far one answers well within, a silent one never.
pub(super) const CENTRAL_PATIENCE: Duration = Duration::from_secs(3);

/// What goes back.
pub(super) enum Answer {
    /// One line, as text: attributes of events keep every digit of their numbers.
    Value(Box<RawValue>),
    /// One line and the bytes of a file.
    Media(Box<MediaHeader>, SealedReader),
}

/// Carries out one order of the user `uid`.
pub(super) async fn answer(services: &Services, request: Request, uid: u32) -> Result<Answer, Fault> {
    match request {
        Request::Status => value(state::status(services).await?),
        Request::Doctor => value(doctor::findings(services).await),
        Request::SelfTest => value(selftest::run(services).await),
        Request::PersonEnroll { id, name, encodings, force, gallery } => {
            value(people::enroll(services, (&id, &name), &encodings, (gallery, force), uid).await?)
        }
        Request::PersonList => {
            // Hundreds of thousands of people: listed and serialized off the async threads.
            let people = services.store.people.clone();
            let listed = tokio::task::spawn_blocking(move || value(people.list())).await;
            listed.map_err(|_| Fault::refused(StoreError::Stopping))?
        }
        Request::PersonShow { id } => value(people::show(services, &id)?),
        Request::PersonRename { id, name } => value(people::rename(services, &id, &name, uid).await?),
        Request::PersonErase { id } => value(people::erase(services, &id, uid).await?),
        Request::GalleryReport { gallery } => value(
            ask(&services.store.galleries, move |galleries| galleries.report(gallery.as_deref())).await?,
        ),
        Request::GalleryList => value(services.store.galleries.list()),
        Request::GalleryAdd(model) => value(galleries::add(services, model, uid).await?),
        Request::GallerySwitch { gallery, force } => {
            value(galleries::switch(services, &gallery, force, uid).await?)
        }
        Request::GalleryRemove { gallery } => value(galleries::remove(services, &gallery, uid).await?),
        Request::GalleryCalibrate { gallery, calibration } => value(
            galleries::calibrate(services, gallery.as_deref(), calibration.map(|boxed| *boxed), uid).await?,
        ),
        Request::GalleryCompare => value(ask(&services.store.galleries, Galleries::comparison).await?),
        Request::Identify { camera, gallery, encodings } => {
            value(people::identify(services, camera, gallery.as_deref(), &encodings)?)
        }
        Request::EventList { camera, person, since, limit } => {
            let query = events::query(camera, person, since.as_deref(), limit.min(LIST_MAX))?;
            value(events::list(services, query).await?)
        }
        Request::EventShow { event } => value(events::show(services, event).await?),
        Request::EventCorrect { event, face } => value(events::correct(services, event, face, uid).await?),
        Request::MediaList { event, limit } => {
            value(media::list(services, event, limit.min(LIST_MAX)).await?)
        }
        Request::MediaGet { media } => {
            let (header, reader) = media::open(services, media).await?;
            Ok(Answer::Media(Box::new(header), reader))
        }
        Request::MediaUrl { media, thumbnail, expires_s } => {
            value(media::url(services, media, thumbnail, Duration::from_secs(expires_s), uid).await?)
        }
        Request::SyncStatus => value(state::sinks(services).await?),
        Request::SyncNow => {
            services.sync.now(CENTRAL_PATIENCE).await;
            value(state::sinks(services).await?)
        }
        Request::SyncPause { seconds } => {
            services.sync.pause(Duration::from_secs(seconds));
            tracing::warn!(uid, seconds, "delivery is paused");
            value(state::sinks(services).await?)
        }
        Request::SyncResume => {
            services.sync.resume();
            tracing::info!(uid, "delivery goes on");
            value(state::sinks(services).await?)
        }
        Request::SyncConflicts => value(services.sync.conflicts().await.map_err(Fault::refused)?),
        Request::Ledger => value(state::ledger(&services.store.events)),
        Request::KeyStatus => value(services.store.upkeep.key_status()),
        Request::KeyRotateTemplates => value(keys::rotate_templates(services, uid).await?),
        Request::StoreVerify { at } => {
            value(ask(&services.store.upkeep, move |upkeep| upkeep.verify(at)).await?)
        }
        Request::StoreCompact => value(ask(&services.store.upkeep, Upkeep::compact).await?),
        Request::StoreRetain => {
            value(services.store.upkeep.retain(&services.settings.retention()).await.map_err(store_fault)?)
        }
        Request::ConfigShow => value(services.settings.lines()),
        Request::ConfigReload => {
            value(services.settings.reload(&services.store.galleries).map_err(|faults| {
                Fault::refused(faults).advise("nothing was changed; correct the settings and reload again")
            })?)
        }
    }
}

fn value(value: impl Serialize) -> Result<Answer, Fault> {
    to_raw_value(&value).map(Answer::Value).map_err(Fault::refused)
}

/// Asks the store something that may wait for the disk.
async fn ask<H, T, E>(
    handle: &H,
    question: impl FnOnce(&H) -> Result<T, E> + Send + 'static,
) -> Result<T, Fault>
where
    H: Clone + Send + 'static,
    T: Send + 'static,
    E: Into<RequestError> + Send + 'static,
{
    let handle = handle.clone();
    let asked = tokio::task::spawn_blocking(move || question(&handle)).await;
    asked.map_err(|_| Fault::refused(StoreError::Stopping))?.map_err(store_fault)
}

/// A refusal says itself what to do. A failure needs a look at the appliance.
fn store_fault(error: impl Into<RequestError>) -> Fault {
    match error.into() {
        RequestError::Refused(refusal) => Fault::refused(refusal),
        RequestError::Failed(error) => {
            tracing::warn!(%error, "a request could not be carried out");
            Fault::with_code(exit::REFUSED, error).advise("gatehouse doctor says more")
        }
    }
}
