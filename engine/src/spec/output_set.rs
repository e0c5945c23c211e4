//! A set of a model's outputs.

/// A set of outputs, e.g. those that a request wants, as indices into [`ModelSpec::outputs`](super::ModelSpec::outputs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputSet(u64);

impl OutputSet {
    /// The largest number of outputs of a model.
    pub const MAX_OUTPUTS: usize = 64;

    /// No output.
    pub const NONE: Self = Self(0);

    /// The first `count` outputs, at most [`Self::MAX_OUTPUTS`].
    pub fn all(count: usize) -> Self {
        Self(if count >= Self::MAX_OUTPUTS { u64::MAX } else { (1 << count) - 1 })
    }

    /// This set with one more output.
    pub fn with(self, index: usize) -> Self {
        Self(self.0 | 1 << (index % Self::MAX_OUTPUTS))
    }

    /// The outputs of either set.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set as bits, the first output's lowest.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// Whether the output is in the set.
    pub fn contains(self, index: usize) -> bool {
        index < Self::MAX_OUTPUTS && self.0 >> index & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_sets() {
        let set = OutputSet::NONE.with(0).with(63);
        assert!(set.contains(0) && set.contains(63) && !set.contains(1) && !set.contains(64));
        assert!(OutputSet::all(64).contains(63));
        assert_eq!(OutputSet::all(2), OutputSet::NONE.with(0).with(1));
        assert_eq!(OutputSet::all(0), OutputSet::NONE);
    }
}
