//! The range of a tensor's values, and the integers that stand for them.

/// The range of a tensor's values. It always includes 0, which padding and ReLU need exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Range {
    /// At most 0.
    pub(super) min: f32,
    /// At least 0.
    pub(super) max: f32,
}

impl Range {
    /// Extends the range by these values. False if one of them is not finite.
    pub(super) fn extend(&mut self, values: &[f32]) -> bool {
        let mut is_finite = true;
        for &value in values {
            is_finite &= value.is_finite();
            self.min = self.min.min(value);
            self.max = self.max.max(value);
        }
        is_finite
    }

    /// The step between two of the 256 levels, and the level that stands for 0:
    /// value = (level - zero point) * scale (ONNX, QuantizeLinear).
    pub(super) fn scale_and_zero_point(self) -> (f32, u8) {
        let scale = (self.max - self.min) / f32::from(u8::MAX);
        if scale < f32::MIN_POSITIVE {
            // A tensor of zeros: any scale represents it.
            return (1.0, 0);
        }
        // A conversion to an integer saturates.
        (scale, (-self.min / scale).round() as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_a_level_and_the_ends_are_at_most_half_a_step_away() {
        for (min, max) in [(0.0, 6.0), (-2.118, 2.64), (-3.0, 0.0), (-0.001, 1000.0)] {
            let mut range = Range::default();
            assert!(range.extend(&[min, max]));
            let (scale, zero_point) = range.scale_and_zero_point();
            let value = |level: u8| (f32::from(level) - f32::from(zero_point)) * scale;
            assert!((value(0) - min).abs() <= 0.5001 * scale, "{min} {max}: {}", value(0));
            assert!((value(255) - max).abs() <= 0.5001 * scale, "{min} {max}: {}", value(255));
        }
    }

    #[test]
    fn zeros_have_a_scale_and_values_that_are_not_finite_are_found() {
        assert_eq!(Range::default().scale_and_zero_point(), (1.0, 0));
        assert!(!Range::default().extend(&[1.0, f32::NAN]));
        assert!(!Range::default().extend(&[f32::INFINITY]));
    }
}
