//! The size of ResNet's input.

/// Side of the model's square input, in pixels.
pub const SIDE: usize = 224;
/// Elements of one image's tensor `[3, 224, 224]`.
pub const ELEMENTS: usize = 3 * SIDE * SIDE;
