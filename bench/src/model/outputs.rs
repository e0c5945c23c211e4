//! The comparison of the lanes' outputs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{encoding::Encoding, lane::Lane, precision::Precision};

/// An output of a lane for all its requests: a row for each image, or each first index of the tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Its elements as numbers.
    pub rows: Vec<Vec<f64>>,
}

/// How two lanes' outputs for the same requests differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PairAgreement {
    /// One lane.
    pub a: Lane,
    /// The other.
    pub b: Lane,
    /// The output that is compared: of several, the one that differs the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The precisions that the servers of both state; FP32 if one states none.
    #[serde(default)]
    pub precisions: [Precision; 2],
    /// Largest difference, relative to the scale, at which they agree; `None` (null) in older reports.
    #[serde(default)]
    pub tolerance: Option<f64>,
    /// Largest absolute difference of two elements; `None` when the shapes differ or an element is not finite.
    pub max_abs_difference: Option<f64>,
    /// Largest absolute element of both lanes.
    pub scale: f64,
    /// Smallest cosine of two rows; `None` as above, or for a row of zeros.
    pub min_cosine: Option<f64>,
    /// Share of the photographs whose largest element is the same; `None` (null) as above.
    #[serde(default)]
    pub top1: Option<f64>,
    /// Whether the difference is within the tolerance times the scale.
    pub agree: bool,
}

/// What a form of photographs costs in accuracy: a lane's outputs for it against those for the exact form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PayloadAccuracy {
    /// The lane.
    pub lane: Lane,
    /// The form.
    pub payload: Encoding,
    /// The exact form: the whole file on the jpeg lane, FP32 on the others.
    pub exact: Encoding,
    /// Images in a request.
    pub batch: usize,
    /// Images that were compared: each photograph once, or one request of a larger batch.
    pub images: usize,
    /// Share of the images whose largest element is the same; `None` (null) if the outputs cannot be compared: their shapes
    /// differ, or an element is not finite.
    pub top1: Option<f64>,
    /// Smallest cosine of two rows; `None` as above, or for a row of zeros.
    pub min_cosine: Option<f64>,
    /// Mean cosine of two rows; `None` as above.
    pub mean_cosine: Option<f64>,
    /// Why there are no outputs of the one form or of the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// A lane that gave no outputs to compare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoOutputs {
    /// The lane.
    pub lane: Lane,
    /// Why it gave none.
    pub reason: String,
}

/// The comparison of all lanes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The largest tolerance of a pair, relative to the scale.
    pub tolerance: f64,
    /// All pairs of lanes that gave outputs.
    pub pairs: Vec<PairAgreement>,
    /// Lanes that gave none.
    pub missing: Vec<NoOutputs>,
    /// What the forms of photographs that are not exact cost in accuracy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub payloads: Vec<PayloadAccuracy>,
}
