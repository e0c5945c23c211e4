//! Compiles the protocol definitions with protox: no `protoc` is needed.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    if env::var_os("CARGO_FEATURE_WIRE").is_none() {
        return Ok(());
    }
    let descriptors = protox::compile(["proto/grpc_service.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // For gRPC reflection and for reading config.pbtxt.
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // `bytes` fields become `Bytes`: decoding a message then slices its buffer instead of copying tensors.
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
