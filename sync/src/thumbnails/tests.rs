use std::io::Cursor;

use jpeg_decoder::Decoder;

use super::*;

/// A JPEG with a field of another grey in each quarter, by rows from the left.
fn quarters(width: u16, height: u16, grey: [u8; 4]) -> Vec<u8> {
    let mut pixels = Vec::new();
    for y in 0..height {
        for x in 0..width {
            pixels.push(grey[usize::from(y >= height / 2) * 2 + usize::from(x >= width / 2)]);
        }
    }
    let mut out = Vec::new();
    Encoder::new(&mut out, 95).encode(&pixels, width, height, ColorType::Luma).unwrap();
    out
}

/// The same with EXIF data, that say an orientation and where it was taken, in either order of bytes.
fn with_exif(jpeg: &[u8], orientation: u16, little: bool) -> Vec<u8> {
    let short = |n: u16| if little { n.to_le_bytes() } else { n.to_be_bytes() };
    let long = |n: u32| if little { n.to_le_bytes() } else { n.to_be_bytes() };
    let mut exif = b"Exif\0\0".to_vec();
    exif.extend(if little { *b"II*\0" } else { *b"MM\0*" });
    exif.extend(long(8));
    exif.extend(short(2));
    for (tag, kind, value) in [(0x010f_u16, 2_u16, *b"gps\0"), (ORIENTATION, 3, [0; 4])] {
        exif.extend(short(tag));
        exif.extend(short(kind));
        exif.extend(long(1));
        exif.extend(value);
    }
    let at = exif.len() - 4;
    exif[at..at + 2].copy_from_slice(&short(orientation));
    exif.extend(long(0));
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &exif, &jpeg[2..]].concat()
}

const ORIENTATION: u16 = 0x0112;

fn thumbnail(jpeg: &[u8], edge: u16) -> Vec<u8> {
    make(Cursor::new(jpeg), &[edge]).unwrap().remove(0).bytes.to_vec()
}

fn fault(jpeg: &[u8]) -> String {
    match make(Cursor::new(jpeg), &[320]).err() {
        Some(ThumbnailError::Picture(message)) => message,
        other => panic!("{other:?}"),
    }
}

/// Width, height, and the grey in the middle of each quarter, rounded to tens.
fn seen(jpeg: &[u8]) -> (u16, u16, [u8; 4]) {
    let mut decoder = Decoder::new(jpeg);
    let pixels = decoder.decode().unwrap();
    let info = decoder.info().unwrap();
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    let at = |right: usize, down: usize| {
        let grey = pixels[(height / 4 + down * height / 2) * width + width / 4 + right * width / 2];
        grey.saturating_add(5) / 10 * 10
    };
    (info.width, info.height, [at(0, 0), at(1, 0), at(0, 1), at(1, 1)])
}

#[test]
fn every_orientation_is_honoured() {
    let [a, b, c, d] = [10, 80, 160, 240];
    let jpeg = quarters(800, 400, [a, b, c, d]);
    let upright = [
        [a, b, c, d],
        [b, a, d, c],
        [d, c, b, a],
        [c, d, a, b],
        [a, c, b, d],
        [c, a, d, b],
        [d, b, c, a],
        [b, d, a, c],
    ];
    for (number, expected) in (1..).zip(upright) {
        for little in [true, false] {
            let (width, height, grey) = seen(&thumbnail(&with_exif(&jpeg, number, little), 100));
            let size = if number < 5 { (100, 50) } else { (50, 100) };
            assert_eq!(((width, height), grey), (size, expected), "orientation {number}");
        }
    }
    for nonsense in [0, 9, 0xffff] {
        assert_eq!(seen(&thumbnail(&with_exif(&jpeg, nonsense, true), 100)).2, [a, b, c, d]);
    }
}

#[test]
fn broken_exif_data_are_none() {
    let whole = with_exif(&quarters(64, 64, [0; 4]), 6, true)[12..50].to_vec();
    assert!(exif::orientation(&whole).transposed);
    for cut in 0..whole.len() {
        exif::orientation(&whole[..cut]);
        for value in [0, 0x7f, 0xff] {
            let mut other = whole.clone();
            other[cut] = value;
            exif::orientation(&other);
        }
    }
    assert_eq!(exif::orientation(&whole[..24]), exif::Orientation::default());
}

#[test]
fn a_thumbnail_is_in_proportion_never_larger_and_a_mean() {
    let jpeg = quarters(500, 300, [200; 4]);
    for (edge, size) in
        [(16, (16, 10)), (160, (160, 96)), (499, (499, 299)), (500, (500, 300)), (2048, (500, 300))]
    {
        let (width, height, grey) = seen(&thumbnail(&jpeg, edge));
        assert_eq!(((width, height), grey), (size, [200; 4]), "edge {edge}");
    }
    // Lines that are finer than a pixel of the thumbnail become their mean, and a sliver keeps a pixel.
    let lines: Vec<u8> = (0..400 * 400).map(|at| if at % 2 == 0 { 0 } else { 200 }).collect();
    let pixels = pixels::Pixels::new(400, 400, 1, Zeroizing::new(lines)).unwrap().within(100);
    assert!(pixels.data.iter().all(|grey| *grey == 100), "{:?}", &pixels.data[..9]);
    let sliver = pixels::Pixels::new(3000, 2, 3, Zeroizing::new(vec![9; 18_000])).unwrap().within(16);
    assert_eq!((sliver.width, sliver.height, &sliver.data[..]), (16, 1, &[9; 48][..]));
}

#[test]
fn several_sizes_come_of_one_picture_without_what_it_says_of_itself() {
    let jpeg = gatehouse_testkit::jpeg::jpeg(7, 640, 360).unwrap();
    let made = make(Cursor::new(with_exif(&jpeg, 6, false)), &[320, 80]).unwrap();
    let sizes: Vec<_> = made.iter().map(|made| (made.edge, seen_size(&made.bytes))).collect();
    assert_eq!(sizes, [(320, (180, 320)), (80, (45, 80))]);
    for EncodedThumbnail { bytes, .. } in &made {
        assert!(!bytes.windows(4).any(|four| four == b"Exif" || four == b"gps\0"));
        assert!(bytes.len() < jpeg.len() / 2, "{} of {} bytes", bytes.len(), jpeg.len());
        let mut decoder = Decoder::new(&bytes[..]);
        decoder.decode().unwrap();
        assert!(decoder.exif_data().is_none() && decoder.xmp_data().is_none());
    }
    let again = make(Cursor::new(with_exif(&jpeg, 6, false)), &[320, 80]).unwrap();
    assert!(made.iter().zip(&again).all(|(one, two)| one.bytes == two.bytes), "the same of the same");
}

fn seen_size(jpeg: &[u8]) -> (u16, u16) {
    let mut decoder = Decoder::new(jpeg);
    decoder.read_info().unwrap();
    let info = decoder.info().unwrap();
    (info.width, info.height)
}

#[test]
fn what_claims_too_many_pixels_is_not_decoded() {
    let mut bomb = quarters(64, 64, [0; 4]);
    let frame = bomb.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    for (height, width) in [(60_000_u16, 60_000_u16), (65_535, 300)] {
        bomb[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
        bomb[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
        let message = fault(&bomb);
        assert!(message.contains(&format!("claims {width} x {height} pixels")), "{message}");
    }
    bomb[frame + 5..frame + 7].copy_from_slice(&[0, 0]);
    assert!(fault(&bomb).contains("broken") || fault(&bomb).contains("not read"));
}

#[test]
fn what_is_wrong_with_a_picture_is_said_in_words() {
    let jpeg = quarters(160, 120, [10, 80, 160, 240]);
    for cut in [3, 100, jpeg.len() / 2, jpeg.len() - 40] {
        let message = fault(&jpeg[..cut]);
        assert!(message.contains("ends too early") || message.contains("broken"), "{cut}: {message}");
    }
    assert_eq!(fault(b""), "it is empty");
    assert_eq!(fault(b"GET / HTTP/1.1"), "it does not begin as a JPEG does");
    assert_eq!(fault(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "it is no JPEG, but image/png");
    assert!(fault(b"\xff\xd8\xff\xc0\0\x05\x08\0\x01\xff\xd9").starts_with("it is broken ("));
}

#[test]
fn whatever_bytes_come_it_ends_in_a_thumbnail_or_in_words() {
    let jpeg = with_exif(&gatehouse_testkit::jpeg::jpeg(1, 48, 32).unwrap(), 8, true);
    let mut random = fastrand::Rng::with_seed(20);
    let (mut shown, mut reported) = (0, 0);
    for _ in 0..500 {
        let mut other = jpeg.clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(0..other.len());
            other[at] = random.u8(..);
        }
        match make(Cursor::new(other), &[32]) {
            Ok(_) => shown += 1,
            Err(ThumbnailError::Picture(message)) => reported += usize::from(!message.is_empty()),
            Err(ThumbnailError::Read(error)) => panic!("{error}"),
        }
    }
    assert!(shown > 50 && reported > 50, "{shown} shown, {reported} reported");
}

#[test]
fn bytes_that_cannot_be_read_are_no_fault_of_the_picture() {
    struct Torn(Cursor<Vec<u8>>);
    impl Read for Torn {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(into)? {
                0 => Err(std::io::Error::new(ErrorKind::InvalidData, "a chunk is not what was written")),
                count => Ok(count),
            }
        }
    }
    let jpeg = quarters(640, 480, [10, 80, 160, 240]);
    for cut in [0, 1000] {
        match make(Torn(Cursor::new(jpeg[..cut].to_vec())), &[320]) {
            Err(ThumbnailError::Read(error)) => assert_eq!(error.kind(), ErrorKind::InvalidData),
            other => panic!("{:?}", other.map(|made| made.len())),
        }
    }
}
