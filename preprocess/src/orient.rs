//! Applies the EXIF orientation.
//!
//! It is applied to the resized result, which costs less than applying it to the whole image and gives the same
//! pixels. The crop's offset must then be computed for the oriented image (`resize`).

use crate::exif;

/// One of the eight EXIF orientations. The pixel (x, y) of the oriented image is the stored pixel (x, y), or (y, x) if
/// transposed; on a mirrored axis the stored coordinate counts from the other end.
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
    /// The orientation in an image's EXIF and XMP metadata, empty where there is none; the default if none is valid.
    pub(crate) fn from_metadata(exif: &[u8], xmp: &[u8]) -> Self {
        match exif::orientation(exif, xmp) {
            Some(number @ 1..=8) => Self::from_number(number as u8),
            _ => Self::default(),
        }
    }

    /// The orientation with this EXIF number, 1 to 8.
    fn from_number(number: u8) -> Self {
        Self {
            transposed: number >= 5,
            mirrored_x: matches!(number, 2 | 3 | 7 | 8),
            mirrored_y: matches!(number, 3 | 4 | 6 | 7),
        }
    }

    /// The width and height of stored pixels that become `width` and `height` when they are oriented.
    pub(crate) fn stored(self, [width, height]: [usize; 2]) -> [usize; 2] {
        if self.transposed { [height, width] } else { [width, height] }
    }

    /// Orients stored pixels, which become `[height, width, 3]`.
    pub(crate) fn apply(self, pixels: &mut [u8], [width, height]: [usize; 2]) {
        if self == Self::default() {
            return;
        }
        let stored = pixels.to_vec();
        let [stored_width, stored_height] = self.stored([width, height]);
        let mirror =
            |position: usize, length: usize, mirrored: bool| if mirrored { length - 1 - position } else { position };
        for (index, pixel) in pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let (row, column) = (index / width, index % width);
            let (x, y) = if self.transposed { (row, column) } else { (column, row) };
            let row = mirror(y, stored_height, self.mirrored_y);
            let source = 3 * (row * stored_width + mirror(x, stored_width, self.mirrored_x));
            pixel.copy_from_slice(&stored[source..source + 3]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::SIDE;

    #[test]
    fn numbers_out_of_range_are_ignored() {
        let oriented =
            |digit: u8| Orientation::from_metadata(&[], &[b"tiff:Orientation=\"", &[digit, b'"'][..]].concat());
        for number in 1..=8 {
            assert_eq!(oriented(b'0' + number), Orientation::from_number(number));
        }
        assert_eq!([oriented(b'0'), oriented(b'9')], [Orientation::default(); 2]);
    }

    #[test]
    fn orientation_6_rotates_90_degrees_clockwise() {
        let mut pixels = vec![0; crate::input::ELEMENTS];
        pixels[..3].fill(1); // top left
        Orientation::from_number(6).apply(&mut pixels, [SIDE, SIDE]);
        assert_eq!(pixels.iter().position(|&value| value == 1), Some(3 * (SIDE - 1))); // top right
    }

    #[test]
    fn a_transposed_image_changes_its_sides() {
        let stored: Vec<u8> = [1, 2, 3, 4, 5, 6].iter().flat_map(|&level| [level; 3]).collect(); // 3 wide, 2 high
        let mut pixels = stored;
        let orientation = Orientation::from_number(6);
        assert_eq!(orientation.stored([2, 3]), [3, 2]);
        orientation.apply(&mut pixels, [2, 3]);
        assert_eq!(pixels.chunks(3).map(|pixel| pixel[0]).collect::<Vec<_>>(), [4, 1, 5, 2, 6, 3]);
    }
}
