//! The amount of work of a lane: requests, images, time in windows.

use std::time::Duration;

/// An amount of work, for progress and `--dry-run`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Serial requests, including the minimum of warm-up.
    pub requests: usize,
    /// Images in these requests.
    pub images: usize,
    /// Time in windows, including ramps.
    pub windows: Duration,
}

impl Effort {
    /// Its duration if one image takes `image`.
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
