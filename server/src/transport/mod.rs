//! The transports: KServe over HTTP and over gRPC, images over HTTP. They share listeners, access control, I/O
//! threads and content encodings, and depend neither on each other nor on backends.

pub mod access;
pub mod encoding;
pub mod guard;
pub mod http1;
pub mod images;
pub mod io_threads;
pub mod kserve_grpc;
pub mod kserve_http;
mod kserve_json;
pub mod listener;
mod traced;
mod work;

use quintet_engine::{Stage, StageTimings};

/// `receive;dur=0.081, parse;dur=0.004, ...`: the stage times as a `Server-Timing` value, in milliseconds.
pub fn server_timing(timings: &StageTimings) -> String {
    let mut value = String::with_capacity(160);
    for (index, (stage, time)) in timings.iter().enumerate() {
        let separator = if index > 0 { ", " } else { "" };
        // Writing to a String does not fail.
        let _ = std::fmt::Write::write_fmt(
            &mut value,
            format_args!("{separator}{};dur={:.3}", Stage::name(stage), time.as_secs_f64() * 1e3),
        );
    }
    value
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn server_timing_has_all_stages_in_milliseconds() {
        let mut timings = StageTimings::default();
        timings[Stage::Infer] = Duration::from_micros(18_250);
        assert_eq!(
            server_timing(&timings),
            "receive;dur=0.000, parse;dur=0.000, queue;dur=0.000, gather;dur=0.000, copy_in;dur=0.000, infer;dur=18.250, copy_out;dur=0.000, encode;dur=0.000"
        );
    }
}
