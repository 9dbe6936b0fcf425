//! Orientation of a picture by its EXIF data.

/// Tag of the orientation in the first directory.
const ORIENTATION: u16 = 0x0112;
/// Type of a number of two bytes.
const SHORT: u16 = 3;
/// Bytes of an entry of a directory.
const ENTRY_BYTES: usize = 12;
/// Maximum number of entries that are read. Cameras write about twenty.
const ENTRIES_MAX: usize = 256;

/// Orientation of rows and columns, as numbered by EXIF.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Orientation {
    /// Rows and columns are swapped, first.
    pub(super) transposed: bool,
    /// Then left and right are swapped.
    pub(super) mirrored: bool,
    /// Then top and bottom are swapped.
    pub(super) upturned: bool,
}

impl Orientation {
    fn of(number: u16) -> Option<Self> {
        let (transposed, mirrored, upturned) = match number {
            1 => (false, false, false),
            2 => (false, true, false),
            3 => (false, true, true),
            4 => (false, false, true),
            5 => (true, false, false),
            6 => (true, true, false),
            7 => (true, true, true),
            8 => (true, false, true),
            _ => return None,
        };
        Some(Self { transposed, mirrored, upturned })
    }
}

/// The orientation in EXIF data, which begin with a TIFF header. Upright if there is none.
pub(super) fn orientation(exif: &[u8]) -> Orientation {
    find(exif).and_then(Orientation::of).unwrap_or_default()
}

fn find(exif: &[u8]) -> Option<u16> {
    let little = match exif.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = exif.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let directory = exif.get(4..8)?.try_into().ok()?;
    let directory = if little { u32::from_le_bytes(directory) } else { u32::from_be_bytes(directory) };
    let directory = usize::try_from(directory).ok()?;
    let entries = usize::from(short(directory)?).min(ENTRIES_MAX);
    let entry = |nth: usize| directory.checked_add(2 + nth * ENTRY_BYTES);
    let found = (0..entries).filter_map(entry).find(|at| short(*at) == Some(ORIENTATION))?;
    (short(found + 2)? == SHORT).then(|| short(found + 8))?
}
