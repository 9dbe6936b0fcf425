//! Thumbnails of a picture: made, uploaded, reported to the store, in this order.
//!
//! A broken picture is reported as such and delivered as it is.
//!
//! After a crash: keys follow from the picture, and with one version of the program the bytes as well. A repetition
//! finds or replaces only its own objects. Another version may make other bytes of the same picture. The new ones
//! replace the old ones.

use std::io::ErrorKind;
use std::sync::Arc;

use gatehouse_central::error::{SyncError, error_text};
use gatehouse_central::objects::Objects;
use gatehouse_model::sha256;
use gatehouse_store::files::SealedReader;
use gatehouse_store::record::Thumbnail;
use gatehouse_store::store::MediaTask;
use tokio::sync::Mutex;

use crate::thumbnails::{self, EncodedThumbnail, ThumbnailError};

const MAKING: &str = "make thumbnails";

/// Which thumbnails are made.
#[derive(Default)]
pub(super) struct Previews {
    /// Longest edges in pixels.
    edges: Vec<u16>,
    /// Only one decoded picture is in memory at a time.
    decode_lock: Mutex<()>,
}

/// The thumbnails of a picture.
pub(super) struct Previewed {
    pub(super) thumbnails: Vec<Thumbnail>,
    /// Why it has none.
    pub(super) fault: Option<String>,
}

impl Previews {
    pub(super) fn new(mut edges: Vec<u16>) -> Self {
        edges.sort_unstable();
        edges.dedup();
        Self { edges, decode_lock: Mutex::default() }
    }

    /// Whether any thumbnails are configured.
    pub(super) fn wanted(&self) -> bool {
        !self.edges.is_empty()
    }

    /// Runs on a thread for blocking work. A panic of the decoder counts as a fault of the picture.
    async fn make(self: &Arc<Self>, file: SealedReader) -> Result<Vec<EncodedThumbnail>, ThumbnailError> {
        let _guard = self.decode_lock.lock().await;
        let this = self.clone();
        let made = tokio::task::spawn_blocking(move || thumbnails::make(file, &this.edges)).await;
        made.unwrap_or_else(|_| {
            Err(ThumbnailError::Picture("the decoder failed, a defect of the program".into()))
        })
    }
}

/// Makes and uploads the thumbnails of a picture.
///
/// # Errors
/// [`SyncError::Damaged`] if the local file cannot be read. Other errors as for any object.
pub(super) async fn push_thumbnails(
    objects: &Objects,
    previews: &Arc<Previews>,
    task: &MediaTask,
    file: SealedReader,
) -> Result<Previewed, SyncError> {
    let made = match previews.make(file).await {
        Ok(made) => made,
        Err(ThumbnailError::Picture(fault)) => {
            return Ok(Previewed { thumbnails: Vec::new(), fault: Some(fault) });
        }
        Err(ThumbnailError::Read(error)) => return Err(unread(error)),
    };
    let mut thumbnails = Vec::with_capacity(made.len());
    for EncodedThumbnail { edge, bytes } in made {
        let (size, sha256) = (bytes.len() as u64, sha256(&bytes));
        let place = objects.push_thumbnail(task, edge, bytes, sha256).await?;
        thumbnails.push(Thumbnail { edge, size, sha256, place });
    }
    Ok(Previewed { thumbnails, fault: None })
}

/// `InvalidData` means that the file is damaged. Any other error may be temporary.
fn unread(error: std::io::Error) -> SyncError {
    match error.kind() {
        ErrorKind::InvalidData => SyncError::Damaged { doing: MAKING, message: error_text(&error) },
        _ => SyncError::Store { doing: MAKING, source: error.into() },
    }
}
