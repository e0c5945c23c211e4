//! Generates weights from a seed: the same bytes on every machine, and different outputs for different images.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore as _, SeedableRng as _},
};
use sha2::{Digest as _, Sha256};

use super::Weights;
use crate::arch::{Arch, CLASSES};

impl Weights {
    /// Random weights that depend on `arch` and `seed` only.
    ///
    /// - Filters and the linear layer are uniform with He's variance, 2 / fan-in (He et al. 2015). All except the
    ///   stem's are then shifted to a sum of zero: after a ReLU all channels have a positive mean, and
    ///   without the shift this mean would outgrow the difference between two images (Brock et al. 2021,
    ///   "Characterizing signal propagation", section 4).
    /// - Batch norm has scales and variances near 1, shifts and means near 0, none of them exactly so. The scales of
    ///   the last batch norm of a block are multiplied by 2/sqrt(blocks), so that the sum of all residual branches
    ///   stays of order 1 at depth 152.
    ///
    /// Each tensor has its own ChaCha8 stream. Only integer arithmetic and correctly rounded floating-point operations
    /// are used, so the result does not depend on a mathematics library.
    pub fn from_seed(arch: Arch, seed: u64) -> Self {
        let network = arch.network();
        let branch_scale = 2.0 / (network.blocks.len() as f64).sqrt();
        let mut weights = Self { arch, source: format!("seed {seed}"), tensors: Default::default() };
        let mut put = |name: String, values: Vec<f32>| weights.tensors.insert(name, values);

        for conv in network.convs() {
            let name = format!("{}.weight", conv.name);
            let fan_in = conv.inputs * conv.kernel * conv.kernel;
            let mut filters = he(seed, &name, conv.outputs, fan_in);
            if *conv != network.stem {
                centre(&mut filters, fan_in);
            }
            put(name, filters);

            let ends_branch = network.blocks.iter().any(|block| block.convs.last() == Some(conv));
            let scale = if ends_branch { branch_scale } else { 1.0 };
            for (part, low, high) in [
                ("weight", 0.75 * scale, 1.25 * scale),
                ("bias", -0.05, 0.05),
                ("running_mean", -0.05, 0.05),
                ("running_var", 0.75, 1.25),
            ] {
                let name = format!("{}.{part}", conv.norm);
                let values = uniform(seed, &name, conv.outputs, low, high);
                put(name, values);
            }
        }
        let mut linear = he(seed, "fc.weight", CLASSES, network.features);
        centre(&mut linear, network.features);
        put("fc.weight".into(), linear);
        put("fc.bias".into(), uniform(seed, "fc.bias", CLASSES, -0.1, 0.1));
        weights
    }
}

/// `rows` rows of `fan_in` weights of variance 2 / `fan_in`.
fn he(seed: u64, name: &str, rows: usize, fan_in: usize) -> Vec<f32> {
    // A uniform distribution over [-b, b) has variance b^2 / 3.
    let bound = (6.0 / fan_in as f64).sqrt();
    uniform(seed, name, rows * fan_in, -bound, bound)
}

/// Shifts each row of `fan_in` weights to a sum of zero.
fn centre(weights: &mut [f32], fan_in: usize) {
    for row in weights.chunks_exact_mut(fan_in) {
        let mean = row.iter().copied().map(f64::from).sum::<f64>() / fan_in as f64;
        for weight in row {
            *weight = (f64::from(*weight) - mean) as f32;
        }
    }
}

/// `count` values uniform in [low, high).
fn uniform(seed: u64, name: &str, count: usize, low: f64, high: f64) -> Vec<f32> {
    let key: [u8; 32] = Sha256::digest(format!("quintet-models/{seed}/{name}")).into();
    let mut stream = ChaCha8Rng::from_seed(key);
    (0..count)
        .map(|_| {
            let unit = f64::from(stream.next_u32()) / (f64::from(u32::MAX) + 1.0);
            (low + unit * (high - low)) as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_bytes() {
        let weights = Weights::from_seed(Arch::ResNet18, 0);
        let mut hash = Sha256::new();
        for (name, values) in &weights.tensors {
            hash.update(name);
            values.iter().for_each(|value| hash.update(value.to_le_bytes()));
        }
        let digest: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        // If this changes, the reference outputs in models/reference must be made again.
        assert_eq!(digest, "f0b99382deb3da7a2fb311543511cfefd07930ec0adc2667fd20a7b462a69abd");
        assert_ne!(weights, Weights::from_seed(Arch::ResNet18, 1));
    }

    #[test]
    fn filters_have_he_variance_and_sum_to_zero() {
        let weights = Weights::from_seed(Arch::ResNet50, 7);
        let filters = weights.tensor("layer3.1.conv2.weight").unwrap();
        let fan_in = 256 * 9;
        let mean_square = filters.iter().map(|w| w * w).sum::<f32>() / filters.len() as f32;
        assert!((mean_square * fan_in as f32 / 2.0 - 1.0).abs() < 0.01);
        for filter in filters.chunks_exact(fan_in) {
            assert!(filter.iter().sum::<f32>().abs() < 1e-4);
        }
    }
}
