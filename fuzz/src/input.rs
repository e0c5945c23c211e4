//! A fuzzer's bytes as choices: the first ones decide how the rest is sent.

/// The bytes that no choice has taken.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte; 0 at the end.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// The next two bytes as a number, the high byte first.
    pub(crate) fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// The next `length` bytes, or all that are left.
    pub(crate) fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Sizes of pieces: `0` for everything at once, otherwise a repeatable series of small numbers.
pub(crate) struct Pieces(u8, u32);

impl Pieces {
    pub(crate) fn new(seed: u8) -> Self {
        Self(seed, u32::from(seed))
    }

    /// The size of the next piece; at least 1.
    pub(crate) fn next(&mut self) -> usize {
        match self.0 {
            0 => usize::MAX,
            1 => 1,
            _ => {
                // A linear congruential generator (Numerical Recipes).
                self.1 = self.1.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Mostly a few bytes, now and then many.
                let bits = (self.1 >> 28) % 11;
                1 + (self.1 >> 8) as usize % (1 << bits)
            }
        }
    }
}
