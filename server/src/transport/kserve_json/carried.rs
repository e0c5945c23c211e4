//! Which data types KServe sends as JSON.

use quintet_engine::DataType;

/// Whether a tensor of this type can be sent as JSON. Triton sends FP16 and BF16 as binary data only.
pub(super) fn is_carried(data_type: DataType) -> bool {
    !matches!(data_type, DataType::Fp16 | DataType::Bf16)
}
