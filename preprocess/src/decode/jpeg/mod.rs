//! Decodes JPEG: zune-jpeg, which is fast, reads the usual kinds; libjpeg reads the others and what is damaged, as Pillow, and
//! decodes at a reduced size if the recipe asks for it.

mod buffer;
mod header;
mod libjpeg;
mod zune;

use self::header::Header;
use crate::{
    error::ImageError,
    image::{FULL_SCALE, Image, check_size},
    orient::Orientation,
    recipe::{Interpolation, JpegDecode, Recipe},
};

/// Maximum number of scans. Each costs time for the whole image, however few bytes it has.
const MAX_SCANS: usize = 100;

/// The least ratio of the pixels of a reduced image to those of the resized one, on each axis. The resize then still averages
/// over more than a pixel, and the reduction, which cuts frequencies off sharply, is not seen in its result.
const MARGIN: f64 = 1.25;

/// The largest scale, in eighths, at which libjpeg takes less time than zune-jpeg takes for all pixels.
const WORTHWHILE: u8 = 4;

/// Decodes into `pixels`, RGB of [`Image::decoded_size`].
pub(super) fn decode(
    encoded: &[u8],
    max_pixels: u64,
    recipe: &Recipe,
    pixels: &mut Vec<u8>,
) -> Result<Image, ImageError> {
    let header = Header::read(encoded);
    let frame = header.frame().map_err(failure)?;
    let (width, height) = (frame.width.into(), frame.height.into());
    check_size(width, height, max_pixels)?;
    // Data of a scan escapes 0xff, so this pair of bytes is always the marker of the end (EOI) there.
    if !header.scans.windows(2).rev().any(|pair| pair == [0xff, 0xd9]) {
        return Err(failure("truncated: its end is missing"));
    }
    let orientation = Orientation::from_metadata(&header.exif, header.xmp);
    let eighths = eighths(recipe, orientation.stored([frame.width.into(), frame.height.into()]));
    let is_exact = eighths == FULL_SCALE;
    if !(is_exact && header.is_usual(frame) && zune::decode(encoded, MAX_SCANS, pixels).is_ok()) {
        // The first scan's marker is not among these bytes.
        let pairs = header.scans.iter().zip(header.scans.iter().skip(1));
        let count = 1 + pairs.map(|(&a, &b)| usize::from((a == 0xff) & (b == 0xda))).sum::<usize>();
        if count > MAX_SCANS {
            return Err(failure(&format!("{count} scans are over the limit of {MAX_SCANS}")));
        }
        libjpeg::decode(encoded, frame, eighths, pixels).map_err(|reason| failure(&reason))?;
    }
    Ok(Image { width, height, orientation, eighths })
}

/// The scale at which an image of this width and height, oriented, is decoded, in eighths: the smallest one whose pixels are
/// [`MARGIN`] times as dense as those of the resized image, if that is [`WORTHWHILE`].
fn eighths(recipe: &Recipe, size: [usize; 2]) -> u8 {
    // The nearest pixels are pixels of the file.
    if recipe.jpeg_decode == JpegDecode::Exact || recipe.interpolation == Interpolation::Nearest {
        return FULL_SCALE;
    }
    let full = f64::from(FULL_SCALE);
    let least = (full * MARGIN * recipe.scale(size)).ceil().clamp(1.0, full) as u8;
    if least <= WORTHWHILE { least } else { FULL_SCALE }
}

fn failure(reason: &str) -> ImageError {
    ImageError::Decode { format: "JPEG", reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Fit;

    const PHOTO: &[u8] = include_bytes!("../../../../photos/coffee-224.jpg");

    fn error(encoded: &[u8]) -> String {
        decode(encoded, u64::MAX, &Recipe::TORCHVISION, &mut Vec::new()).unwrap_err().to_string()
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
        let trailing = [PHOTO, b"trailing bytes"].concat();
        assert!(decode(&trailing, u64::MAX, &Recipe::TORCHVISION, &mut Vec::new()).is_ok());
    }

    #[test]
    fn checks_the_size_before_decoding() {
        // The check needs the headers only.
        let scan = PHOTO.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
        let mut pixels = Vec::new();
        let error = decode(&PHOTO[..scan + 20], 224 * 224 - 1, &Recipe::TORCHVISION, &mut pixels).unwrap_err();
        assert_eq!(error.to_string(), "224x224 pixels are over the limit of 50175; send a smaller image");
        assert_eq!(pixels.capacity(), 0);
        assert!(decode(PHOTO, 224 * 224, &Recipe::TORCHVISION, &mut pixels).is_ok());
    }

    #[test]
    fn both_decoders_read_a_photograph_alike() {
        let header = Header::read(PHOTO);
        let (mut fast, mut reference) = (Vec::new(), Vec::new());
        zune::decode(PHOTO, MAX_SCANS, &mut fast).unwrap();
        libjpeg::decode(PHOTO, header.frame().unwrap(), FULL_SCALE, &mut reference).unwrap();
        assert_eq!(fast.len(), reference.len());
        let worst = fast.iter().zip(&reference).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(8), "{worst:?}");
    }

    #[test]
    fn the_scale_keeps_what_the_resize_needs() {
        let scaled = Recipe { jpeg_decode: JpegDecode::Scaled, ..Recipe::TORCHVISION };
        assert_eq!(eighths(&Recipe::TORCHVISION, [4032, 3024]), 8, "exact");
        let sides = [[4032, 3024], [3024, 4032], [1600, 1200], [1280, 960], [640, 480], [300, 300], [1, 1]];
        assert_eq!(sides.map(|size| eighths(&scaled, size)), [1, 1, 3, 3, 8, 8, 8]);
        for size in sides {
            let pixels = f64::from(eighths(&scaled, size)) / 8.0 * size[0].min(size[1]) as f64;
            assert!(pixels >= MARGIN * 256.0 || eighths(&scaled, size) == 8, "{size:?}");
        }
        let stretch = Recipe { height: 100, width: 400, fit: Fit::Stretch, ..scaled };
        assert_eq!([[4000, 100], [100, 4000], [4000, 4000]].map(|size| eighths(&stretch, size)), [8, 8, 1]);
        let letterbox = Recipe { fit: Fit::Letterbox, ..stretch };
        assert_eq!([[4000, 100], [100, 4000], [4000, 4000]].map(|size| eighths(&letterbox, size)), [1, 1, 1]);
        assert_eq!(eighths(&Recipe { interpolation: Interpolation::Nearest, ..scaled }, [4032, 3024]), 8);
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
