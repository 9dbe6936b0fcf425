//! Thumbnails: small copies of a picture, made when it is about to leave. None lies on disk, so none has to be sealed,
//! kept or erased here.
//!
//! What comes from a camera is not trusted. The header is read first, and what claims more than [`PIXELS_MAX`] pixels is
//! decoded no further. A picture is decoded at the smallest size that its coding gives above what is asked for, so
//! a large one takes little more than a small one. Nothing of its metadata goes into a thumbnail; its orientation does, as
//! pixels. A fault of the decoder is a fault of the picture ([`Unshown::Picture`]) and of nothing else.

mod exif;
mod pixels;

use std::io::{BufRead, BufReader, ErrorKind, Read};

use gatehouse_central::error::{clip, words_of};
use gatehouse_store::files::content_type;
use jpeg_decoder::{CodingProcess, Decoder, Error, PixelFormat};
use jpeg_encoder::{ColorType, Encoder};
use zeroize::Zeroizing;

use pixels::Pixels;

/// Most pixels of a picture: above what cameras at doors have. One whose coding keeps it whole until its end takes six
/// bytes for each while it is decoded, 100 MB, of the 256 that the service may have.
const PIXELS_MAX: u32 = 16 << 20;
/// Bytes read at once, as many as are sealed in one piece.
const READ_BYTES: usize = gatehouse_store::files::CHUNK_BYTES;
/// Quality of the JPEGs: blocks are not seen yet, and a face of 320 pixels takes some 10 kB.
const QUALITY: u8 = 80;

/// A thumbnail.
pub(crate) struct Made {
    /// The longest edge that was asked for.
    pub(crate) edge: u16,
    /// A JPEG.
    pub(crate) bytes: Zeroizing<Vec<u8>>,
}

/// Why there are no thumbnails.
#[derive(Debug)]
pub(crate) enum Unshown {
    /// The picture is broken, or too large, or none. In words, without any of its content.
    Picture(String),
    /// Its bytes could not be read.
    Read(std::io::Error),
}

/// Makes a thumbnail for each of `edges`: as it is to be looked at, no larger than the picture.
///
/// # Errors
/// [`Unshown`].
pub(crate) fn make(file: impl Read, edges: &[u16]) -> Result<Vec<Made>, Unshown> {
    let mut file = BufReader::with_capacity(READ_BYTES, file);
    let first = file.fill_buf().map_err(Unshown::Read)?;
    match content_type("", first) {
        "image/jpeg" => {}
        _ if first.is_empty() => return Err(picture("it is empty")),
        "application/octet-stream" => return Err(picture("it does not begin as a JPEG does")),
        other => return Err(picture(&format!("it is no JPEG, but {other}"))),
    }
    let (whole, turn) = decode(file, edges.iter().copied().max().unwrap_or(1))?;
    edges
        .iter()
        .map(|edge| Ok(Made { edge: *edge, bytes: encode(&whole.within(*edge).turned(turn))? }))
        .collect()
}

/// The picture, no smaller than `edge` where it was not, and how it is to be turned.
fn decode(file: impl Read, edge: u16) -> Result<(Pixels, exif::Orientation), Unshown> {
    let mut decoder = Decoder::new(file);
    decoder.read_info().map_err(unshown)?;
    let info = decoder.info().ok_or_else(|| picture("it has no header"))?;
    let (width, height) = (info.width, info.height);
    if u32::from(width) * u32::from(height) > PIXELS_MAX {
        let most = PIXELS_MAX / 1_000_000;
        return Err(picture(&format!("it claims {width} x {height} pixels, more than {most} million")));
    }
    let channels = match (info.coding_process, info.pixel_format) {
        (CodingProcess::Lossless, _) => return Err(picture("it is a lossless JPEG, which is not read")),
        (_, PixelFormat::L8) => 1,
        (_, PixelFormat::RGB24) => 3,
        (_, other) => return Err(picture(&format!("its colours are {other:?}, which are not read"))),
    };
    let (width, height) = decoder.scale(edge, edge).map_err(unshown)?;
    let data = Zeroizing::new(decoder.decode().map_err(unshown)?);
    let turn = decoder.exif_data().map(exif::orientation).unwrap_or_default();
    let pixels = Pixels::new(usize::from(width), usize::from(height), channels, data);
    Ok((pixels.ok_or_else(|| picture("it is not as large as it claims"))?, turn))
}

fn encode(pixels: &Pixels) -> Result<Zeroizing<Vec<u8>>, Unshown> {
    let color = if pixels.channels == 1 { ColorType::Luma } else { ColorType::Rgb };
    let size = |side: usize| u16::try_from(side).unwrap_or(u16::MAX);
    let mut out = Zeroizing::new(Vec::new());
    let encoded =
        Encoder::new(&mut *out, QUALITY).encode(&pixels.data, size(pixels.width), size(pixels.height), color);
    encoded.map_err(|error| picture(&format!("no thumbnail can be written of it: {}", words_of(&error))))?;
    Ok(out)
}

fn picture(words: &str) -> Unshown {
    Unshown::Picture(clip(words))
}

fn unshown(error: Error) -> Unshown {
    match error {
        Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => picture("it ends too early"),
        Error::Io(error) => Unshown::Read(error),
        Error::Format(words) => picture(&format!("it is broken ({words})")),
        other => picture(&format!("it is not read: {other}")),
    }
}

#[cfg(test)]
mod tests;
