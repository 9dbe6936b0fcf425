//! The handler of each request. Blocking work runs outside the async threads.

mod delivery;
mod events;
mod export;
mod galleries;
mod keys;
mod media;
mod people;
mod selftest;
pub(super) mod state;

use std::time::Duration;

use gatehouse_store::files::SealedReader;
use gatehouse_store::store::{Galleries, RequestError, StoreError, Upkeep, VerifyAt};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{Services, doctor};
use gatehouse_control::answers::MediaHeader;
use gatehouse_control::exit;
use gatehouse_control::types::{Fault, LIST_MAX, Request};

/// How long a request waits for the sinks: a distant server answers well within it.
pub(super) const CENTRAL_TIMEOUT: Duration = Duration::from_secs(3);

/// A reply.
pub(super) enum Answer {
    /// One line, as text: attributes of events keep every digit of their numbers.
    Value(Box<RawValue>),
    /// One line and the bytes of a file.
    Media(Box<MediaHeader>, SealedReader),
}

/// Handles one request of the user `uid`.
pub(super) async fn answer(services: &Services, request: Request, uid: u32) -> Result<Answer, Fault> {
    match request {
        Request::Status => value(state::status(services).await?),
        Request::Doctor => value(doctor::findings(services).await),
        Request::SelfTest => value(selftest::run(services).await),
        Request::PersonEnroll { id, name, encodings, force, gallery, consent, until } => {
            let consent = people::consent(consent, until.as_deref())?;
            let request = people::EnrollRequest { id, name, encodings, force, gallery, consent };
            value(people::enroll(services, &request, uid).await?)
        }
        Request::PersonSuspend { id, reason } => {
            value(people::suspend(services, &id, reason.as_deref(), uid).await?)
        }
        Request::PersonResume { id } => value(people::resume(services, &id, uid).await?),
        Request::PersonList => people::list(services).await,
        Request::PersonShow { id } => value(people::show(services, &id)?),
        Request::PersonExport { id, before, templates } => {
            value(export::page(services, export::ExportRequest { id, before, templates }, uid).await?)
        }
        Request::PersonExportSign { manifest } => value(export::sign(services, &manifest).await?),
        Request::PersonRename { id, name } => value(people::rename(services, &id, &name, uid).await?),
        Request::PersonErase { id, now } => value(people::erase(services, &id, now, uid).await?),
        Request::PersonRestore { id } => value(people::restore(services, &id, uid).await?),
        Request::GalleryReport { gallery } => report(services, gallery).await,
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
            value(people::identify(services, camera, gallery, encodings).await?)
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
        Request::SyncNow => value(delivery::now(services).await?),
        Request::SyncPause { seconds } => value(delivery::pause(services, seconds, uid).await?),
        Request::SyncResume => value(delivery::resume(services, uid).await?),
        Request::SyncConflicts => value(services.sync.conflicts().await.map_err(Fault::refused)?),
        Request::Ledger => value(state::ledger(&services.store.events)),
        Request::KeyStatus => value(keys::status(services)),
        Request::KeyRotateTemplates => value(keys::rotate_templates(services, uid).await?),
        Request::StoreVerify { at } => verify(services, at).await,
        Request::StoreCompact => value(ask(&services.store.upkeep, Upkeep::compact).await?),
        Request::StoreRetain => retain(services).await,
        Request::ConfigShow => value(services.settings.lines()),
        Request::ConfigReload => reload(services),
    }
}

async fn verify(services: &Services, at: VerifyAt) -> Result<Answer, Fault> {
    value(ask(&services.store.upkeep, move |upkeep| upkeep.verify(at)).await?)
}

async fn retain(services: &Services) -> Result<Answer, Fault> {
    value(services.store.upkeep.retain(&services.settings.retention()).await.map_err(store_fault)?)
}

async fn report(services: &Services, gallery: Option<String>) -> Result<Answer, Fault> {
    value(ask(&services.store.galleries, move |galleries| galleries.report(gallery.as_deref())).await?)
}

fn reload(services: &Services) -> Result<Answer, Fault> {
    let reloaded = services.settings.reload(&services.store.galleries);
    value(reloaded.map_err(|faults| {
        Fault::refused(faults).advise("nothing was changed; correct the settings and reload again")
    })?)
}

fn value(value: impl Serialize) -> Result<Answer, Fault> {
    to_raw_value(&value).map(Answer::Value).map_err(Fault::refused)
}

/// Calls the store in a blocking task: the call may wait for the disk.
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
    blocking(move || question(&handle).map_err(store_fault)).await
}

/// Runs work that waits for the disk or computes for long, outside the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Fault::refused(StoreError::Stopping)))
}

/// A refusal contains its reason. A failure of the store is logged, because an operator has to act.
fn store_fault(error: impl Into<RequestError>) -> Fault {
    match error.into() {
        RequestError::Refused(refusal) => Fault::refused(refusal),
        RequestError::Failed(error) => {
            tracing::warn!(%error, "a request failed");
            Fault::with_code(exit::REFUSED, error).advise("run gatehouse doctor")
        }
    }
}
