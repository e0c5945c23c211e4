//! Compiles the ONNX messages with protox: no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/onnx.proto"], ["proto"])?;
    // Weights are `Bytes`, so that the variants of one model share them.
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
