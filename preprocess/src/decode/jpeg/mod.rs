//! Decodes JPEG: zune-jpeg, which is fast, reads the usual kinds; libjpeg reads the others and what is damaged, as Pillow.

mod header;
mod libjpeg;
mod zune;

use self::header::Header;
use crate::{
    error::ImageError,
    image::{Image, check_size},
    orient::Orientation,
};

/// Maximum number of scans. Each costs time for the whole image, however few bytes it has.
const MAX_SCANS: usize = 100;

/// Decodes into `pixels`, RGB `[height, width, 3]`.
pub(super) fn decode(encoded: &[u8], max_pixels: u64, pixels: &mut Vec<u8>) -> Result<Image, ImageError> {
    let header = Header::read(encoded);
    let frame = header.frame().map_err(failure)?;
    let (width, height) = (frame.width.into(), frame.height.into());
    check_size(width, height, max_pixels)?;
    let scans = header.scans.windows(2);
    // Data of a scan escapes 0xff, so this pair of bytes is always the marker of the end (EOI) there.
    if !scans.clone().rev().any(|pair| pair == [0xff, 0xd9]) {
        return Err(failure("truncated: its end is missing"));
    }
    if !(header.is_usual(frame) && zune::decode(encoded, MAX_SCANS, pixels).is_ok()) {
        // The first scan's marker is not among these bytes.
        let count = 1 + scans.filter(|pair| *pair == [0xff, 0xda]).count();
        if count > MAX_SCANS {
            return Err(failure(&format!("{count} scans are over the limit of {MAX_SCANS}")));
        }
        libjpeg::decode(encoded, frame, pixels).map_err(|reason| failure(&reason))?;
    }
    Ok(Image { width, height, orientation: Orientation::from_metadata(&header.exif, header.xmp) })
}

fn failure(reason: &str) -> ImageError {
    ImageError::Decode { format: "JPEG", reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHOTO: &[u8] = include_bytes!("../../../../photos/coffee-224.jpg");

    fn error(encoded: &[u8]) -> String {
        decode(encoded, u64::MAX, &mut Vec::new()).unwrap_err().to_string()
    }

    #[test]
    fn rejects_a_truncated_jpeg() {
        for missing in [1, 2, 3, 100, PHOTO.len() / 2] {
            let cut = &PHOTO[..PHOTO.len() - missing];
            assert_eq!(error(cut), "cannot decode JPEG: truncated: its end is missing");
        }
        assert_eq!(error(&PHOTO[..100]), "cannot decode JPEG: truncated: it ends before its pixels");
        // The thumbnail in a segment has an end of its own.
        let thumbnail = [0xff, 0xe1, 0, 4, 0xff, 0xd9];
        let cut = [&PHOTO[..2], &thumbnail, &PHOTO[2..PHOTO.len() - 2]].concat();
        assert_eq!(error(&cut), "cannot decode JPEG: truncated: its end is missing");
        assert!(decode(&[PHOTO, b"trailing bytes"].concat(), u64::MAX, &mut Vec::new()).is_ok());
    }

    #[test]
    fn checks_the_size_before_decoding() {
        // The check needs the headers only.
        let scan = PHOTO.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
        let mut pixels = Vec::new();
        let error = decode(&PHOTO[..scan + 20], 224 * 224 - 1, &mut pixels).unwrap_err();
        assert_eq!(error.to_string(), "224x224 pixels are over the limit of 50175; send a smaller image");
        assert_eq!(pixels.capacity(), 0);
        assert!(decode(PHOTO, 224 * 224, &mut pixels).is_ok());
    }

    #[test]
    fn both_decoders_read_a_photograph_alike() {
        let header = Header::read(PHOTO);
        let (mut fast, mut reference) = (Vec::new(), Vec::new());
        zune::decode(PHOTO, MAX_SCANS, &mut fast).unwrap();
        libjpeg::decode(PHOTO, header.frame().unwrap(), &mut reference).unwrap();
        assert_eq!(fast.len(), reference.len());
        let worst = fast.iter().zip(&reference).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(8), "{worst:?}");
    }

    #[test]
    fn an_endless_number_of_scans_is_refused() {
        let scan = PHOTO.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
        // A stray byte keeps zune-jpeg out.
        let mut many = [&PHOTO[..2], &[0, 0, 0], &PHOTO[2..PHOTO.len() - 2]].concat();
        for _ in 0..MAX_SCANS {
            many.extend_from_slice(&PHOTO[scan..scan + 14]);
        }
        many.extend([0xff, 0xd9]);
        assert_eq!(error(&many), "cannot decode JPEG: 101 scans are over the limit of 100");
    }
}
