//! Writes pixels as the model takes them: in its layout and order of channels, and as its numbers.

use crate::recipe::{Layout, Levels, Recipe};

/// Converts RGB `[height, width, 3]` to the recipe's layout and channels, with `number` for each level of a channel.
fn arrange<T>(recipe: &Recipe, pixels: &[u8], out: &mut [T], number: impl Fn(usize, u8) -> T) {
    let order = recipe.color_order.indices();
    match recipe.layout {
        Layout::Chw => {
            let planes = out.chunks_exact_mut((recipe.height * recipe.width).max(1));
            for (channel, (plane, source)) in planes.zip(order).enumerate() {
                for (value, pixel) in plane.iter_mut().zip(pixels.as_chunks::<3>().0) {
                    *value = number(channel, pixel[source]);
                }
            }
        }
        Layout::Hwc => {
            for (values, pixel) in out.as_chunks_mut::<3>().0.iter_mut().zip(pixels.as_chunks::<3>().0) {
                for (channel, (value, source)) in values.iter_mut().zip(order).enumerate() {
                    *value = number(channel, pixel[source]);
                }
            }
        }
    }
}

/// Converts RGB `[height, width, 3]` to numbers.
pub(crate) fn normalise(recipe: &Recipe, levels: &Levels, pixels: &[u8], out: &mut [f32]) {
    arrange(recipe, pixels, out, |channel, level| levels.0[channel][usize::from(level)]);
}

/// Converts RGB `[height, width, 3]` to the recipe's layout and channels.
pub(crate) fn rearrange(recipe: &Recipe, pixels: &[u8], out: &mut [u8]) {
    arrange(recipe, pixels, out, |_, level| level);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        input::{ELEMENTS, SIDE},
        recipe::ColorOrder,
    };

    #[test]
    fn normalises_each_channel_into_its_plane() {
        let mut pixels = vec![0; ELEMENTS];
        pixels[3..6].copy_from_slice(&[255, 128, 1]);
        let mut out = vec![0.0; ELEMENTS];
        normalise(&Recipe { layout: Layout::Chw, ..Recipe::TORCHVISION }, &Levels::IMAGENET, &pixels, &mut out);
        let plane = SIDE * SIDE;
        let check = |index: usize, expected: f64| assert!((f64::from(out[index]) - expected).abs() < 1e-6, "{index}");
        check(0, -0.485 / 0.229);
        check(1, (1.0 - 0.485) / 0.229);
        check(plane + 1, (128.0 / 255.0 - 0.456) / 0.224);
        check(2 * plane + 1, (1.0 / 255.0 - 0.406) / 0.225);
        check(3 * plane - 1, -0.406 / 0.225);
    }

    #[test]
    fn means_are_in_the_order_of_the_models_channels() {
        let recipe =
            Recipe { height: 1, width: 2, layout: Layout::Chw, color_order: ColorOrder::Bgr, ..Recipe::TORCHVISION };
        let (pixels, mut out, mut bytes) = ([10, 20, 30, 40, 50, 60], [0.0; 6], [0; 6]);
        normalise(&recipe, &Levels::new(1.0, [30.0, 20.0, 10.0], [2.0, 1.0, 1.0]), &pixels, &mut out);
        assert_eq!(out, [0.0, 15.0, 0.0, 30.0, 0.0, 30.0]);
        rearrange(&recipe, &pixels, &mut bytes);
        assert_eq!(bytes, [30, 60, 20, 50, 10, 40]);
        rearrange(&Recipe { layout: Layout::Hwc, ..recipe }, &pixels, &mut bytes);
        assert_eq!(bytes, [30, 20, 10, 60, 50, 40]);
    }
}
