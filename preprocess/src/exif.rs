//! Finds the orientation number in EXIF and XMP metadata, by the rules of Pillow's `Image.getexif`.

/// The tag of the orientation in a TIFF directory.
const ORIENTATION: u16 = 0x112;

/// The orientation number in an image's metadata. XMP counts only where EXIF has no orientation. A number may be out of
/// the range 1 to 8.
pub(crate) fn orientation(exif: &[u8], xmp: &[u8]) -> Option<u64> {
    match tag_in_exif(exif) {
        Some(number) => number,
        None => in_xmp(xmp),
    }
}

/// The value of the tag in EXIF data, a TIFF file: `Some(None)` if the tag is there but is not a number.
fn tag_in_exif(exif: &[u8]) -> Option<Option<u64>> {
    let tiff = Tiff::new(exif)?;
    let directory = usize::try_from(tiff.unsigned(4, 4)?).ok()?;
    let entries = tiff.unsigned(directory, 2)? as usize;
    // The first entry with a value counts; an entry of an unknown type, or outside the data, is skipped.
    (0..entries)
        .map(|index| directory + 2 + 12 * index)
        .take_while(|&entry| tiff.bytes(entry, 12).is_some())
        .filter(|&entry| tiff.unsigned(entry, 2) == Some(ORIENTATION.into()))
        .find_map(|entry| tiff.number(entry))
}

/// EXIF data: a TIFF file.
struct Tiff<'a> {
    data: &'a [u8],
    big_endian: bool,
}

impl<'a> Tiff<'a> {
    fn new(exif: &'a [u8]) -> Option<Self> {
        // Some writers put JPEG's prefix twice, or keep it in WebP.
        let prefix = b"Exif\0\0";
        let once = exif.strip_prefix(prefix).unwrap_or(exif);
        let data = once.strip_prefix(prefix).unwrap_or(once);
        match data.get(..4)? {
            b"II\x2a\0" | b"II\0\x2a" => Some(Self { data, big_endian: false }),
            b"MM\0\x2a" | b"MM\x2a\0" => Some(Self { data, big_endian: true }),
            _ => None,
        }
    }

    fn bytes(&self, at: usize, length: usize) -> Option<&'a [u8]> {
        self.data.get(at..at.checked_add(length)?)
    }

    fn unsigned(&self, at: usize, length: usize) -> Option<u64> {
        let bytes = self.bytes(at, length)?;
        let append = |number, byte: &u8| (number << 8) | u64::from(*byte);
        Some(if self.big_endian { bytes.iter().fold(0, append) } else { bytes.iter().rev().fold(0, append) })
    }

    /// The first value of an entry: `None` if there is none, `Some(None)` if it is not a positive whole number.
    fn number(&self, entry: usize) -> Option<Option<u64>> {
        let (kind, count) = (self.unsigned(entry + 2, 2)?, self.unsigned(entry + 4, 4)?);
        let value_bytes: usize = match kind {
            // BYTE, ASCII, SBYTE, UNDEFINED; SHORT, SSHORT; LONG, SLONG, FLOAT, IFD; RATIONAL, SRATIONAL, DOUBLE, LONG8.
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16 => 8,
            _ => return None,
        };
        let total = usize::try_from(count).ok()?.checked_mul(value_bytes)?;
        let at = if total <= 4 { entry + 8 } else { usize::try_from(self.unsigned(entry + 8, 4)?).ok()? };
        self.bytes(at, total).filter(|bytes| !bytes.is_empty())?;
        let whole = |number: f64| (number.fract() == 0.0 && number > 0.0).then_some(number as u64);
        Some(match kind {
            // Pillow reads these as bytes and text, which are not orientations.
            1 | 2 | 7 => None,
            5 | 10 => {
                let (dividend, divisor) = (self.unsigned(at, 4)?, self.unsigned(at + 4, 4)?);
                dividend.checked_rem(divisor).filter(|&rest| rest == 0).map(|_| dividend / divisor)
            }
            11 => whole(f32::from_bits(self.unsigned(at, 4)? as u32).into()),
            12 => whole(f64::from_bits(self.unsigned(at, 8)?)),
            _ => Some(self.unsigned(at, value_bytes)?),
        })
    }
}

/// The digit after the first `tiff:Orientation="` or `tiff:Orientation>`.
fn in_xmp(xmp: &[u8]) -> Option<u64> {
    let name = b"tiff:Orientation";
    let after = |at: usize| {
        let rest = &xmp[at + name.len()..];
        rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?.first().filter(|digit| digit.is_ascii_digit())
    };
    let digit =
        xmp.windows(name.len()).enumerate().filter(|(_, window)| window == name).find_map(|(at, _)| after(at))?;
    Some(u64::from(digit - b'0'))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// EXIF data whose directory has these entries (tag, type, count, four bytes), and `extra` after it, at offset 26 for
    /// one entry.
    pub(crate) fn exif(entries: &[(u16, u16, u32, [u8; 4])], extra: &[u8], big_endian: bool) -> Vec<u8> {
        let short = |n: u16| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
        let long = |n: u32| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
        let mut bytes = if big_endian { b"MM\0\x2a".to_vec() } else { b"II\x2a\0".to_vec() };
        bytes.extend([&long(8)[..], &short(entries.len() as u16)].concat());
        for (tag, kind, count, value) in entries {
            bytes.extend([&short(*tag)[..], &short(*kind), &long(*count), value].concat());
        }
        bytes.extend([&long(0), extra].concat());
        bytes
    }

    fn little(kind: u16, count: u32, value: [u8; 4], extra: &[u8]) -> Option<u64> {
        orientation(&exif(&[(ORIENTATION, kind, count, value)], extra, false), b"tiff:Orientation=\"3\"")
    }

    #[test]
    fn reads_both_byte_orders_and_skips_the_prefix() {
        let bytes = [
            exif(&[(1, 3, 1, [9; 4]), (ORIENTATION, 3, 1, [6, 0, 0, 0])], &[], false),
            exif(&[(ORIENTATION, 3, 1, [0, 6, 0, 0])], &[], true),
            exif(&[(ORIENTATION, 4, 1, [0, 0, 0, 6])], &[], true),
        ];
        for exif in bytes {
            for prefix in [&b""[..], b"Exif\0\0", b"Exif\0\0Exif\0\0"] {
                assert_eq!(orientation(&[prefix, &exif].concat(), &[]), Some(6));
            }
            assert_eq!(orientation(&[&b"Exif\0\0Exif\0\0Exif\0\0"[..], &exif].concat(), &[]), None);
        }
    }

    /// As Pillow 13 does for each of these.
    #[test]
    fn takes_numbers_of_any_type_as_pillow_does() {
        for kind in [3, 4, 6, 8, 9, 13] {
            assert_eq!(little(kind, 1, [6, 0, 0, 0], &[]), Some(6), "type {kind}");
        }
        let at_26 = [26, 0, 0, 0];
        assert_eq!(little(11, 1, 6f32.to_le_bytes(), &[]), Some(6));
        assert_eq!(little(12, 1, at_26, &6f64.to_le_bytes()), Some(6));
        assert_eq!(little(16, 1, at_26, &6u64.to_le_bytes()), Some(6));
        assert_eq!(little(5, 1, at_26, &[12, 0, 0, 0, 2, 0, 0, 0]), Some(6));
        assert_eq!(little(3, 2, [6, 0, 3, 0], &[]), Some(6));
        assert_eq!(little(3, 3, at_26, &[6, 0, 3, 0, 1, 0]), Some(6));
        for (kind, what) in [(1, "bytes"), (2, "text"), (7, "undefined")] {
            assert_eq!(little(kind, 1, [6, 0, 0, 0], &[]), None, "{what}: and the XMP is not consulted");
        }
        assert_eq!(little(5, 1, at_26, &[12, 0, 0, 0, 0, 0, 0, 0]), None);
        for (kind, count, value) in [(3, 0, [6, 0, 0, 0]), (99, 1, [6, 0, 0, 0]), (3, 9, at_26), (4, u32::MAX, at_26)] {
            assert_eq!(little(kind, count, value, &[]), Some(3), "no entry: the XMP is");
        }
    }

    #[test]
    fn takes_the_first_entry_and_ignores_what_is_not_exif() {
        let entry = |number| (ORIENTATION, 3, 1, [number, 0, 0, 0]);
        assert_eq!(orientation(&exif(&[entry(6), entry(3)], &[], false), &[]), Some(6));
        let valid = exif(&[entry(6)], &[], false);
        for broken in [&b""[..], b"MM", b"II\x2a\0", b"XX\x2a\0\x08\0\0\0\0\0", &valid[..18], &valid[..21]] {
            assert_eq!(orientation(broken, b"<tiff:Orientation>8</tiff:Orientation>"), Some(8), "{broken:?}");
        }
        let mut more = valid.clone();
        more[8..10].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(orientation(&more, &[]), Some(6), "a number of entries that are not there");
    }

    #[test]
    fn reads_xmp() {
        let read = |xmp: &str| orientation(&[], xmp.as_bytes());
        assert_eq!(read("tiff:Orientation='1' tiff:Orientation=\"6\""), Some(6));
        assert_eq!(read("<tiff:Orientation>10<"), Some(1));
        for without in
            ["", "tiff:Orientation", "tiff:Orientation=\"", "tiff:Orientation=\"x\"", "tiff:Orientation =\"6\""]
        {
            assert_eq!(read(without), None, "{without}");
        }
    }
}
