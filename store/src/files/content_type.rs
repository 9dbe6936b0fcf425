//! The media type of a file, detected from its first bytes or else from its name.

/// The media type of a file, from its first bytes (16 are enough) and its name. The bytes take precedence:
/// cameras misname files.
///
/// Types that a browser runs (HTML, SVG, scripts) are never returned: such files are
/// `application/octet-stream`.
pub fn content_type(name: &str, first: &[u8]) -> &'static str {
    by_bytes(first).or_else(|| by_name(name)).unwrap_or("application/octet-stream")
}

/// Whether a file of this name is a picture.
pub fn is_picture(name: &str) -> bool {
    content_type(name, &[]).starts_with("image/")
}

/// Whether thumbnails are made of a file of this name.
pub(crate) fn has_thumbnails(name: &str) -> bool {
    content_type(name, &[]) == "image/jpeg"
}

fn by_bytes(first: &[u8]) -> Option<&'static str> {
    let form = first.get(8..12).unwrap_or_default();
    Some(match first {
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => "image/png",
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [b'R', b'I', b'F', b'F', ..] if form == b"WEBP" => "image/webp",
        [b'R', b'I', b'F', b'F', ..] if form == b"WAVE" => "audio/wav",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] if matches!(form, b"avif" | b"avis") => "image/avif",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] if matches!(form, b"heic" | b"heix" | b"mif1") => {
            "image/heic"
        }
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "video/mp4",
        [0x1a, 0x45, 0xdf, 0xa3, ..] => "video/webm",
        [b'O', b'g', b'g', b'S', ..] => "audio/ogg",
        _ => return None,
    })
}

fn by_name(name: &str) -> Option<&'static str> {
    let (_, ending) = name.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "heic" => "image/heic",
        "mp4" | "m4v" => "video/mp4",
        "webm" => "video/webm",
        "ts" => "video/mp2t",
        "h264" => "video/h264",
        "wav" => "audio/wav",
        "ogg" => "audio/ogg",
        "json" => "application/json",
        "txt" => "text/plain",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::content_type;

    #[test]
    fn bytes_win_over_the_name() {
        assert_eq!(content_type("a.png", &[0xff, 0xd8, 0xff, 0xe0]), "image/jpeg");
        assert_eq!(content_type("clip", b"\0\0\0\x18ftypisom"), "video/mp4");
        assert_eq!(content_type("clip.bin", b"\0\0\0\x18ftypavif"), "image/avif");
        assert_eq!(content_type("a.WebP", b""), "image/webp");
    }

    #[test]
    fn types_that_a_browser_runs_are_octet_streams() {
        for name in ["x.html", "x.svg", "x.js", "x", "html"] {
            assert_eq!(content_type(name, b"<html><script>"), "application/octet-stream");
        }
    }
}
