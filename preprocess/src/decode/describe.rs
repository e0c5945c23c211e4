//! Names what is not decoded, for the error message.

/// Describes bytes that are not an image in a supported format, with what to do about it.
pub(super) fn describe(bytes: &[u8]) -> String {
    let known = match bytes {
        [] => "nothing (0 bytes)",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => iso_media(bytes),
        [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => "a JPEG XL image; convert it to JPEG",
        [0xff, 0x4f, 0xff, 0x51, ..] | [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] => {
            "a JPEG 2000 image; convert it to JPEG"
        }
        [0, 0, 1, 0, ..] => "an ICO icon; convert it to PNG",
        [b'8', b'B', b'P', b'S', ..] => "a Photoshop document; export it as JPEG",
        [b'P', b'1'..=b'7', b'\n' | b'\r' | b' ' | b'\t' | b'#', ..] => {
            "a PNM image (PBM, PGM, PPM); convert it to PNG"
        }
        [b'q', b'o', b'i', b'f', ..] => "a QOI image; convert it to PNG",
        [b'D', b'D', b'S', b' ', ..] => "a DDS texture; convert it to PNG",
        [0x76, 0x2f, 0x31, 0x01, ..] => "an OpenEXR image; convert it to PNG",
        [b'%', b'P', b'D', b'F', ..] => "a PDF document; send its page as an image",
        [0x1f, 0x8b, ..] => "gzip data; send the image itself",
        [b'P', b'K', 3, 4, ..] => "a ZIP archive; send the image itself",
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => "a NumPy array; send an image file",
        [0xff, 0xd8, ..] => "the first bytes of a JPEG without the rest; send the whole file",
        _ => return text(bytes),
    };
    known.to_owned()
}

/// A file of the ISO base media format, by the brands in its first box (`ftyp`).
fn iso_media(bytes: &[u8]) -> &'static str {
    let length = bytes.first_chunk().map_or(0, |length| u32::from_be_bytes(*length) as usize);
    let brands = bytes.get(8..length.min(bytes.len())).unwrap_or_default();
    // The second field is the version of the first brand.
    let has = |names: &[&[u8; 4]]| brands.as_chunks().0.iter().any(|brand| names.contains(&brand));
    if has(&[b"avif", b"avis"]) {
        "an AVIF image; convert it to JPEG"
    } else if has(&[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"]) {
        "a HEIC image; convert it to JPEG (an iPhone sends JPEG with Camera > Formats > Most Compatible)"
    } else {
        "an MP4 or other media file; send a single image"
    }
}

/// Text, or unknown bytes by their start.
fn text(bytes: &[u8]) -> String {
    let start = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    let begins_with = |prefix: &[u8]| start.get(..prefix.len()).is_some_and(|found| found.eq_ignore_ascii_case(prefix));
    let known = if begins_with(b"data:") {
        "a data: URL; send the bytes of the image, or JSON {\"images\": [\"data:...\"]}"
    } else if begins_with(b"http://") || begins_with(b"https://") || begins_with(b"file://") {
        "a URL; send the bytes of the image, because the server does not fetch it"
    } else if begins_with(b"<svg") {
        "an SVG drawing; convert it to PNG"
    } else if begins_with(b"<!doctype html") || begins_with(b"<html") {
        "an HTML page; the download of the image may have failed"
    } else if begins_with(b"version https://git-lfs") {
        "a Git LFS pointer; run git lfs pull, then send the image itself"
    } else if [&b"/9j/"[..], b"iVBORw0KGgo", b"UklGR", b"R0lGOD"].iter().any(|magic| start.starts_with(magic)) {
        "an image in base64; decode it first"
    } else {
        let start = &bytes[..bytes.len().min(8)];
        return format!("{} bytes that begin with \"{}\"", bytes.len(), start.escape_ascii());
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_not_decoded() {
        for (bytes, found) in [
            (&b""[..], "nothing (0 bytes)"),
            (b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf", "an AVIF image; "),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "an AVIF image; "),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image; "),
            (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1avif", "an MP4 or other media file; "),
            (b"\0\0\0\x02ftyp", "an MP4 or other media file; "),
            (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image; "),
            (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image; "),
            (b"P6\n2 2\n255\n", "a PNM image"),
            (b"/9j/4AAQSkZJRg", "an image in base64; decode it first"),
            (b"\xef\xbb\xbf DATA:image/png,", "a data: URL; "),
            (b" https://example.com/cat.jpg", "a URL; "),
            (b"<!DOCTYPE html><html>", "an HTML page; "),
            (b"<h1>not found</h1>", "18 bytes that begin with \"<h1>not \""),
            (&[0xff, 0xd8], "the first bytes of a JPEG"),
        ] {
            let described = describe(bytes);
            assert!(described.starts_with(found), "{described}, not {found}");
        }
    }
}
