//! `quintet-server health`: asks a running server whether it is ready, for containers without curl.

mod tls;

use std::{
    fs,
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Parser};
use http::{Uri, uri::Authority};

use self::tls::TlsArgs;
use crate::{
    catalog::ServiceName,
    process::settings::{Flags, Settings},
    transport::listener::reachable,
};

/// Bytes that are read of a response: enough for its status line and for the reason of a server that is not ready.
const ANSWER_BYTES: u64 = 16 << 10;

/// Which servers to ask, and what.
#[derive(Debug, Args)]
pub struct Check {
    /// Server or URL to ask; may be repeated. Without a path, KServe's health path is used [default: the services
    /// on this machine that the QUINTET_* variables and the file named by QUINTET_CONFIG configure]
    #[arg(long, value_name = "HOST:PORT|URL")]
    url: Vec<Target>,
    /// Ask only whether the process is alive, not whether its models are ready
    #[arg(long)]
    live: bool,
    /// Seconds to wait for each connection and response
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout_secs: u64,
    /// File with bearer tokens, the first of which is sent; health needs none unless a proxy demands it. Over https:// it needs --ca-file
    #[arg(long, value_name = "FILE")]
    auth_token_file: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArgs,
}

/// One server to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    /// Whether TLS is used.
    tls: bool,
    /// `host:port`; an IPv6 address is in brackets.
    authority: Authority,
    /// Empty if none was given.
    path: String,
}

impl std::str::FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let uri: Uri =
            text.parse().with_context(|| format!("'{text}' is neither HOST:PORT nor a URL, such as 127.0.0.1:8010"))?;
        let tls = match uri.scheme_str() {
            None | Some("http") => false,
            Some("https") => true,
            Some(_) => bail!("'{text}': only http:// and https:// are supported"),
        };
        let authority =
            uri.authority().with_context(|| format!("'{text}' has no host: use HOST:PORT, such as 127.0.0.1:8010"))?;
        let authority = authority.clone();
        ensure!(authority.port_u16().is_some(), "'{text}' has no port: use HOST:PORT, such as 127.0.0.1:8010");
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        Ok(Self { tls, authority, path: if path == "/" { String::new() } else { path.to_owned() } })
    }
}

/// Asks each server in turn and prints its answer. The exit status is 0 if all answer 200, else 1.
///
/// # Errors
/// When the settings are wrong.
pub fn run(check: &Check) -> anyhow::Result<ExitCode> {
    let targets = if check.url.is_empty() { configured(&from_environment()?, check.live) } else { check.url.clone() };
    let asker = Asker::new(check)?;
    let mut healthy = true;
    for target in &targets {
        let path = if target.path.is_empty() { path(ServiceName::Onnx, check.live) } else { target.path.as_str() };
        let answer = match asker.ask(target, path) {
            Ok(Answer { status: 200, .. }) => "200".to_owned(),
            Ok(Answer { status, reason }) => {
                healthy = false;
                reason.map_or_else(|| status.to_string(), |reason| format!("{status}: {reason}"))
            }
            Err(error) => {
                healthy = false;
                format!("{error:#}")
            }
        };
        let s = if target.tls { "s" } else { "" };
        writeln!(std::io::stdout(), "http{s}://{}{path}: {answer}", target.authority).context("stdout")?;
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The settings of a suite that was started with this environment and no flags.
fn from_environment() -> anyhow::Result<Settings> {
    #[derive(Parser)]
    struct Environment {
        #[command(flatten)]
        flags: Flags,
    }
    Environment::try_parse_from(["quintet-server"]).context("the suite's environment")?.flags.resolve()
}

/// The HTTP listener of each service that runs.
fn configured(settings: &Settings, live: bool) -> Vec<Target> {
    let tls = !settings.common.access.http_tls_cert.as_os_str().is_empty();
    let target = |&service: &ServiceName| {
        let endpoint = match service {
            ServiceName::Jpeg => settings.jpeg_port,
            ServiceName::Onnx => settings.onnx_http_port,
            ServiceName::Trt => settings.trt_http_port,
            // Triton mode is not part of the suite, so settings cannot name it.
            ServiceName::Triton => return None,
        };
        let authority = reachable(endpoint.on(settings.address)).to_string().parse().ok()?;
        Some(Target { tls, authority, path: path(service, live).to_owned() })
    };
    settings.service.iter().filter_map(target).collect()
}

fn path(service: ServiceName, live: bool) -> &'static str {
    match (service, live) {
        (ServiceName::Jpeg, false) => "/health",
        (ServiceName::Jpeg, true) => "/healthz",
        (_, false) => "/v2/health/ready",
        (_, true) => "/v2/health/live",
    }
}

/// Asks servers.
struct Asker<'a> {
    timeout: Duration,
    token: Option<String>,
    tls: &'a TlsArgs,
}

impl<'a> Asker<'a> {
    fn new(check: &'a Check) -> anyhow::Result<Self> {
        let token = check.auth_token_file.as_deref().map(first_token).transpose()?;
        Ok(Self { timeout: Duration::from_secs(check.timeout_secs), token, tls: &check.tls })
    }

    /// The answer to `GET path`. Each step may take the timeout.
    fn ask(&self, target: &Target, path: &str) -> anyhow::Result<Answer> {
        let Target { tls, authority, .. } = target;
        ensure!(
            !tls || self.token.is_none() || self.tls.ca_file.is_some(),
            "the token would be sent to a server that nobody vouches for: give --ca-file"
        );
        let addresses = authority.as_str().to_socket_addrs();
        let address = addresses.context("unknown host")?.next().context("the host has no address")?;
        let stream = TcpStream::connect_timeout(&address, self.timeout).context("cannot connect")?;
        let timeout = Some(self.timeout);
        stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout)).context("timeout")?;
        let token = self.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n{token}Connection: close\r\n\r\n");
        match tls {
            true => exchange(self.tls.connect(authority, stream)?, &request),
            false => exchange(stream, &request),
        }
    }
}

/// A server's answer.
struct Answer {
    status: u16,
    /// The error in its body.
    reason: Option<String>,
}

fn exchange(mut stream: impl Read + Write, request: &str) -> anyhow::Result<Answer> {
    stream.write_all(request.as_bytes()).context("cannot send the request")?;
    let mut answer = Vec::new();
    match stream.take(ANSWER_BYTES).read_to_end(&mut answer) {
        Err(error) if !tls::is_unannounced_end(&error) => return Err(error).context("no response"),
        _ => {}
    }
    let status = status(&answer).context("the response is not HTTP")?;
    Ok(Answer { status, reason: reason(&answer) })
}

/// The first token of a file.
fn first_token(file: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut lines = text.lines().map(str::trim);
    let token = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(token.with_context(|| format!("{} has no token", file.display()))?.to_owned())
}

/// The status in `HTTP/1.1 200 OK`.
fn status(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.")?;
    std::str::from_utf8(rest.get(2..5)?).ok()?.parse().ok()
}

/// The error in the body of a response, which is JSON as KServe's and the jpeg lane's.
fn reason(answer: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Body {
        error: String,
    }
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    serde_json::from_slice::<Body>(&answer[head + 4..]).ok().map(|body| body.error)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, TcpListener},
        thread,
    };

    use clap::Parser as _;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        check: Check,
    }

    fn check(flags: &[&str]) -> ExitCode {
        run(&Command::try_parse_from(["health"].iter().chain(flags)).unwrap().check).unwrap()
    }

    /// Answers one connection with `answer`. Returns the address and the request line.
    fn answer(answer: &'static str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 512];
            let length = stream.read(&mut asked).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&asked[..length]).lines().next().unwrap_or_default().to_owned()
        });
        (address, asked)
    }

    #[test]
    fn the_exit_status_says_whether_the_server_is_ready() {
        for (reply, code) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ExitCode::SUCCESS),
            ("HTTP/1.1 400 Bad Request\r\n\r\n", ExitCode::FAILURE),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", ExitCode::FAILURE),
            ("SSH-2.0-OpenSSH_9.2\r\n", ExitCode::FAILURE),
            ("", ExitCode::FAILURE),
        ] {
            let (address, asked) = answer(reply);
            assert_eq!(check(&["--url", &address]), code, "{reply}");
            assert_eq!(asked.join().unwrap(), "GET /v2/health/ready HTTP/1.1");
        }
    }

    #[test]
    fn the_reason_is_read_from_the_body() {
        let body = "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"error\":\"not ready: model 'm' failed\"}";
        assert_eq!(reason(body.as_bytes()).as_deref(), Some("not ready: model 'm' failed"));
        for none in ["HTTP/1.1 503 x\r\n\r\n", "HTTP/1.1 503 x\r\n\r\n<html>", "HTTP/1.1 503 x"] {
            assert_eq!(reason(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn fails_if_one_of_several_is_not_ready() {
        let (ready, first) = answer("HTTP/1.1 200 OK\r\n\r\n");
        let (loading, second) = answer("HTTP/1.1 503 Service Unavailable\r\n\r\n");
        let jpeg = format!("http://{loading}/healthz");
        assert_eq!(check(&["--live", "--url", &ready, "--url", &jpeg]), ExitCode::FAILURE);
        assert_eq!(first.join().unwrap(), "GET /v2/health/live HTTP/1.1");
        assert_eq!(second.join().unwrap(), "GET /healthz HTTP/1.1");
    }

    #[test]
    fn fails_if_nothing_listens() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(check(&["--url", &address.to_string()]), ExitCode::FAILURE);
    }

    #[test]
    fn asks_the_services_of_the_settings() {
        let mut settings = Settings { address: Ipv4Addr::UNSPECIFIED.into(), ..Settings::default() };
        settings.trt_http_port = "[::]:9020".parse().unwrap();
        let urls = |live| {
            let targets = configured(&settings, live);
            targets.iter().map(|target| format!("{}{}", target.authority, target.path)).collect::<Vec<_>>()
        };
        assert_eq!(
            urls(false),
            ["127.0.0.1:8002/health", "127.0.0.1:8010/v2/health/ready", "[::1]:9020/v2/health/ready"]
        );
        assert_eq!(
            urls(true),
            ["127.0.0.1:8002/healthz", "127.0.0.1:8010/v2/health/live", "[::1]:9020/v2/health/live"]
        );
    }

    #[test]
    fn rejects_targets_without_host_port_or_http() {
        for (text, word) in
            [("localhost", "no port"), ("ftp://a:1", "only http"), ("/health", "no host"), ("a b:1", "neither")]
        {
            let error = text.parse::<Target>().unwrap_err();
            assert!(format!("{error:#}").contains(word), "{text}: {error:#}");
        }
    }
}
