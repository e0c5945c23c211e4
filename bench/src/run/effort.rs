//! The work ahead of a lane: requests, images, time in windows.

use std::time::Duration;

/// What a lane has ahead of it: for progress and `--dry-run`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Requests sent one after the other, warm-up included.
    pub requests: usize,
    /// Images in those.
    pub images: usize,
    /// Time in concurrent windows, ramps included.
    pub windows: Duration,
}

impl Effort {
    /// How long it takes when one image takes `image`.
    pub fn at(self, image: Duration) -> Duration {
        self.windows + image.mul_f64(self.images as f64)
    }
}

impl std::ops::AddAssign for Effort {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.images += other.images;
        self.windows += other.windows;
    }
}
