//! Memory for pixels that a decoder fills.

/// Makes `pixels` as many zeros, so that pixels of the previous image never remain if a decoder skips some. New memory is zeros
/// already, and is not written twice.
pub(super) fn clear(pixels: &mut Vec<u8>, size: usize) {
    if pixels.capacity() < size {
        *pixels = vec![0; size];
    } else {
        pixels.clear();
        pixels.resize(size, 0);
    }
}
