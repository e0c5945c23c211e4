//! Compares the outputs of the lanes before anything is timed.

use crate::model::{
    lane::Lane,
    outputs::{Comparison, NoOutputs, PairAgreement},
};

/// Largest difference, relative to the largest element, at which two lanes still agree.
pub const TOLERANCE: f64 = 1e-3;

/// One lane's outputs: a row for each photograph.
pub type Outputs = Vec<Vec<f32>>;

/// Compares every pair of lanes.
pub fn compare(outputs: &[(Lane, Outputs)], missing: Vec<NoOutputs>) -> Comparison {
    let pairs = outputs
        .iter()
        .enumerate()
        .flat_map(|(i, (a, x))| outputs[i + 1..].iter().map(move |(b, y)| pair(*a, x, *b, y)))
        .collect();
    Comparison { tolerance: TOLERANCE, pairs, missing }
}

fn pair(a: Lane, x: &Outputs, b: Lane, y: &Outputs) -> PairAgreement {
    let elements = || x.iter().chain(y).flatten().map(|&e| f64::from(e));
    let scale = elements().map(f64::abs).fold(0.0, f64::max);
    let same_shape = x.len() == y.len() && x.iter().zip(y).all(|(p, q)| p.len() == q.len());
    let comparable = same_shape && elements().all(f64::is_finite);
    let difference = || x.iter().flatten().zip(y.iter().flatten()).map(|(p, q)| f64::from(p - q).abs());
    let max_abs_difference = comparable.then(|| difference().fold(0.0, f64::max));
    let cosines: Option<Vec<f64>> = x.iter().zip(y).map(|(p, q)| cosine(p, q)).collect();
    let min_cosine = cosines.filter(|_| comparable).map(|c| c.into_iter().fold(1.0, f64::min));
    let agree = max_abs_difference.is_some_and(|difference| difference <= TOLERANCE * scale);
    PairAgreement { a, b, max_abs_difference, scale, min_cosine, agree }
}

fn cosine(x: &[f32], y: &[f32]) -> Option<f64> {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let norms = (dot(x, x) * dot(y, y)).sqrt();
    (norms > 0.0).then(|| dot(x, y) / norms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agreement(x: Outputs, y: Outputs) -> PairAgreement {
        compare(&[(Lane::JPEG, x), (Lane::ONNX_HTTP, y)], Vec::new()).pairs.remove(0)
    }

    #[test]
    fn five_lanes_make_ten_pairs() {
        let outputs: Vec<_> = Lane::ALL.into_iter().map(|lane| (lane, vec![vec![1.0, -2.0]])).collect();
        let comparison = compare(&outputs, Vec::new());
        assert_eq!(comparison.pairs.len(), 10);
        assert!(comparison.pairs.iter().all(|pair| pair.agree));
    }

    #[test]
    fn the_tolerance_is_relative_to_the_largest_element() {
        let reference = vec![vec![100.0, 0.5]];
        assert!(agreement(reference.clone(), vec![vec![100.0, 0.59]]).agree);
        let pair = agreement(reference, vec![vec![100.0, 0.7]]);
        assert!(!pair.agree && pair.max_abs_difference.unwrap() > 0.19);
        assert!(pair.min_cosine.unwrap() > 0.99999, "the cosine alone would not show it");
    }

    #[test]
    fn unequal_shapes_and_non_numbers_do_not_agree() {
        assert!(!agreement(vec![vec![1.0]], vec![vec![1.0, 2.0]]).agree);
        assert!(!agreement(vec![vec![1.0]], vec![vec![1.0], vec![1.0]]).agree);
        assert!(!agreement(vec![vec![f32::NAN]], vec![vec![f32::NAN]]).agree);
    }

    proptest! {
        #[test]
        fn a_lane_agrees_with_itself(rows in proptest::collection::vec(proptest::collection::vec(-1e3_f32..1e3, 8), 1..5)) {
            let pair = agreement(rows.clone(), rows);
            prop_assert!(pair.agree);
            prop_assert_eq!(pair.max_abs_difference, Some(0.0));
        }
    }
}
