//! What the CUDA provider is told where no configuration says otherwise: by servers, and by what they are held against.

/// ONNX Runtime's names and values. Convolutions are chosen by heuristics: its own default tries all of them again at each
/// new shape. TF32 is its default too; it is named so that it can be told.
pub const CUDA_DEFAULTS: [(&str, &str); 2] = [("cudnn_conv_algo_search", "HEURISTIC"), ("use_tf32", "1")];
