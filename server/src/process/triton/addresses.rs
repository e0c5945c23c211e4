//! The addresses of Triton mode's listeners: loopback, unless a flag gives another or requests need a token or a certificate.

use std::net::{IpAddr, Ipv4Addr};

use super::Flags;
use crate::process::access::AccessControl;

/// The addresses of the listeners.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) http: IpAddr,
    pub(super) grpc: IpAddr,
    pub(super) metrics: IpAddr,
}

impl Flags {
    /// The addresses, with one line in the log if a listener is on loopback because no flag gives its address.
    pub(super) fn addresses(&self, access: &AccessControl) -> Addresses {
        let addresses = self.choose(access.protects_http(), access.protects_grpc());
        let http = self.allow_http && self.http_address.is_none() && !access.protects_http();
        let grpc = self.allow_grpc && self.grpc_address.is_none() && !access.protects_grpc();
        if http || grpc {
            tracing::warn!(
                http = %addresses.http,
                grpc = %addresses.grpc,
                "only this machine can connect: --http-address=0.0.0.0 and --grpc-address=0.0.0.0 let every machine connect, \
                 and --auth-token-file only those with a token"
            );
        }
        addresses
    }

    fn choose(&self, protects_http: bool, protects_grpc: bool) -> Addresses {
        let default = |guarded| IpAddr::V4(if guarded { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST });
        let http = self.http_address.unwrap_or_else(|| default(protects_http));
        let grpc = self.grpc_address.unwrap_or_else(|| default(protects_grpc));
        Addresses { http, grpc, metrics: self.metrics_address.unwrap_or(http) }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        flags: Flags,
    }

    #[test]
    fn listeners_are_on_loopback_unless_told_otherwise_or_guarded() {
        let choose = |line: &str, protects_http, protects_grpc| {
            let words = std::iter::once("quintet-server").chain(line.split_whitespace());
            let Addresses { http, grpc, metrics } = Cli::parse_from(words).flags.choose(protects_http, protects_grpc);
            format!("{http} {grpc} {metrics}")
        };
        assert_eq!(choose("", false, false), "127.0.0.1 127.0.0.1 127.0.0.1");
        assert_eq!(choose("", true, false), "0.0.0.0 127.0.0.1 0.0.0.0");
        assert_eq!(choose("--http-address=0.0.0.0", false, false), "0.0.0.0 127.0.0.1 0.0.0.0");
        assert_eq!(choose("--metrics-address=::1 --grpc-address=10.0.0.7", true, true), "0.0.0.0 10.0.0.7 ::1");
    }
}
