//! Thumbnails: small copies of a picture, made in memory during delivery. None is on disk, so none must be sealed,
//! retained or erased.
//!
//! Data of a camera is not trusted. The header is read first, and a picture of more than [`PIXELS_MAX`] pixels is not
//! decoded. Decoding uses the smallest scale that is large enough, so a large picture takes little longer than a small
//! one. Thumbnails contain no metadata. The orientation is applied to the pixels. A panic of the decoder counts as a
//! fault of the picture ([`ThumbnailError::Picture`]).

mod exif;
mod pixels;

use std::io::{BufRead, BufReader, ErrorKind, Read};

use gatehouse_central::error::{clip, error_text};
use gatehouse_store::files::content_type;
use jpeg_decoder::{CodingProcess, Decoder, Error, PixelFormat};
use jpeg_encoder::{ColorType, Encoder};
use zeroize::Zeroizing;

use pixels::Pixels;

/// Maximum number of pixels, above that of door cameras. A progressive JPEG takes six bytes per pixel while it is
/// decoded: 100 MB of the 256 MB that the service may use.
const PIXELS_MAX: u32 = 16 << 20;
/// Bytes read at once: the size of a sealed chunk.
const READ_BYTES: usize = gatehouse_store::files::CHUNK_BYTES;
/// JPEG quality. Blocks are not visible yet, and 320 pixels take about 10 kB.
const QUALITY: u8 = 80;

/// A thumbnail.
pub(crate) struct EncodedThumbnail {
    /// The longest edge that was requested.
    pub(crate) edge: u16,
    /// A JPEG.
    pub(crate) bytes: Zeroizing<Vec<u8>>,
}

/// Why there are no thumbnails.
#[derive(Debug)]
pub(crate) enum ThumbnailError {
    /// The picture is broken, too large, or no picture. The text contains none of its content.
    Picture(String),
    /// Its bytes could not be read.
    Read(std::io::Error),
}

/// Makes a thumbnail for each of `edges`, in displayed orientation and no larger than the picture.
///
/// # Errors
/// [`ThumbnailError`].
pub(crate) fn make(file: impl Read, edges: &[u16]) -> Result<Vec<EncodedThumbnail>, ThumbnailError> {
    let mut file = BufReader::with_capacity(READ_BYTES, file);
    let first = file.fill_buf().map_err(ThumbnailError::Read)?;
    match content_type("", first) {
        "image/jpeg" => {}
        _ if first.is_empty() => return Err(picture_error("it is empty")),
        "application/octet-stream" => return Err(picture_error("it does not begin as a JPEG does")),
        other => return Err(picture_error(&format!("it is no JPEG, but {other}"))),
    }
    let (whole, turn) = decode(file, edges.iter().copied().max().unwrap_or(1))?;
    edges
        .iter()
        .map(|edge| Ok(EncodedThumbnail { edge: *edge, bytes: encode(&whole.within(*edge).turned(turn))? }))
        .collect()
}

/// The decoded picture, at least `edge` pixels long if it was, and its orientation.
fn decode(file: impl Read, edge: u16) -> Result<(Pixels, exif::Orientation), ThumbnailError> {
    let mut decoder = Decoder::new(file);
    decoder.read_info().map_err(from_decoder)?;
    let info = decoder.info().ok_or_else(|| picture_error("it has no header"))?;
    let (width, height) = (info.width, info.height);
    if u32::from(width) * u32::from(height) > PIXELS_MAX {
        let most = PIXELS_MAX / 1_000_000;
        return Err(picture_error(&format!("it claims {width} x {height} pixels, more than {most} million")));
    }
    let channels = match (info.coding_process, info.pixel_format) {
        (CodingProcess::Lossless, _) => {
            return Err(picture_error("it is a lossless JPEG, which is not read"));
        }
        (_, PixelFormat::L8) => 1,
        (_, PixelFormat::RGB24) => 3,
        (_, other) => return Err(picture_error(&format!("its colours are {other:?}, which are not read"))),
    };
    let (width, height) = decoder.scale(edge, edge).map_err(from_decoder)?;
    let data = Zeroizing::new(decoder.decode().map_err(from_decoder)?);
    let turn = decoder.exif_data().map(exif::orientation).unwrap_or_default();
    let pixels = Pixels::new(usize::from(width), usize::from(height), channels, data);
    Ok((pixels.ok_or_else(|| picture_error("it is not as large as it claims"))?, turn))
}

fn encode(pixels: &Pixels) -> Result<Zeroizing<Vec<u8>>, ThumbnailError> {
    let color = if pixels.channels == 1 { ColorType::Luma } else { ColorType::Rgb };
    let size = |side: usize| u16::try_from(side).unwrap_or(u16::MAX);
    let mut out = Zeroizing::new(Vec::new());
    let encoded =
        Encoder::new(&mut *out, QUALITY).encode(&pixels.data, size(pixels.width), size(pixels.height), color);
    encoded.map_err(|error| {
        picture_error(&format!("no thumbnail can be written of it: {}", error_text(&error)))
    })?;
    Ok(out)
}

fn picture_error(message: &str) -> ThumbnailError {
    ThumbnailError::Picture(clip(message))
}

fn from_decoder(error: Error) -> ThumbnailError {
    match error {
        Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => picture_error("it ends too early"),
        Error::Io(error) => ThumbnailError::Read(error),
        Error::Format(message) => picture_error(&format!("it is broken ({message})")),
        other => picture_error(&format!("it is not read: {other}")),
    }
}

#[cfg(test)]
mod tests;
