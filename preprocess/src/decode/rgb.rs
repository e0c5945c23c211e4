//! Converts decoded samples to 8-bit RGB as Pillow's `convert("RGB")` does.

/// Converts samples of `channels` channels (1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha), each of `sample_bytes`
/// bytes in the machine's byte order, to RGB: grey is repeated, alpha is dropped, and of 16 bits the high byte is kept.
pub(super) fn from_samples(samples: &[u8], channels: usize, sample_bytes: usize, pixels: &mut Vec<u8>) {
    let high = if cfg!(target_endian = "little") { sample_bytes - 1 } else { 0 };
    let rgb = if channels < 3 { [high; 3] } else { [high, sample_bytes + high, 2 * sample_bytes + high] };
    pixels.clear();
    pixels.extend(samples.chunks_exact(channels * sample_bytes).flat_map(|pixel| rgb.map(|offset| pixel[offset])));
}

/// Converts CMYK as Adobe stores it in a JPEG, inverted (255 is no ink), to RGB. The arithmetic is that of Pillow's
/// `cmyk2rgb`.
pub(super) fn from_inverted_cmyk(samples: &[u8], pixels: &mut Vec<u8>) {
    let multiply = |a: u8, b: u8| {
        let product = u32::from(a) * u32::from(b) + 128;
        (((product >> 8) + product) >> 8) as u8
    };
    pixels.clear();
    pixels.extend(samples.as_chunks().0.iter().flat_map(|&[cyan, magenta, yellow, black]: &[u8; 4]| {
        [cyan, magenta, yellow].map(|ink| black.saturating_sub(multiply(255 - ink, black)))
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_every_kind_of_sample() {
        let rgb = |channels, sample_bytes, samples: &[u8]| {
            let mut pixels = vec![9; 7];
            from_samples(samples, channels, sample_bytes, &mut pixels);
            pixels
        };
        let wide = |samples: &[u16]| samples.iter().flat_map(|sample| sample.to_ne_bytes()).collect::<Vec<_>>();
        assert_eq!(rgb(1, 1, &[1, 2]), [1, 1, 1, 2, 2, 2]);
        assert_eq!(rgb(2, 1, &[1, 2]), [1, 1, 1]);
        assert_eq!(rgb(3, 1, &[1, 2, 3]), [1, 2, 3]);
        assert_eq!(rgb(4, 1, &[1, 2, 3, 4]), [1, 2, 3]);
        assert_eq!(rgb(1, 2, &wide(&[0x0102])), [1, 1, 1]);
        assert_eq!(rgb(2, 2, &wide(&[0x0102, 0x0304])), [1, 1, 1]);
        assert_eq!(rgb(3, 2, &wide(&[0x0102, 0x0304, 0x0506])), [1, 3, 5]);
        assert_eq!(rgb(4, 2, &wide(&[0x0102, 0x0304, 0x0506, 0x0708])), [1, 3, 5]);
    }

    #[test]
    fn converts_inverted_cmyk() {
        let mut pixels = Vec::new();
        from_inverted_cmyk(&[255, 255, 255, 255, 0, 255, 255, 255, 255, 0, 128, 128, 9, 9, 9, 0], &mut pixels);
        assert_eq!(pixels, [255, 255, 255, 0, 255, 255, 128, 0, 64, 0, 0, 0]);
    }
}
