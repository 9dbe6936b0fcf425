//! The store: seven handles over one private core.
//!
//! [`Store::open`] opens the state directory and repairs what a crash left. It returns one handle per subject:
//! [`People`], [`Privacy`], [`Galleries`], [`Events`], [`Media`], [`Feed`] and [`Upkeep`]. A caller takes the handles that it uses.
//!
//! Every change is a journal record first. One thread, the applier, updates the views in journal order. The core holds
//! what more than one handle needs.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use gatehouse_gallery::GallerySettings;

use self::core::Core;

mod applier;
mod core;
mod error;
mod events;
mod feed;
mod format;
mod galleries;
mod media;
mod open;
mod people;
mod refusal;
#[cfg(test)]
mod testing;
mod upkeep;

pub use crate::views::entries::{ErasureOrder, MediaState, PeopleCursor, UploadSoFar};
pub use error::StoreError;
pub use events::Events;
pub use events::clock::ClockStatus;
pub use events::queries::{EventQuery, EventView};
pub use feed::{Backlog, Change, Feed};
pub use galleries::comparison::{Differing, GalleryComparison, Others};
pub use galleries::recent_faces::{Arrival, MATCHES_HOURS, MATCHES_MAX};
pub use galleries::report::{Bin, CameraLine, GalleryReport, Pair, TargetLine, Weak};
pub use galleries::{GALLERIES_MAX, Galleries, GalleryChanged, GalleryLine, GallerySet, Models, ProbeFace};
/// Who ordered an erasure.
pub use gatehouse_receipt::By as OrderedBy;
pub use media::queries::{MediaQuery, MediaView};
pub use media::tasks::{MediaTask, Part};
pub use media::uploads::SentPart;
pub use media::{Media, MediaOutcome};
pub use open::OpenReport;
pub use people::People;
pub use people::absence::LAST_SEEN_RESOLUTION;
pub use people::corrections::{Corrected, CorrectionFault};
pub use people::enrollment::{Alike, Doubt, Enrolled, Enrollment};
pub use people::erasure::Erased;
pub use people::export::OwnTemplates;
pub use people::privacy::Privacy;
pub use people::shared::{Shared, SharedSample, SharedTerm};
pub use people::statements::ErasureStatement;
pub use people::templates::TemplatesRotated;
pub use refusal::{Refusal, RequestError};
pub use upkeep::Upkeep;
pub use upkeep::compaction::Compacting;
pub use upkeep::keys::{DamagedKey, KeyCount, KeyStatus};
pub use upkeep::retention::{Retained, RetentionPolicy};
pub use upkeep::status::StoreStatus;
pub use upkeep::verification::{Verified, VerifyAt};

/// Settings of the store.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The state directory.
    pub directory: PathBuf,
    /// Model and thresholds of the first gallery, see [`Galleries`].
    pub gallery: GallerySettings,
    /// Plaintext bytes of media files that may be on disk.
    pub media_quota_bytes: u64,
    /// Bytes that media files leave free on the file system.
    pub reserve_free_bytes: u64,
    /// How long a media file waits for its event.
    pub orphan_media: Duration,
    /// Whether a central Postgres receives erasures.
    pub central_rows: bool,
}

/// The opened store: one handle per subject. Cheap to clone, as each handle is.
#[derive(Clone)]
pub struct Store {
    /// Enrolled people.
    pub people: People,
    /// Rights of people: consent, suspension, export.
    pub privacy: Privacy,
    /// Face galleries: identification, thresholds, comparison.
    pub galleries: Galleries,
    /// Events: recording, queries, timestamps.
    pub events: Events,
    /// Media files.
    pub media: Media,
    /// What delivery reads, and reports back.
    pub feed: Feed,
    /// Disk space, retention, verification, status.
    pub upkeep: Upkeep,
    core: Arc<Core>,
}

impl Store {
    fn new(core: Core) -> Self {
        let core = Arc::new(core);
        let galleries = Galleries::new(&core);
        let events = Events::new(&core);
        let people = People::new(&core, &galleries);
        let privacy = Privacy::new(&people);
        let upkeep = Upkeep::new(&core, &events, &people);
        let media = Media::new(&core, &upkeep);
        let feed = Feed::new(&core, &people);
        Self { people, privacy, galleries, events, media, feed, upkeep, core }
    }

    /// Drains the journal, brings the views up to date, and syncs both. Blocking. Later calls fail with a clear error.
    pub fn close(&self) {
        self.core.space.close();
        self.core.journal.close();
        let applier = self.core.applier.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = applier {
            // A panic of the applier was logged there.
            let _ = thread.join();
        }
    }
}
