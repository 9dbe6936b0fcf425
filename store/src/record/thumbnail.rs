//! Small copies of a picture.

use gatehouse_model::{KeyId, sha256};
use serde::{Deserialize, Serialize};

use super::ObjectPlace;

/// A small copy of a picture at the objects sink. The appliance keeps none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thumbnail {
    /// Requested pixels of the longest edge; a small picture has fewer.
    pub edge: u16,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Its location.
    pub place: ObjectPlace,
}

impl Thumbnail {
    /// The id of a picture's thumbnail: always the same for the same picture and edge.
    pub fn id(picture: &KeyId, edge: u16) -> KeyId {
        let name = [b"thumbnail".as_slice(), picture.as_bytes(), &edge.to_be_bytes()].concat();
        let mut id = [0; 16];
        id.copy_from_slice(&sha256(&name)[..16]);
        KeyId::from_bytes(id)
    }
}
