//! The bytes of a sealed media file.
//!
//! ```text
//! header   magic "GHMF" | version u8 | 3 zero bytes | id, 16 bytes | size of the content u64 LE      32 bytes
//! chunk    AES-256-GCM of up to 65536 bytes of content | tag, 16 bytes                              repeated
//! ```
//! The nonce of a chunk is its number, since the key is used for this file only. The associated data is the
//! header, the number, and whether the chunk is the last one. So chunks cannot be swapped, dropped or taken from
//! another file. The header, which gives their count, cannot be changed. An empty file has one empty chunk,
//! which authenticates the header.

use gatehouse_model::KeyId;
use gatehouse_vault::seal::TAG_BYTES;

/// Content bytes per chunk. Large enough to make the overhead of tags and calls negligible, and small enough
/// for boards with little memory.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 32;

const MAGIC: [u8; 4] = *b"GHMF";
/// Version of the format, in every header.
const VERSION: u8 = 1;
/// Bytes of a chunk's associated data: header, number, last or not.
const AD_BYTES: usize = HEADER_BYTES + 8 + 1;

/// Size on disk of a file with `size` bytes of content.
pub fn disk_bytes(size: u64) -> u64 {
    let tags = chunks(size).saturating_mul(TAG_BYTES as u64);
    size.saturating_add(tags).saturating_add(HEADER_BYTES as u64)
}

/// Offset of a chunk in the file.
pub(super) fn chunk_offset(number: u64) -> u64 {
    HEADER_BYTES as u64 + number * (CHUNK_BYTES + TAG_BYTES) as u64
}

fn chunks(size: u64) -> u64 {
    size.div_ceil(CHUNK_BYTES as u64).max(1)
}

/// The header of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Id of the file and of its key.
    pub(super) id: KeyId,
    /// Bytes of content.
    pub(super) size: u64,
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[8..24].copy_from_slice(self.id.as_bytes());
        bytes[24..].copy_from_slice(&self.size.to_le_bytes());
        bytes
    }

    /// Reads a header. The error message names the mismatch.
    pub(super) fn from_bytes(id: KeyId, bytes: &[u8; HEADER_BYTES]) -> Result<Self, &'static str> {
        let mut size = [0; 8];
        size.copy_from_slice(&bytes[24..]);
        let header = Self { id, size: u64::from_le_bytes(size) };
        if bytes[..4] != MAGIC {
            return Err("it does not begin like a media file");
        }
        if bytes[4] != VERSION {
            return Err("its format version is not known to this program");
        }
        if header.to_bytes() != *bytes {
            return Err("its header belongs to another file");
        }
        Ok(header)
    }

    /// Number of chunks, at least one.
    pub(super) fn chunks(self) -> u64 {
        chunks(self.size)
    }

    /// Size of the whole file.
    pub(super) fn disk_bytes(self) -> u64 {
        disk_bytes(self.size)
    }

    /// Content bytes of a chunk.
    pub(super) fn chunk_len(self, number: u64) -> usize {
        let before = number.saturating_mul(CHUNK_BYTES as u64);
        // The cast cannot truncate: the value is at most CHUNK_BYTES.
        self.size.saturating_sub(before).min(CHUNK_BYTES as u64) as usize
    }

    /// The associated data of a chunk.
    pub(super) fn chunk_ad(self, number: u64) -> [u8; AD_BYTES] {
        let mut ad = [0; AD_BYTES];
        ad[..HEADER_BYTES].copy_from_slice(&self.to_bytes());
        ad[HEADER_BYTES..HEADER_BYTES + 8].copy_from_slice(&number.to_le_bytes());
        ad[AD_BYTES - 1] = u8::from(number + 1 == self.chunks());
        ad
    }
}
