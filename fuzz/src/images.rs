//! Images: decoded, oriented, resized and cropped, within the limit of pixels.

use std::cell::RefCell;

use quintet_preprocess::{ELEMENTS, to_pixels, to_tensor};

/// Small, so that a run takes microseconds.
const MAX_PIXELS: u64 = 256 * 256;

thread_local! {
    static PIXELS: RefCell<Vec<u8>> = RefCell::new(vec![0; ELEMENTS]);
    static TENSOR: RefCell<Vec<f32>> = RefCell::new(vec![0.0; ELEMENTS]);
}

pub(crate) fn run(bytes: &[u8]) {
    let pixels = PIXELS.with_borrow_mut(|pixels| to_pixels(bytes, MAX_PIXELS, pixels));
    // Resizing takes most of the time: not every image is resized twice.
    if pixels.is_err() || !bytes.len().is_multiple_of(8) {
        return;
    }
    // The same image again gives the same pixels, as numbers within the range of the normalisation.
    TENSOR.with_borrow_mut(|tensor| {
        assert_eq!(to_tensor(bytes, MAX_PIXELS, tensor), Ok(()));
        assert!(tensor.iter().all(|value| (-3.0..3.0).contains(value)), "a value that no pixel has");
        let (means, deviations) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        PIXELS.with_borrow(|pixels| {
            for at in [0, ELEMENTS / 2, ELEMENTS - 3] {
                let (pixel, channel) = (at / 3, at % 3);
                let value = tensor[channel * (ELEMENTS / 3) + pixel] * deviations[channel] + means[channel];
                assert!((value * 255.0 - f32::from(pixels[at])).abs() < 0.01, "other pixels");
            }
        });
    });
}
