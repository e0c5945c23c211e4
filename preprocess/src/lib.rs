//! Encoded image to model input.
