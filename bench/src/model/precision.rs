//! The precision that a model computes in, and how far its outputs may be off.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The precision that a model computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Precision {
    /// 32 bits. Also assumed if the server states none.
    #[default]
    Fp32,
    /// 32 bits, of which products keep 10 bits after the point.
    Tf32,
    /// 16 bits.
    Fp16,
    /// 16 bits, 7 of them after the point.
    Bf16,
    /// 8 bits, with a scale for each tensor or channel.
    Int8,
}

impl Precision {
    /// All precisions, from the most to the least precise.
    pub const ALL: [Self; 5] = [Self::Fp32, Self::Tf32, Self::Fp16, Self::Bf16, Self::Int8];

    /// The name that servers state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "FP32",
            Self::Tf32 => "TF32",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Int8 => "INT8",
        }
    }

    /// Largest difference of two outputs, relative to the largest element, at which they still agree. For FP32 it allows
    /// for other kernels and other preprocessing libraries; for less it is 20 units of rounding (2⁻¹¹ with 10 bits after
    /// the point, 2⁻⁸ with 7), because the errors of the layers add up. INT8 rounds to the scale of a whole tensor or
    /// channel: the logits of ResNet-18 to 152 with random weights differ from FP32 by 0.06 to 0.19 (docs/models.md).
    pub fn tolerance(self) -> f64 {
        match self {
            Self::Fp32 => 1e-3,
            Self::Tf32 | Self::Fp16 => 1e-2,
            Self::Bf16 => 8e-2,
            Self::Int8 => 2e-1,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = |precision: &Self| precision.name().eq_ignore_ascii_case(text.trim());
        Self::ALL.into_iter().find(named).ok_or_else(|| format!("`{text}` is not a precision"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_precision_has_no_smaller_tolerance() {
        assert!(Precision::ALL.is_sorted_by(|a, b| a.tolerance() <= b.tolerance()));
        for precision in Precision::ALL {
            assert_eq!(precision.name().to_lowercase().parse(), Ok(precision));
        }
        assert!("FP8".parse::<Precision>().is_err());
    }
}
