//! Pixels to the model's numbers.

use crate::input::SIDE;

/// Mean of each channel, as a fraction of full brightness (ImageNet).
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Deviation of each channel, likewise.
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// What a level of a channel becomes: the arithmetic of torchvision, done once.
const TABLE: [[f32; 256]; 3] = {
    let mut table = [[0.0; 256]; 3];
    let mut channel = 0;
    while channel < 3 {
        let mut level = 0;
        while level < 256 {
            table[channel][level] = (level as f32 / 255.0 - MEAN[channel]) / DEVIATION[channel];
            level += 1;
        }
        channel += 1;
    }
    table
};

/// RGB `[224, 224, 3]` to `[3, 224, 224]`.
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
    fn each_channel_has_its_plane_mean_and_deviation() {
        let mut pixels = vec![0; crate::input::ELEMENTS];
        pixels[3..6].copy_from_slice(&[255, 128, 1]);
        let mut out = vec![0.0; crate::input::ELEMENTS];
        normalise(&pixels, &mut out);
        let plane = SIDE * SIDE;
        let close = |at: usize, expected: f64| assert!((f64::from(out[at]) - expected).abs() < 1e-6, "{at}");
        close(0, -0.485 / 0.229);
        close(1, (1.0 - 0.485) / 0.229);
        close(plane + 1, (128.0 / 255.0 - 0.456) / 0.224);
        close(2 * plane + 1, (1.0 / 255.0 - 0.406) / 0.225);
        close(3 * plane - 1, -0.406 / 0.225);
    }
}
