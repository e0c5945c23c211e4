//! Reads a JPEG's segments up to its first scan: the frame, and the metadata.

/// Length of the shorter side from which on an image is reduced so far that the rounding of chroma does not matter, in
/// pixels. zune-jpeg's upsampled chroma differs from libjpeg's by up to 4 levels at hard edges, and libjpeg takes twice the
/// time, which is little for a small image.
const LARGE: u16 = 384;

/// What precedes the first scan.
#[derive(Debug, Default)]
pub(super) struct Header<'a> {
    frame: Option<Frame>,
    /// Whether it defines Huffman tables. Frames of a webcam's Motion JPEG leave out the usual ones.
    has_tables: bool,
    /// The colour transform in Adobe's segment.
    adobe_transform: Option<u8>,
    /// Other bytes between segments.
    has_stray_bytes: bool,
    /// EXIF data, of all its segments one after another.
    pub(super) exif: Vec<u8>,
    /// XMP data of the last segment with it.
    pub(super) xmp: &'a [u8],
    /// What follows the marker of the first scan; empty if there is none.
    pub(super) scans: &'a [u8],
}

/// The frame, which the marker SOF begins.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// The marker, which says how the frame is coded.
    marker: u8,
    /// Bits per sample.
    precision: u8,
    pub(super) width: u16,
    pub(super) height: u16,
    /// Identifier and sampling factors (horizontal and vertical, four bits each) of each component.
    pub(super) components: Vec<(u8, u8)>,
}

impl<'a> Header<'a> {
    /// Reads `encoded`, which begins with the marker of the start (SOI). Stray bytes between segments are skipped, as
    /// Pillow and libjpeg do.
    pub(super) fn read(encoded: &'a [u8]) -> Self {
        let mut header = Self::default();
        let mut rest = encoded.get(2..).unwrap_or_default();
        while let [first, after @ ..] = rest {
            rest = match (first, after) {
                (0xff, [0xda, scans @ ..]) => {
                    header.scans = scans;
                    break;
                }
                (0xff, [0xff, ..]) => after,
                // Markers without a segment.
                (0xff, [0x01 | 0xd0..=0xd9, after @ ..]) => after,
                (0xff, [marker @ 0x02..=0xfe, segment @ ..]) => match split(segment) {
                    Some((data, after)) => {
                        header.add(*marker, data);
                        after
                    }
                    None => &[],
                },
                _ => {
                    header.has_stray_bytes = true;
                    after
                }
            };
        }
        header
    }

    fn add(&mut self, marker: u8, data: &'a [u8]) {
        match (marker, data) {
            (0xc4, _) => self.has_tables = true,
            // Not 0xc8, which is reserved, nor 0xcc, which conditions arithmetic coding.
            (0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf, _) => self.frame = Frame::read(marker, data),
            (0xee, [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform, ..]) => {
                self.adobe_transform = Some(*transform);
            }
            (0xe1, data) => {
                if let Some(exif) = data.strip_prefix(b"Exif\0\0") {
                    self.exif.extend_from_slice(exif);
                } else if let Some(xmp) = data.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0") {
                    self.xmp = xmp;
                }
            }
            _ => {}
        }
    }

    /// The frame.
    ///
    /// # Errors
    /// For a missing frame, and one that neither Pillow nor this crate decodes, with what it is.
    pub(super) fn frame(&self) -> Result<&Frame, &'static str> {
        match &self.frame {
            _ if self.scans.is_empty() => Err("truncated: it ends before its pixels"),
            None => Err("it has no frame header"),
            Some(frame) => frame.check().map(|()| frame),
        }
    }

    /// Whether zune-jpeg reads it as libjpeg does: baseline or progressive, grey or YCbCr, with common sampling factors,
    /// and large enough if its chroma is subsampled.
    pub(super) fn is_usual(&self, frame: &Frame) -> bool {
        let colours = match frame.components[..] {
            [_] => true,
            [(1, luma), (2, 0x11), (3, 0x11)] if self.adobe_transform != Some(0) => match luma {
                0x11 => true,
                0x12 | 0x21 | 0x22 => frame.width.min(frame.height) >= LARGE,
                _ => false,
            },
            _ => false,
        };
        colours && frame.marker <= 0xc2 && self.has_tables && !self.has_stray_bytes
    }
}

/// The data of a segment, and what follows it. The length in front counts itself.
fn split(segment: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(u16::from_be_bytes(*segment.first_chunk()?));
    segment.get(2..)?.split_at_checked(length.checked_sub(2)?)
}

impl Frame {
    fn read(marker: u8, data: &[u8]) -> Option<Self> {
        let [precision, y0, y1, x0, x1, count, components @ ..] = data else { return None };
        let components =
            components.as_chunks().0.iter().take((*count).into()).map(|[id, sampling, _]| (*id, *sampling));
        let (width, height) = (u16::from_be_bytes([*x0, *x1]), u16::from_be_bytes([*y0, *y1]));
        Some(Self { marker, precision: *precision, width, height, components: components.collect() })
    }

    fn check(&self) -> Result<(), &'static str> {
        match self.marker {
            0xc3 | 0xcb => return Err("it is a lossless JPEG; convert it to a baseline JPEG or a PNG"),
            0xc5..=0xc7 | 0xcd..=0xcf => return Err("it is a hierarchical JPEG; convert it to a baseline JPEG"),
            _ => {}
        }
        match (self.precision, self.components.len()) {
            _ if self.width == 0 || self.height == 0 => Err("its width or height is 0"),
            (8, 1 | 3 | 4) => Ok(()),
            (8, _) => Err("it has neither 1, 3 nor 4 components"),
            _ => Err("its samples do not have 8 bits; convert it to 8 bits"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
        [&[0xff, marker], &(data.len() as u16 + 2).to_be_bytes()[..], data].concat()
    }

    fn file(segments: &[Vec<u8>]) -> Vec<u8> {
        [&[0xff, 0xd8][..], &segments.concat(), &[0xff, 0xda, 0, 2, 7]].concat()
    }

    const GREY: [u8; 9] = [8, 0, 5, 0, 7, 1, 1, 0x11, 0];

    #[test]
    fn reads_the_frame_and_joins_the_exif_segments() {
        let xmp = |text: &[u8]| segment(0xe1, &[b"http://ns.adobe.com/xap/1.0/\0", text].concat());
        let bytes = file(&[
            segment(0xe1, b"Exif\0\0II"),
            vec![0xff],
            segment(0xe1, b"Exif\0\0\x2a\0"),
            xmp(b"first"),
            xmp(b"last"),
            segment(0xc4, &[]),
            segment(0xc0, &GREY),
        ]);
        let header = Header::read(&bytes);
        let frame = header.frame().unwrap();
        assert_eq!((frame.width, frame.height, &frame.components[..]), (7, 5, &[(1, 0x11)][..]));
        assert_eq!((&header.exif[..], header.xmp, header.scans), (&b"II\x2a\0"[..], &b"last"[..], &[0, 2, 7][..]));
        assert!(header.is_usual(frame));
    }

    #[test]
    fn skips_stray_bytes_and_says_so() {
        let bytes = file(&[vec![0, 1, 0xff, 0], segment(0xc4, &[]), segment(0xc0, &GREY)]);
        let header = Header::read(&bytes);
        assert!(!header.is_usual(header.frame().unwrap()));
    }

    #[test]
    fn names_what_is_not_decoded() {
        let refusal = |marker: u8, data: &[u8]| Header::read(&file(&[segment(marker, data)])).frame().unwrap_err();
        let with = |at: usize, value: u8| {
            let mut frame = GREY;
            frame[at] = value;
            frame
        };
        assert!(refusal(0xc3, &GREY).starts_with("it is a lossless JPEG"));
        assert!(refusal(0xc5, &GREY).starts_with("it is a hierarchical JPEG"));
        assert!(refusal(0xc1, &with(0, 12)).starts_with("its samples do not have 8 bits"));
        assert_eq!(refusal(0xc0, &with(2, 0)), "its width or height is 0");
        assert_eq!(refusal(0xc0, &[8, 0, 5, 0, 7, 2, 1, 0x11, 0, 2, 0x11, 0]), "it has neither 1, 3 nor 4 components");
        assert_eq!(refusal(0xc0, &GREY[..4]), "it has no frame header");
        assert_eq!(Header::read(&[0xff; 9]).frame().unwrap_err(), "truncated: it ends before its pixels");
        assert_eq!(Header::read(&[]).frame().unwrap_err(), "truncated: it ends before its pixels");
    }
}
