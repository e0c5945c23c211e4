//! The program that libFuzzer drives. `QUINTET_FUZZ_TARGET` names the target; the arguments are libFuzzer's.

#![no_main]
#![allow(clippy::expect_used)] // Before the first input.

use std::sync::OnceLock;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static RUN: OnceLock<fn(&[u8])> = OnceLock::new();
    let run = RUN.get_or_init(|| {
        let name = std::env::var("QUINTET_FUZZ_TARGET").unwrap_or_default();
        quintet_fuzz::target(&name).expect("QUINTET_FUZZ_TARGET names no target").run
    });
    run(bytes);
});
