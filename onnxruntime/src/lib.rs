//! Finds and loads the ONNX Runtime library.
