//! The thumbnails of a picture: made, put into the bucket, told to the store, in this order.
//!
//! One that is broken is told to the store as that, and goes on its way as it is. Crash story: keys, and of one version of
//! the program also the bytes, follow from the picture, so that what is made again finds or replaces its own objects.
//! Where another version made other bytes of it the new ones take their place: both show the same picture.

use std::io::ErrorKind;
use std::sync::Arc;

use gatehouse_central::error::{SyncError, words_of};
use gatehouse_central::objects::Objects;
use gatehouse_model::sha256;
use gatehouse_store::files::SealedReader;
use gatehouse_store::record::Thumbnail;
use gatehouse_store::store::MediaTask;
use tokio::sync::Mutex;

use crate::thumbnails::{self, Made, Unshown};

const MAKING: &str = "make thumbnails";

/// Which thumbnails are made.
#[derive(Default)]
pub(super) struct Previews {
    /// Longest edges in pixels.
    edges: Vec<u16>,
    /// One picture at a time is in memory as pixels.
    door: Mutex<()>,
}

/// What became of a picture.
pub(super) struct Previewed {
    pub(super) thumbnails: Vec<Thumbnail>,
    /// Why it has none.
    pub(super) fault: Option<String>,
}

impl Previews {
    pub(super) fn new(mut edges: Vec<u16>) -> Self {
        edges.sort_unstable();
        edges.dedup();
        Self { edges, door: Mutex::default() }
    }

    /// Whether there are any.
    pub(super) fn wanted(&self) -> bool {
        !self.edges.is_empty()
    }

    /// On a thread for blocking work. A panic of the decoder is a fault of the picture, too.
    async fn make(self: &Arc<Self>, file: SealedReader) -> Result<Vec<Made>, Unshown> {
        let _door = self.door.lock().await;
        let this = self.clone();
        let made = tokio::task::spawn_blocking(move || thumbnails::make(file, &this.edges)).await;
        made.unwrap_or_else(|_| Err(Unshown::Picture("the program has a fault that it brings out".into())))
    }
}

/// Makes and delivers what is to be seen of a picture.
///
/// # Errors
/// [`SyncError::Damaged`] where the local file cannot be read, others as for any object.
pub(super) async fn push_thumbnails(
    objects: &Objects,
    previews: &Arc<Previews>,
    task: &MediaTask,
    file: SealedReader,
) -> Result<Previewed, SyncError> {
    let made = match previews.make(file).await {
        Ok(made) => made,
        Err(Unshown::Picture(fault)) => {
            return Ok(Previewed { thumbnails: Vec::new(), fault: Some(fault) });
        }
        Err(Unshown::Read(error)) => return Err(unread(error)),
    };
    let mut thumbnails = Vec::with_capacity(made.len());
    for Made { edge, bytes } in made {
        let (size, sha256) = (bytes.len() as u64, sha256(&bytes));
        let place = objects.push_thumbnail(task, edge, bytes, sha256).await?;
        thumbnails.push(Thumbnail { edge, size, sha256, place });
    }
    Ok(Previewed { thumbnails, fault: None })
}

/// `InvalidData` is a file that is not what was written; anything else may pass (a disk that comes back).
fn unread(error: std::io::Error) -> SyncError {
    match error.kind() {
        ErrorKind::InvalidData => SyncError::Damaged { doing: MAKING, words: words_of(&error) },
        _ => SyncError::Store { doing: MAKING, source: error.into() },
    }
}
