//! Triton's flags for connections and responses over gRPC.

use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use crate::{
    process::settings::boolean,
    transport::{
        encoding::Effort,
        listener::{ConnectionLimits, MaxAge},
    },
};

/// How hard responses are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum CompressionLevel {
    /// Not at all.
    #[default]
    None,
    /// The least time.
    Low,
    /// zlib's default.
    Medium,
    /// The fewest bytes.
    High,
}

/// Triton's flags for gRPC. Its times are in milliseconds.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct GrpcFlags {
    /// Compress the responses of ModelInfer for clients that accept gzip or deflate (grpc-accept-encoding), if that makes them smaller; those of streams are never compressed
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "none", ignore_case = true)]
    grpc_infer_response_compression_level: CompressionLevel,
    /// Milliseconds after which a gRPC connection gets a GOAWAY, give or take 10 %, and ends after its open calls, so that clients come to servers that were added [default: no limit]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Limits")]
    grpc_max_connection_age: Option<u64>,
    /// Milliseconds that the open calls of a connection past --grpc-max-connection-age may still take, so that a stream does not keep it [default: no limit]
    #[arg(long, value_name = "MS", help_heading = "Limits")]
    grpc_max_connection_age_grace: Option<u64>,
    /// Milliseconds of silence on a gRPC connection after which a PING asks whether the client is still there [default: that of --http2-ping-interval-secs]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Limits")]
    grpc_keepalive_time: Option<u64>,
    /// Milliseconds that a gRPC client may take to answer a PING of --grpc-keepalive-time [default: that of --http2-ping-timeout-secs]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Limits")]
    grpc_keepalive_timeout: Option<u64>,
    /// Send the PINGs of --grpc-keepalive-time on connections without open calls, too, until --idle-timeout-secs
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    grpc_keepalive_permit_without_calls: bool,
}

impl GrpcFlags {
    /// How hard responses are compressed; `None` for not at all.
    pub(super) fn compression(&self) -> Option<Effort> {
        match self.grpc_infer_response_compression_level {
            CompressionLevel::None => None,
            CompressionLevel::Low => Some(Effort::Low),
            CompressionLevel::Medium => Some(Effort::Medium),
            CompressionLevel::High => Some(Effort::High),
        }
    }

    /// The limits of gRPC's connections: these over the common ones.
    pub(super) fn connections(&self, mut limits: ConnectionLimits) -> ConnectionLimits {
        let grace = self.grpc_max_connection_age_grace.map(Duration::from_millis);
        let timeouts = &mut limits.timeouts;
        timeouts.ping_interval = self.grpc_keepalive_time.map(Duration::from_millis).or(timeouts.ping_interval);
        timeouts.ping_answer = self.grpc_keepalive_timeout.map(Duration::from_millis).or(timeouts.ping_answer);
        timeouts.ping_idle = self.grpc_keepalive_permit_without_calls;
        let age = self.grpc_max_connection_age.map(Duration::from_millis);
        ConnectionLimits { max_age: age.map(|age| MaxAge { age, grace }), ..limits }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        flags: GrpcFlags,
    }

    fn read(line: &str) -> Result<GrpcFlags, clap::Error> {
        let line = std::iter::once("quintet-server").chain(line.split_whitespace());
        Cli::try_parse_from(line).map(|cli| cli.flags)
    }

    #[test]
    fn milliseconds_replace_the_common_limits() {
        let common = ConnectionLimits::from(7);
        let none = read("").unwrap().connections(common);
        assert_eq!((none.timeouts, none.max_age, none.max), (common.timeouts, None, 7));
        let limits = read(
            "--grpc-keepalive-time=1500 --grpc-keepalive-timeout 2500 --grpc-keepalive-permit-without-calls=1 \
             --grpc-max-connection-age=60000 --grpc-max-connection-age-grace=0",
        );
        let limits = limits.unwrap().connections(common);
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!((limits.timeouts.ping_interval, limits.timeouts.ping_answer), (ms(1500), ms(2500)));
        assert!(limits.timeouts.ping_idle && limits.timeouts.idle == common.timeouts.idle);
        assert_eq!(limits.max_age, Some(MaxAge { age: Duration::from_secs(60), grace: Some(Duration::ZERO) }));
        assert!(read("--grpc-max-connection-age=0").is_err());
    }

    #[test]
    fn levels_have_tritons_names() {
        let level = |level: &str| {
            let flag = format!("--grpc-infer-response-compression-level={level}");
            read(&flag).map(|flags| flags.compression()).map_err(|error| error.to_string())
        };
        assert_eq!(
            [level("none"), level("LOW"), level("high")],
            [Ok(None), Ok(Some(Effort::Low)), Ok(Some(Effort::High))]
        );
        assert!(level("9").unwrap_err().contains("none, low, medium, high"));
    }
}
