//! How an image is to be turned before it is looked at, as EXIF says.
//!
//! The 224 × 224 result is turned, not the photograph it comes from: that is the same picture for less work. Only the
//! crop's place has to be known as it will be after turning.

use crate::input::SIDE;

/// One of the eight: the turned image has at (x, y) what is stored at (x, y), or at (y, x) if transposed, counted from
/// the other end along the stored axes that are mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orientation {
    /// Rows become columns.
    pub(crate) transposed: bool,
    /// Stored columns run from right to left.
    pub(crate) mirrored_x: bool,
    /// Stored rows run from bottom to top.
    pub(crate) mirrored_y: bool,
}

impl Orientation {
    /// The one in EXIF data; as stored where there is none, or nonsense.
    pub(crate) fn from_exif(exif: &[u8]) -> Self {
        // In WebP some writers keep the prefix that EXIF has in JPEG.
        let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
        ::image::metadata::Orientation::from_exif_chunk(tiff)
            .map_or_else(Self::default, |orientation| Self::from_number(orientation.to_exif()))
    }

    /// By EXIF's numbers, 1 to 8.
    fn from_number(number: u8) -> Self {
        Self {
            transposed: number >= 5,
            mirrored_x: matches!(number, 2 | 3 | 7 | 8),
            mirrored_y: matches!(number, 3 | 4 | 6 | 7),
        }
    }

    /// Turns pixels `[224, 224, 3]`.
    pub(crate) fn turn(self, pixels: &mut [u8]) {
        if self == Self::default() {
            return;
        }
        let stored = pixels.to_vec();
        let mirror = |at: usize, mirrored: bool| if mirrored { SIDE - 1 - at } else { at };
        for (at, pixel) in pixels.chunks_exact_mut(3).enumerate() {
            let (x, y) = if self.transposed { (at / SIDE, at % SIDE) } else { (at % SIDE, at / SIDE) };
            let from = 3 * (mirror(y, self.mirrored_y) * SIDE + mirror(x, self.mirrored_x));
            pixel.copy_from_slice(&stored[from..from + 3]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minimal EXIF with one entry: the orientation.
    fn exif(number: u16, big_endian: bool) -> Vec<u8> {
        let short = |n: u16| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
        let long = |n: u32| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
        let mut bytes = if big_endian { b"MM".to_vec() } else { b"II".to_vec() };
        bytes.extend([short(42).as_slice(), &long(8), &short(1), &short(0x112), &short(3), &long(1)].concat());
        bytes.extend([short(number), short(0)].concat());
        bytes
    }

    #[test]
    fn both_byte_orders_and_the_prefix_are_read() {
        for number in 1..=8 {
            let expected = Orientation::from_number(number as u8);
            assert_eq!(Orientation::from_exif(&exif(number, false)), expected);
            assert_eq!(Orientation::from_exif(&exif(number, true)), expected);
            assert_eq!(Orientation::from_exif(&[b"Exif\0\0", &exif(number, true)[..]].concat()), expected);
        }
    }

    #[test]
    fn nonsense_leaves_the_image_as_it_is() {
        let whole = exif(6, false);
        for bad in [exif(0, false), exif(9, true), exif(262, false), b"MM".to_vec(), whole[..18].to_vec()] {
            assert_eq!(Orientation::from_exif(&bad), Orientation::default());
        }
    }

    #[test]
    fn six_is_a_quarter_turn_clockwise() {
        let mut pixels = vec![0; crate::input::ELEMENTS];
        pixels[..3].fill(1); // top left
        Orientation::from_number(6).turn(&mut pixels);
        assert_eq!(pixels.iter().position(|&value| value == 1), Some(3 * (SIDE - 1))); // top right
    }
}
