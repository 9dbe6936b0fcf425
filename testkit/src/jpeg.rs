//! Small pictures, different for every seed.

use anyhow::Result;
use fastrand::Rng;
use jpeg_encoder::{ColorType, Encoder};

/// Quality of the JPEGs. Not that of thumbnails, so that a thumbnail never equals its picture.
const QUALITY: u8 = 90;

/// A JPEG of a gradient with a disc and some grain. About 4 KB at 160 x 120, 60 KB at 640 x 480.
///
/// # Errors
/// If a side is zero or larger than JPEG allows.
pub fn jpeg(seed: u64, width: u16, height: u16) -> Result<Vec<u8>> {
    let mut rng = Rng::with_seed(seed);
    let (w, h) = (i32::from(width), i32::from(height));
    let (cx, cy, radius) = (rng.i32(0..w.max(1)), rng.i32(0..h.max(1)), w.min(h) / 4);
    let base = [rng.i32(40..160), rng.i32(40..160), rng.i32(40..160)];
    let mut pixels = Vec::with_capacity(usize::from(width) * usize::from(height) * 3);
    for y in 0..h {
        for x in 0..w {
            let inside = (x - cx).pow(2) + (y - cy).pow(2) < radius.pow(2);
            let grain = rng.i32(-12..12);
            for channel in base {
                let shade = channel + 60 * x / w - 30 * y / h + if inside { 50 } else { 0 } + grain;
                pixels.push(u8::try_from(shade.clamp(0, 255))?);
            }
        }
    }
    let mut out = Vec::new();
    Encoder::new(&mut out, QUALITY).encode(&pixels, width, height, ColorType::Rgb)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_jpegs_and_differ() {
        let (a, b) = (jpeg(1, 160, 120).unwrap(), jpeg(2, 160, 120).unwrap());
        assert!(a.starts_with(&[0xff, 0xd8, 0xff]) && a != b);
        assert_eq!(a, jpeg(1, 160, 120).unwrap());
        assert!(jpeg(3, 640, 480).unwrap().len() > 20_000);
    }
}
