//! Layout of a frame: one sealed record, or a mark.
//!
//! Header, 28 bytes, little-endian: magic 3, flags 1, length of the body 4, CRC-32 4, lsn 8, seq 8. Body:
//! ciphertext and tag, sealed under the number lsn. Associated data: the header without the CRC, and the segment's
//! first lsn. The CRC covers the same and the body, so that damage is detected without a key. A mark has no body: it
//! proves that all records up to its position were durable when it was written.

use gatehouse_vault::seal::{DataKey, SealError, TAG_BYTES};

use super::{Position, RECORD_BYTES_MAX};

pub(super) const HEADER_BYTES: usize = 28;
pub(super) const MAGIC: [u8; 3] = *b"GJf";
/// Largest valid number, so that sums cannot overflow.
pub(super) const LSN_MAX: u64 = 1 << 62;
/// Largest frame on disk.
pub(super) const FRAME_BYTES_MAX: usize = HEADER_BYTES + RECORD_BYTES_MAX + TAG_BYTES;

/// The record has an event number.
const EVENT: u8 = 1;
/// The first record of a batch: all records before it were durable when it was written.
const BATCH: u8 = 2;
/// A mark, see above.
const MARK: u8 = 4;

/// A frame's header, without its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    flags: u8,
    pub(super) body: usize,
    crc: u32,
    pub(super) position: Position,
}

impl Head {
    /// Reads a header; none if it is invalid. [`Head::matches`] verifies the checksum.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        if bytes[..3] != MAGIC {
            return None;
        }
        let flags = bytes[3];
        let body = usize::try_from(word(bytes, 4)).ok()?;
        let fits = match flags {
            MARK => body == 0,
            _ => {
                flags & !(EVENT | BATCH) == 0 && (TAG_BYTES..=FRAME_BYTES_MAX - HEADER_BYTES).contains(&body)
            }
        };
        let long = |at| u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32;
        let position = Position { lsn: long(12), seq: long(20) };
        let fits = fits && position.lsn <= LSN_MAX && position.seq <= position.lsn;
        fits.then_some(Self { flags, body, crc: word(bytes, 8), position })
    }

    pub(super) fn is_event(&self) -> bool {
        self.flags & EVENT != 0
    }

    pub(super) fn is_mark(&self) -> bool {
        self.flags & MARK != 0
    }

    /// Whether this frame proves that all records before it were durable.
    pub(super) fn proves_durable(&self) -> bool {
        self.flags & (MARK | BATCH) != 0
    }

    /// Bytes of the whole frame.
    pub(super) fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.body
    }

    /// Whether the checksum matches header, body and segment.
    pub(super) fn matches(&self, segment: u64, body: &[u8]) -> bool {
        self.crc == crc(&self.ad(segment), body)
    }

    /// The plaintext of the body.
    pub(super) fn open(&self, segment: u64, key: &DataKey, body: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut payload = body.to_vec();
        let length = key.open_numbered(self.position.lsn, &self.ad(segment), &mut payload)?.len();
        payload.truncate(length);
        Ok(payload)
    }

    fn ad(&self, segment: u64) -> [u8; 32] {
        let mut ad = [0; 32];
        ad[..3].copy_from_slice(&MAGIC);
        ad[3] = self.flags;
        // Bounded by FRAME_BYTES_MAX.
        ad[4..8].copy_from_slice(&(self.body as u32).to_le_bytes());
        ad[8..16].copy_from_slice(&self.position.lsn.to_le_bytes());
        ad[16..24].copy_from_slice(&self.position.seq.to_le_bytes());
        ad[24..].copy_from_slice(&segment.to_le_bytes());
        ad
    }

    fn bytes(&self, crc: u32) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let ad = self.ad(0);
        bytes[..8].copy_from_slice(&ad[..8]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes[12..].copy_from_slice(&ad[8..24]);
        bytes
    }
}

/// Metadata of a record's frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label {
    pub(super) segment: u64,
    pub(super) position: Position,
    pub(super) is_event: bool,
    pub(super) starts_batch: bool,
}

/// Appends the frame of a record to a buffer.
pub(super) fn push(
    buffer: &mut Vec<u8>,
    key: &DataKey,
    label: Label,
    payload: &[u8],
) -> Result<(), SealError> {
    let flags = if label.is_event { EVENT } else { 0 } | if label.starts_batch { BATCH } else { 0 };
    let head = Head { flags, body: payload.len() + TAG_BYTES, crc: 0, position: label.position };
    let (start, ad) = (buffer.len(), head.ad(label.segment));
    let body = start + HEADER_BYTES;
    buffer.extend_from_slice(&head.bytes(0));
    buffer.extend_from_slice(payload);
    key.seal_numbered(label.position.lsn, &ad, buffer, body)?;
    let crc = crc(&ad, &buffer[body..]);
    buffer[start..body].copy_from_slice(&head.bytes(crc));
    Ok(())
}

/// The frame of a mark.
pub(super) fn mark(segment: u64, position: Position) -> [u8; HEADER_BYTES] {
    let head = Head { flags: MARK, body: 0, crc: 0, position };
    head.bytes(crc(&head.ad(segment), &[]))
}

fn crc(ad: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(ad);
    hasher.update(body);
    hasher.finalize()
}

fn word(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
