//! Fuzz targets: functions of arbitrary bytes that panic if the code under test does, or if it breaks a promise.
//!
//! `cargo xtask fuzz` lets libFuzzer search for such bytes (`docs/testing.md`). `cargo test` replays the inputs in
//! `corpus/<target>/`, where those that once failed stay.

mod base64;
mod config;
mod hpack;
mod http1;
mod http2;
mod images;
mod input;
mod json;
mod models;
mod multipart;
mod protobuf;
mod stream;

/// A function that takes any bytes.
pub struct Target {
    /// Its name, and that of its folder of inputs.
    pub name: &'static str,
    /// Runs it on one input.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 9] = [
    Target { name: "http1", run: http1::run },
    Target { name: "http2", run: http2::run },
    Target { name: "hpack", run: hpack::run },
    Target { name: "protobuf", run: protobuf::run },
    Target { name: "json", run: json::run },
    Target { name: "config", run: config::run },
    Target { name: "images", run: images::run },
    Target { name: "multipart", run: multipart::run },
    Target { name: "base64", run: base64::run },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
