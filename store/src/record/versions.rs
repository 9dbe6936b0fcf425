//! Records of all versions that this program reads.
//!
//! A later version is refused: a skipped record would be lost in all views. To read records of an earlier
//! version, keep the types of that version here, decode them, and convert them to a present [`Record`].

use super::{RECORD_VERSION, Record, RecordError};

/// Reads a payload of one version, without its version byte.
pub(super) type Decoder = fn(&[u8]) -> Result<Record, postcard::Error>;

/// The decoder of each version, from version 1 to the present one.
///
/// Versions 1 and 2 differ in the sealed profile only, which [`crate::people::Profile`] reads in both forms.
pub(super) const DECODERS: [Decoder; RECORD_VERSION as usize] =
    [|payload| postcard::from_bytes(payload), |payload| postcard::from_bytes(payload)];

/// The record of a journal payload.
pub(super) fn decode(decoders: &[Decoder], payload: &[u8]) -> Result<Record, RecordError> {
    let (&version, rest) = payload.split_first().ok_or(RecordError::Decode)?;
    let at = usize::from(version).checked_sub(1).ok_or(RecordError::Decode)?;
    let decoder = decoders.get(at).ok_or(RecordError::Version(version))?;
    decoder(rest).map_err(|_| RecordError::Decode)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURSOR: Record = Record::RowsDelivered { lsn: 300, seq: 5 };

    #[test]
    fn present_version_is_read_and_later_ones_are_refused() {
        let payload = CURSOR.encode().unwrap();
        assert_eq!(Record::decode(&payload).unwrap(), CURSOR);
        let of_version = |version: u8| [&[version], &payload[1..]].concat();
        assert_eq!(
            Record::decode(&of_version(RECORD_VERSION + 1)),
            Err(RecordError::Version(RECORD_VERSION + 1))
        );
        assert_eq!(Record::decode(&of_version(u8::MAX)), Err(RecordError::Version(u8::MAX)));
        assert_eq!(Record::decode(&of_version(0)), Err(RecordError::Decode));
        assert_eq!(Record::decode(&[]), Err(RecordError::Decode));
        assert_eq!(Record::decode(&payload[..payload.len() - 1]), Err(RecordError::Decode));
    }

    #[test]
    fn earlier_version_is_brought_up() {
        // A made-up version 1 had cursors only, without the number of the event.
        let first: Decoder =
            |payload| postcard::from_bytes(payload).map(|lsn| Record::RowsDelivered { lsn, seq: 5 });
        let decoders = [first, DECODERS[usize::from(RECORD_VERSION) - 1]];
        assert_eq!(decode(&decoders, &[1, 0xac, 2]).unwrap(), CURSOR);
        let present = [&[2], &CURSOR.encode().unwrap()[1..]].concat();
        assert_eq!(decode(&decoders, &present).unwrap(), CURSOR);
        assert_eq!(decode(&decoders, &[3, 0xac, 2]), Err(RecordError::Version(3)));
    }
}
