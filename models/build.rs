//! Generates the ONNX message types with protox, which needs no `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/onnx.proto"], ["proto"])?;
    // `bytes` fields become `Bytes`, so that the variants of one model share their weights.
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
