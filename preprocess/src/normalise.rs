//! Normalises pixels as torchvision does.

use crate::input::SIDE;

/// ImageNet's mean of each channel, for pixels between 0 and 1.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's standard deviation of each channel, for pixels between 0 and 1.
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// The normalised value of each level of each channel.
const TABLE: [[f32; 256]; 3] = {
    let mut table = [[0.0; 256]; 3];
    let mut channel = 0;
    while channel < 3 {
        let mut level = 0;
        while level < 256 {
            table[channel][level] = (level as f32 / 255.0 - MEAN[channel]) / STD[channel];
            level += 1;
        }
        channel += 1;
    }
    table
};

/// Converts RGB `[224, 224, 3]` to normalised `[3, 224, 224]`.
pub(crate) fn normalise(pixels: &[u8], out: &mut [f32]) {
    for (channel, (plane, table)) in out.chunks_exact_mut(SIDE * SIDE).zip(&TABLE).enumerate() {
        for (value, pixel) in plane.iter_mut().zip(pixels.chunks_exact(3)) {
            *value = table[usize::from(pixel[channel])];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_each_channel_into_its_plane() {
        let mut pixels = vec![0; crate::input::ELEMENTS];
        pixels[3..6].copy_from_slice(&[255, 128, 1]);
        let mut out = vec![0.0; crate::input::ELEMENTS];
        normalise(&pixels, &mut out);
        let plane = SIDE * SIDE;
        let check = |index: usize, expected: f64| assert!((f64::from(out[index]) - expected).abs() < 1e-6, "{index}");
        check(0, -0.485 / 0.229);
        check(1, (1.0 - 0.485) / 0.229);
        check(plane + 1, (128.0 / 255.0 - 0.456) / 0.224);
        check(2 * plane + 1, (1.0 / 255.0 - 0.406) / 0.225);
        check(3 * plane - 1, -0.406 / 0.225);
    }
}
