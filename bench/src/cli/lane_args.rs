//! Flags that say which lanes are measured: addresses, peers, model, certificates, headers.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use http::{HeaderMap, header};
use quintet_proto::lanes::Lane as Kind;

use crate::{
    cli::peers::Against,
    client::{
        endpoint::Endpoint,
        headers::Headers,
        target::{Target, default_endpoint, default_metrics},
        tls::Trust,
        token,
    },
    model::{lane::Lane, words::list},
};

/// Which lanes are measured, and where they are. Addresses are http://HOST[:PORT][/PREFIX], https://, grpc://, grpcs:// or
/// unix:PATH; without a port it is 80, over TLS 443.
#[derive(Debug, Args)]
pub struct LaneArgs {
    /// Address of the jpeg lane (images over HTTP).
    #[arg(long, value_name = "URL", default_value_t = default_endpoint(Kind::Jpeg), help_heading = "Lanes")]
    pub jpeg_url: Endpoint,
    /// Address of the ONNX lane over KServe HTTP.
    #[arg(long, value_name = "URL", default_value_t = default_endpoint(Kind::OnnxHttp), help_heading = "Lanes")]
    pub onnx_http_url: Endpoint,
    /// Address of the ONNX lane over KServe gRPC.
    #[arg(long, value_name = "URL", default_value_t = default_endpoint(Kind::OnnxGrpc), help_heading = "Lanes")]
    pub onnx_grpc_url: Endpoint,
    /// Address of the metrics of the ONNX service.
    #[arg(long, value_name = "URL", default_value_t = default_metrics(Kind::OnnxHttp), help_heading = "Lanes")]
    pub onnx_metrics_url: Endpoint,
    /// Address of the TensorRT lane over KServe HTTP.
    #[arg(long, value_name = "URL", default_value_t = default_endpoint(Kind::TrtHttp), help_heading = "Lanes")]
    pub trt_http_url: Endpoint,
    /// Address of the TensorRT lane over KServe gRPC.
    #[arg(long, value_name = "URL", default_value_t = default_endpoint(Kind::TrtGrpc), help_heading = "Lanes")]
    pub trt_grpc_url: Endpoint,
    /// Address of the metrics of the TensorRT service.
    #[arg(long, value_name = "URL", default_value_t = default_metrics(Kind::TrtHttp), help_heading = "Lanes")]
    pub trt_metrics_url: Endpoint,
    /// PEM file of the certificate authorities to trust at https:// and grpcs:// addresses, instead of the public ones.
    #[arg(long, value_name = "FILE", help_heading = "Lanes")]
    pub ca_file: Option<PathBuf>,
    /// File with bearer tokens, as for the server's --auth-token-file; the first is sent to all addresses, except those of
    /// --against.
    #[arg(long, value_name = "FILE", help_heading = "Lanes")]
    pub auth_token_file: Option<PathBuf>,
    /// Add a header to every request, over gRPC as metadata; repeatable. @FILE reads headers from a file, one on each line: the
    /// report keeps the command line, so secrets belong there. Not sent to the addresses of --against.
    #[arg(long, value_name = "'NAME: VALUE'", help_heading = "Lanes")]
    pub header: Vec<Headers>,
    /// Measure another server in the same run, in turns with the suite; repeatable.
    ///
    /// The name `triton` alone means stock Triton as docker compose's profile `triton` starts it: ports 8110 to 8122, and
    /// PyTorch on 8102. For another server, or other addresses of Triton, write NAME=onnx-http=URL,onnx-grpc=URL,... with
    /// any of jpeg, onnx-http, onnx-grpc, onnx-metrics, trt-http, trt-grpc and trt-metrics. The server's lanes are called
    /// NAME/onnx-http and so on, also in --skip and --hypothesis.
    #[arg(long, value_name = "NAME[=LANE=URL,...]", help_heading = "Lanes")]
    pub against: Vec<Against>,
    /// Leave out a lane (onnx-grpc) or a service (trt), of all servers or of one (triton/jpeg); repeatable,
    /// comma-separated.
    #[arg(long, value_name = "LANE", value_delimiter = ',', help_heading = "Lanes")]
    pub skip: Vec<String>,
    /// Name of the model.
    #[arg(short, long, value_name = "NAME", default_value = "resnet50", help_heading = "Lanes")]
    pub model: String,
    /// Folder of the lanes' Unix domain sockets: the same as the server's --uds-dir.
    #[arg(long, value_name = "DIR", help_heading = "Lanes")]
    pub uds_dir: Option<PathBuf>,
}

impl LaneArgs {
    /// The lanes that are not skipped, the suite's first.
    ///
    /// # Errors
    /// When a name in `--skip` fits no lane, two servers have one name, no lane is left, `--ca-file` has no certificate, or
    /// `--auth-token-file` no token.
    pub fn targets(&self) -> anyhow::Result<Vec<Target>> {
        let own = |kind: Kind| Target {
            lane: Lane::own(kind),
            endpoint: self.endpoint(kind).clone(),
            metrics: match kind.service() {
                "onnx" => self.onnx_metrics_url.clone(),
                "trt" => self.trt_metrics_url.clone(),
                _ => self.jpeg_url.clone(),
            },
            model: self.model.clone(),
        };
        let peers = self.against.iter().flat_map(|server| server.targets(&self.model));
        let mut targets: Vec<_> = Kind::ALL.into_iter().map(own).chain(peers).collect();
        let mut lanes: Vec<_> = targets.iter().map(|target| target.lane).collect();
        for name in self.skip.iter().map(|name| name.trim()) {
            if !lanes.iter().any(|lane| lane.is_named(name)) {
                bail!("--skip: no lane `{name}`; lanes are {}, services are jpeg, onnx, trt", list(&lanes));
            }
            targets.retain(|target| !target.lane.is_named(name));
        }
        lanes.sort_unstable();
        if let Some(duplicate) = lanes.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("--against: there are two lanes {}; give servers different names", duplicate[0]);
        }
        if targets.is_empty() {
            bail!("--skip leaves no lane to measure");
        }
        if let Some(file) = &self.ca_file {
            let trust = Trust::from_file(file).context("--ca-file")?;
            for target in &mut targets {
                target.endpoint = target.endpoint.clone().trusting(&trust);
                target.metrics = target.metrics.clone().trusting(&trust);
            }
        }
        let headers = self.headers()?;
        for target in targets.iter_mut().filter(|target| target.lane.peer.is_none()) {
            target.endpoint = target.endpoint.clone().with_headers(&headers);
            target.metrics = target.metrics.clone().with_headers(&headers);
        }
        Ok(targets)
    }

    /// The headers of `--header` and the token of `--auth-token-file`.
    fn headers(&self) -> anyhow::Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        for Headers(given) in &self.header {
            headers.extend(given.clone());
        }
        if let Some(file) = &self.auth_token_file {
            headers.insert(header::AUTHORIZATION, token::authorization(file).context("--auth-token-file")?);
        }
        Ok(headers)
    }

    fn endpoint(&self, lane: Kind) -> &Endpoint {
        match lane {
            Kind::Jpeg => &self.jpeg_url,
            Kind::OnnxHttp => &self.onnx_http_url,
            Kind::OnnxGrpc => &self.onnx_grpc_url,
            Kind::TrtHttp => &self.trt_http_url,
            Kind::TrtGrpc => &self.trt_grpc_url,
        }
    }
}
