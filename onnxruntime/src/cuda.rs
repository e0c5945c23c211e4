//! Default options of the CUDA provider, for the server and for the in-process runs that it is compared with.

/// Names and values of provider options. Convolution algorithms are chosen by heuristics, because ONNX Runtime's
/// default benchmarks all of them at each new shape. TF32 is ONNX Runtime's default too; it is set here so that the
/// server can report it.
pub const CUDA_DEFAULTS: [(&str, &str); 2] = [("cudnn_conv_algo_search", "HEURISTIC"), ("use_tf32", "1")];
