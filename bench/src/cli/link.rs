//! `quintet-bench link`: measures the link to a server.

use std::time::Duration;

use clap::Args;

use crate::{
    client::{call::HttpVersion, endpoint::Endpoint},
    link::measure::{Measured, Rate, measure},
    model::{duration::parse_duration, estimate::Estimate, limits::Limits, link::LinkSpec},
    report::{markdown::table, table::NOTHING},
};

/// Flags of `link`.
#[derive(Debug, Args)]
pub struct LinkArgs {
    /// Address of a lane or of Triton: http://HOST:PORT or grpc://HOST:PORT; repeatable.
    #[arg(long, value_name = "URL", required = true, value_parser = LinkTarget::read)]
    pub url: Vec<LinkTarget>,
    /// Time limit for opening a connection.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub connect_timeout: Duration,
    /// Time limit for one request; the largest has 16 MiB.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub request_timeout: Duration,
}

/// An address and the protocol spoken there.
#[derive(Clone, Debug)]
pub struct LinkTarget {
    endpoint: Endpoint,
    version: HttpVersion,
}

impl LinkTarget {
    fn read(text: &str) -> Result<Self, String> {
        let version = if text.starts_with("grpc://") { HttpVersion::Http2 } else { HttpVersion::Http1 };
        let endpoint: Endpoint = text.parse().map_err(|e: crate::client::endpoint::EndpointError| e.to_string())?;
        if endpoint.trust().is_some() {
            return Err(
                "the link is measured without TLS: use the http:// or grpc:// address of a port without TLS".into()
            );
        }
        Ok(Self { endpoint, version })
    }
}

/// Measures the link to each address.
///
/// # Errors
/// When a server does not answer.
pub async fn link(args: &LinkArgs) -> anyhow::Result<String> {
    let limits =
        Limits { connect_timeout: args.connect_timeout, request_timeout: args.request_timeout, ..Limits::default() };
    let mut rows = Vec::new();
    let mut links = String::new();
    for LinkTarget { endpoint, version } in &args.url {
        eprintln!("measuring the link to {endpoint}");
        let measured = measure(endpoint, *version, limits).await?;
        rows.push((endpoint.to_string(), row(&measured)));
        links.push_str(&format!("\n{endpoint}: `--link {}`\n", spec(&measured)));
    }
    let columns = [
        "Connect (ms)",
        "Small request (ms)",
        "Up",
        "Down",
        "Retransmitted",
        "Out of order",
        "Kernel's round trip (ms)",
    ];
    Ok(format!("{}{links}", table("Link", "To", &columns.map(str::to_owned), &rows)))
}

fn row(measured: &Measured) -> Vec<String> {
    let ms = |estimate: Option<Estimate>| {
        estimate.map_or(NOTHING.into(), |e| format!("{:.2} ({:.2}–{:.2})", e.value, e.low, e.high))
    };
    let tcp = |value: &dyn Fn(&crate::client::tcp_info::TcpInfo) -> String| {
        measured.tcp.as_ref().map_or("unknown".into(), value)
    };
    vec![
        ms(measured.connect_ms),
        ms(measured.request_ms),
        rate(&measured.up),
        rate(&measured.down),
        tcp(&|tcp| tcp.retransmits.to_string()),
        tcp(&|tcp| tcp.out_of_order.to_string()),
        tcp(&|tcp| format!("{:.2}", f64::from(tcp.rtt_us) / 1e3)),
    ]
}

fn rate(rate: &Rate) -> String {
    match rate {
        Rate::About(bits) => format!("{:.1} Mbit/s", bits / 1e6),
        Rate::AtLeast(bits) => format!("at least {:.1} Mbit/s", bits / 1e6),
        Rate::Unknown(reason) => format!("unknown: {reason}"),
    }
}

/// The link in the form of `--link`; a rate with only a lower bound is left out.
fn spec(measured: &Measured) -> LinkSpec {
    let bits = |rate: &Rate| match rate {
        Rate::About(bits) => Some((bits.round() as u64).max(1_000)),
        Rate::AtLeast(_) | Rate::Unknown(_) => None,
    };
    // To a hundredth of a millisecond: more is noise.
    let rtt_ms = measured.connect_ms.map_or(0.0, |connect| (connect.value * 100.0).round() / 100.0);
    let rtt = Duration::try_from_secs_f64(rtt_ms / 1e3).unwrap_or_default();
    let kbit = |bits: Option<u64>| bits.map(|bits| (bits / 1_000).max(1) * 1_000);
    LinkSpec { rtt, up: kbit(bits(&measured.up)), down: kbit(bits(&measured.down)), ..LinkSpec::default() }
}
