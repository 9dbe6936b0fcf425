//! Layout of a slot and of the header, and the offset of a slot in the file.
//!
//! All numbers little-endian. A slot, 128 bytes: state 1, kind 1, zero 2, generation 4, id 16, nonce 12, wrapped
//! secret 32 + 16 tag, zero 40, CRC-32 4 over all before it and the slot's number. The header is in slot 0:
//! magic 8, version 2, zero 2, generation 4, nonce 12, sealed check value 16 + 16 tag, zero 64, CRC-32 4.

use ring::aead::LessSafeKey;
use zeroize::Zeroizing;

use super::{KeyId, KeyKind};
use crate::seal::{SealError, open_with, seal_with};

/// Size of a slot: a divisor of the 512-byte sector, the smallest unit of a write.
pub(super) const SLOT_BYTES: usize = 128;
/// Size of a page, the smallest unit of a write to flash.
pub(super) const PAGE_BYTES: usize = 4096;
/// The file grows by a page of slots and its copy.
pub(super) const PAIR_BYTES: usize = 2 * PAGE_BYTES;
/// Slots in a page.
pub(super) const PAGE_SLOTS: u32 = (PAGE_BYTES / SLOT_BYTES) as u32;
/// Version of the format of the file.
pub(super) const VERSION: u16 = 1;

const MAGIC: &[u8; 8] = b"GHKEYTAB";
const CHECK: &[u8; 16] = b"the right root k";
const FREE: u8 = 2;
const LIVE: u8 = 1;
const CRC_AT: usize = SLOT_BYTES - 4;

pub(super) type SlotBytes = [u8; SLOT_BYTES];

/// Content of one copy of a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotContent {
    /// Contains no key.
    Free,
    /// Contains a key.
    Live(KeyId, KeyKind),
    /// All zeros: the page was never written, or is lost.
    Blank,
    /// Anything else.
    Damaged,
}

/// Offset of a copy (0 or 1) of a slot.
pub(super) fn offset(slot: u32, copy: u64) -> u64 {
    let (pair, within) = (u64::from(slot / PAGE_SLOTS), u64::from(slot % PAGE_SLOTS));
    pair * PAIR_BYTES as u64 + copy * PAGE_BYTES as u64 + within * SLOT_BYTES as u64
}

pub(super) fn free(slot: u32) -> SlotBytes {
    let mut bytes = [0; SLOT_BYTES];
    bytes[0] = FREE;
    finish(slot, bytes)
}

/// A key to be written to a slot.
pub(super) struct NewKey<'a> {
    pub(super) id: KeyId,
    pub(super) kind: KeyKind,
    pub(super) secret: &'a [u8; 32],
}

pub(super) fn live(
    slot: u32,
    generation: u32,
    key: &NewKey<'_>,
    wrap: &LessSafeKey,
) -> Result<SlotBytes, SealError> {
    let NewKey { id, kind, secret } = *key;
    let mut bytes = [0; SLOT_BYTES];
    bytes[0] = LIVE;
    bytes[1] = kind as u8;
    bytes[4..8].copy_from_slice(&generation.to_le_bytes());
    bytes[8..24].copy_from_slice(id.as_bytes());
    let sealed = seal_with(wrap, &place(slot, &bytes), secret)?;
    bytes[24..84].copy_from_slice(&sealed);
    Ok(finish(slot, bytes))
}

/// Reads one copy of a slot.
pub(super) fn read(slot: u32, bytes: &[u8]) -> SlotContent {
    if bytes.iter().all(|b| *b == 0) {
        return SlotContent::Blank;
    }
    if !whole(slot, bytes) {
        return SlotContent::Damaged;
    }
    match (bytes[0], KeyKind::from_u8(bytes[1])) {
        (FREE, _) => SlotContent::Free,
        (LIVE, Some(kind)) => SlotContent::Live(id(bytes), kind),
        _ => SlotContent::Damaged,
    }
}

/// The key id in a slot; unreliable if the slot is damaged.
pub(super) fn id(bytes: &[u8]) -> KeyId {
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[8..24]);
    KeyId::from_bytes(id)
}

/// The secret of a live slot.
pub(super) fn unwrap(
    slot: u32,
    bytes: &SlotBytes,
    wrap: &LessSafeKey,
) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let plain = open_with(wrap, &place(slot, bytes), &bytes[24..84])?;
    let mut secret = Zeroizing::new([0; 32]);
    if plain.len() != secret.len() {
        return Err(SealError::Open);
    }
    secret.copy_from_slice(&plain);
    Ok(secret)
}

/// Associated data of a wrapped secret: its kind, generation, id and slot.
fn place(slot: u32, bytes: &SlotBytes) -> [u8; 28] {
    let mut ad = [0; 28];
    ad[..24].copy_from_slice(&bytes[..24]);
    ad[24..].copy_from_slice(&slot.to_le_bytes());
    ad
}

/// Content of one copy of the header.
pub(super) enum Header {
    /// The root key opens the check value.
    Good { generation: u32 },
    /// The header is intact, but the root key does not open it.
    WrongRoot,
    /// A version that this program does not support.
    Version(u16),
    /// Not a header, or a damaged one.
    Damaged,
}

pub(super) fn header(generation: u32, wrap: &LessSafeKey) -> Result<SlotBytes, SealError> {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&generation.to_le_bytes());
    let sealed = seal_with(wrap, &bytes[..16], CHECK)?;
    bytes[16..60].copy_from_slice(&sealed);
    Ok(finish(0, bytes))
}

pub(super) fn read_header(bytes: &[u8], wrap: &LessSafeKey) -> Header {
    if !whole(0, bytes) || !bytes.starts_with(MAGIC) {
        return Header::Damaged;
    }
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    if version != VERSION {
        return Header::Version(version);
    }
    match open_with(wrap, &bytes[..16], &bytes[16..60]) {
        Ok(check) if check.as_slice() == CHECK => {
            Header::Good { generation: u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) }
        }
        _ => Header::WrongRoot,
    }
}

fn finish(slot: u32, mut bytes: SlotBytes) -> SlotBytes {
    let crc = crc(slot, &bytes);
    bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn whole(slot: u32, bytes: &[u8]) -> bool {
    bytes.len() == SLOT_BYTES && bytes[CRC_AT..] == crc(slot, bytes).to_le_bytes()
}

fn crc(slot: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..CRC_AT]);
    hasher.update(&slot.to_le_bytes());
    hasher.finalize()
}
