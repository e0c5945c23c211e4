//! Compares the outputs of the lanes before anything is timed.

use crate::model::{
    lane::Lane,
    outputs::{Comparison, NoOutputs, Output, PairAgreement},
    precision::Precision,
};

/// The rows of one output: one for each photograph.
pub type Rows = Vec<Vec<f64>>;

/// A lane's outputs and the precision in which they were computed.
#[derive(Clone, Debug)]
pub struct LaneOutputs {
    /// The lane.
    pub lane: Lane,
    /// The precision that its server states.
    pub precision: Precision,
    /// The outputs for all requests.
    pub outputs: Vec<Output>,
}

/// Compares every pair of lanes.
pub fn compare(outputs: &[LaneOutputs], missing: Vec<NoOutputs>) -> Comparison {
    let pairs: Vec<PairAgreement> =
        outputs.iter().enumerate().flat_map(|(i, a)| outputs[i + 1..].iter().map(move |b| pair(a, b))).collect();
    let tolerance = pairs.iter().filter_map(|pair| pair.tolerance).fold(Precision::Fp32.tolerance(), f64::max);
    Comparison { tolerance, pairs, missing, payloads: Vec::new() }
}

/// How near outputs are to exact ones for the same images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Nearness {
    /// Share of the images whose largest element is the same.
    pub top1: Option<f64>,
    /// Smallest cosine of two rows.
    pub min_cosine: Option<f64>,
    /// Mean cosine of two rows.
    pub mean_cosine: Option<f64>,
}

/// How near outputs are to the exact ones, which have a row for each image: of several outputs the figures of the one that is
/// the farthest.
pub fn nearness(exact: &[Output], outputs: &[Output]) -> Nearness {
    let of_output = |exact: &Output| {
        let rows = outputs.iter().find(|output| output.name == exact.name).map_or(&[][..], |output| &output.rows);
        let same_shape =
            rows.len() == exact.rows.len() && rows.iter().zip(&exact.rows).all(|(a, b)| a.len() == b.len());
        let finite = rows.iter().chain(&exact.rows).flatten().all(|element| element.is_finite());
        if rows.is_empty() || !same_shape || !finite {
            return Nearness::default();
        }
        let count = rows.len() as f64;
        let pairs = || rows.iter().zip(&exact.rows);
        let cosines: Option<Vec<f64>> = pairs().map(|(a, b)| cosine(a, b)).collect();
        Nearness {
            top1: Some(pairs().filter(|(a, b)| top(a) == top(b)).count() as f64 / count),
            min_cosine: cosines.as_ref().map(|cosines| cosines.iter().copied().fold(1.0, f64::min)),
            mean_cosine: cosines.map(|cosines| cosines.iter().sum::<f64>() / count),
        }
    };
    let figures = exact.iter().map(of_output);
    // An output that cannot be compared is the farthest.
    figures.min_by(|a, b| a.min_cosine.unwrap_or(-2.0).total_cmp(&b.min_cosine.unwrap_or(-2.0))).unwrap_or_default()
}

/// The agreement of the output that differs the most, relative to its scale.
fn pair(a: &LaneOutputs, b: &LaneOutputs) -> PairAgreement {
    let none = Rows::new();
    let rows = |lane: &LaneOutputs, name: &str| lane.outputs.iter().position(|output| output.name == name);
    let mut names: Vec<&str> = a.outputs.iter().chain(&b.outputs).map(|output| output.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let of_output = |name: &&str| {
        let rows = |lane| rows(lane, name).map_or(&none, |at| &lane.outputs[at].rows);
        PairAgreement { output: (names.len() > 1).then(|| (*name).to_owned()), ..agreement(a, b, rows(a), rows(b)) }
    };
    // An output that cannot be compared differs the most.
    let distance = |pair: &PairAgreement| {
        let relative = |difference: f64| if difference > 0.0 { difference / pair.scale } else { 0.0 };
        pair.max_abs_difference.map_or(f64::INFINITY, relative)
    };
    let worst = names.iter().map(of_output).max_by(|x, y| distance(x).total_cmp(&distance(y)));
    worst.unwrap_or_else(|| agreement(a, b, &none, &none))
}

/// How two lanes' rows of one output agree.
fn agreement(a: &LaneOutputs, b: &LaneOutputs, x: &Rows, y: &Rows) -> PairAgreement {
    let elements = || x.iter().chain(y).flatten().copied();
    let scale = elements().map(f64::abs).fold(0.0, f64::max);
    let same_shape = x.len() == y.len() && x.iter().zip(y).all(|(p, q)| p.len() == q.len());
    let comparable = same_shape && elements().all(f64::is_finite);
    let difference = || x.iter().flatten().zip(y.iter().flatten()).map(|(p, q)| (p - q).abs());
    let max_abs_difference = comparable.then(|| difference().fold(0.0, f64::max));
    let cosines: Option<Vec<f64>> = x.iter().zip(y).map(|(p, q)| cosine(p, q)).collect();
    let min_cosine = cosines.filter(|_| comparable).map(|c| c.into_iter().fold(1.0, f64::min));
    let same_top = || x.iter().zip(y).filter(|(p, q)| top(p) == top(q)).count();
    let top1 = (comparable && !x.is_empty()).then(|| same_top() as f64 / x.len() as f64);
    // The less precise of the two decides how far they may be apart.
    let precisions = [a.precision, b.precision];
    let tolerance = a.precision.tolerance().max(b.precision.tolerance());
    let agree = max_abs_difference.is_some_and(|difference| difference <= tolerance * scale);
    let tolerance = Some(tolerance);
    let (a, b, output) = (a.lane, b.lane, None);
    PairAgreement { a, b, output, precisions, tolerance, max_abs_difference, scale, min_cosine, top1, agree }
}

/// The index of the largest element.
fn top(row: &[f64]) -> Option<usize> {
    (0..row.len()).max_by(|&i, &j| row[i].total_cmp(&row[j]))
}

fn cosine(x: &[f64], y: &[f64]) -> Option<f64> {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(a, b)| a * b).sum::<f64>();
    let norms = (dot(x, x) * dot(y, y)).sqrt();
    (norms > 0.0).then(|| dot(x, y) / norms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outputs(lane: Lane, precision: Precision, rows: Rows) -> LaneOutputs {
        LaneOutputs { lane, precision, outputs: vec![Output { name: "y".into(), rows }] }
    }

    fn agreement(x: Rows, y: Rows) -> PairAgreement {
        agreement_in([Precision::Fp32; 2], x, y)
    }

    fn agreement_in([p, q]: [Precision; 2], x: Rows, y: Rows) -> PairAgreement {
        compare(&[outputs(Lane::JPEG, p, x), outputs(Lane::ONNX_HTTP, q, y)], Vec::new()).pairs.remove(0)
    }

    #[test]
    fn nearness_is_that_of_the_farthest_output() {
        let output = |name: &str, rows: &[[f64; 2]]| Output {
            name: name.into(),
            rows: rows.iter().map(|row| row.to_vec()).collect(),
        };
        let exact = [output("a", &[[1.0, 0.0], [0.0, 2.0]]), output("b", &[[1.0, 1.0], [1.0, 1.0]])];
        let near = [output("b", &[[1.0, 1.0], [1.0, 1.0]]), output("a", &[[1.0, 0.0], [3.0, 0.0]])];
        let found = nearness(&exact, &near);
        assert_eq!(found, Nearness { top1: Some(0.5), min_cosine: Some(0.0), mean_cosine: Some(0.5) });
        assert_eq!(nearness(&exact, &exact).top1, Some(1.0));
        assert_eq!(nearness(&exact, &near[..1]), Nearness::default(), "an output is missing");
        assert_eq!(nearness(&[], &[]), Nearness::default());
    }

    #[test]
    fn five_lanes_make_ten_pairs() {
        let outputs: Vec<_> =
            Lane::ALL.into_iter().map(|lane| outputs(lane, Precision::Fp32, vec![vec![1.0, -2.0]])).collect();
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

    /// On a GPU, products in TF32 and FP16 differ from FP32 by more than 0.1 %.
    #[test]
    fn the_tolerance_follows_the_less_precise_lane() {
        use Precision::{Bf16, Fp16, Fp32, Int8, Tf32};
        let agree = |precisions| agreement_in(precisions, vec![vec![10.0, 0.5]], vec![vec![10.0, 0.55]]).agree;
        assert!(!agree([Fp32, Fp32]), "0.5 % are too much for FP32");
        for less in [Tf32, Fp16, Bf16, Int8] {
            assert!(agree([Fp32, less]) && agree([less, Fp32]), "{less}");
        }
        let pair = agreement_in([Fp32, Fp16], vec![vec![10.0, 0.5]], vec![vec![10.0, 0.7]]);
        assert_eq!((pair.agree, pair.tolerance, pair.precisions), (false, Some(1e-2), [Fp32, Fp16]));
    }

    #[test]
    fn the_top_elements_are_compared() {
        let pair = agreement(vec![vec![1.0, 2.0], vec![3.0, 1.0]], vec![vec![1.0, 2.0], vec![1.0, 3.0]]);
        assert_eq!(pair.top1, Some(0.5));
        assert_eq!(agreement(vec![vec![1.0]], vec![vec![1.0, 2.0]]).top1, None);
    }

    #[test]
    fn unequal_shapes_and_non_numbers_do_not_agree() {
        assert!(!agreement(vec![vec![1.0]], vec![vec![1.0, 2.0]]).agree);
        assert!(!agreement(vec![vec![1.0]], vec![vec![1.0], vec![1.0]]).agree);
        assert!(!agreement(vec![vec![f64::NAN]], vec![vec![f64::NAN]]).agree);
    }

    /// A small output that differs is not hidden by a large one that agrees.
    #[test]
    fn each_output_is_compared_by_its_own_scale() {
        let lane = |lane, small: f64| LaneOutputs {
            lane,
            precision: Precision::Fp32,
            outputs: [("large", 1e6), ("small", small)]
                .map(|(name, value)| Output { name: name.into(), rows: vec![vec![value]] })
                .to_vec(),
        };
        let compared =
            |x, y| compare(&[lane(Lane::ONNX_HTTP, x), lane(Lane::ONNX_GRPC, y)], Vec::new()).pairs.remove(0);
        assert!(compared(1.0, 1.0).agree);
        let pair = compared(1.0, 1.1);
        assert_eq!((pair.agree, pair.output.as_deref(), pair.scale), (false, Some("small"), 1.1));
        let mut missing = [lane(Lane::ONNX_HTTP, 1.0), lane(Lane::ONNX_GRPC, 1.0)];
        missing[1].outputs.pop();
        let pair = compare(&missing, Vec::new()).pairs.remove(0);
        assert_eq!((pair.agree, pair.output.as_deref()), (false, Some("small")));
    }

    proptest! {
        #[test]
        fn a_lane_agrees_with_itself(rows in proptest::collection::vec(proptest::collection::vec(-1e3_f64..1e3, 8), 1..5)) {
            let pair = agreement(rows.clone(), rows);
            prop_assert!(pair.agree);
            prop_assert_eq!(pair.max_abs_difference, Some(0.0));
            prop_assert_eq!(pair.top1, Some(1.0));
        }
    }
}
