//! Settings of the suite.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use anyhow::Context as _;
use quintet_proto::lanes::{Lane, ONNX_METRICS_PORT, TRT_METRICS_PORT};

use super::{
    boolean::boolean,
    common::{Common, CommonFlags},
    endpoint::Endpoint,
    log_format::LogFormat,
    model_parameter::ModelParameter,
};
use crate::{
    backend::onnx::{Plugin, Provider},
    catalog::ServiceName,
};

settings! {
    Flags {
        /// TOML file with any of these settings; a key is the flag's name with underscores
        #[arg(long, env = "QUINTET_CONFIG", value_name = "FILE")]
        #[serde(skip)]
        pub config: Option<PathBuf>,
        /// Print the effective settings as TOML and exit
        #[arg(long)]
        #[serde(skip)]
        pub print_config: bool,
        /// Settings shared with Triton mode.
        #[command(flatten)]
        #[serde(flatten)]
        pub common: CommonFlags,
    }
    Settings {
        /// Settings shared with Triton mode.
        #[serde(flatten)]
        pub common: Common,
    }
    defaults { common: Common::default(), }
    /// Folder with models in Triton's layout, or in a build with --features object-stores an address (s3://, gs://, as://, az://); may be repeated [default: .quintet/models]
    #[arg(value_name = "DIR", value_delimiter = ',')]
    model_repository: Vec<PathBuf> = vec![".quintet/models".into()], "QUINTET_MODEL_REPOSITORY";
    /// Models to serve, separated by commas; the jpeg lane serves the first [default: all models of the repository]
    #[arg(value_name = "NAME", value_delimiter = ',')]
    model: Vec<String> = Vec::new(), "QUINTET_MODEL";
    /// Parameter for the models whose config.pbtxt does not have it, such as image_preprocess=letterbox (docs/triton.md lists those of images); may be repeated, separated by semicolons in the variable
    #[arg(value_name = "KEY=VALUE", value_delimiter = ';')]
    model_parameter: Vec<ModelParameter> = Vec::new(), "QUINTET_MODEL_PARAMETER";
    /// Services to run, separated by commas [default: jpeg,onnx,trt]
    #[arg(value_enum, value_name = "SERVICE", value_delimiter = ',')]
    service: Vec<ServiceName> = vec![ServiceName::Jpeg, ServiceName::Onnx, ServiceName::Trt], "QUINTET_SERVICE";
    /// Address of all listeners; 0.0.0.0 accepts connections from other machines [default: 127.0.0.1]
    address: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST), "QUINTET_ADDRESS";
    /// Port of the jpeg service for photographs over HTTP, for its metrics and for the page [default: 8002]
    #[arg(value_name = "[ADDRESS:]PORT")]
    jpeg_port: Endpoint = Endpoint::port(Lane::Jpeg.default_port()), "QUINTET_JPEG_PORT";
    /// Port of the onnx service for KServe over HTTP [default: 8010]
    #[arg(value_name = "[ADDRESS:]PORT")]
    onnx_http_port: Endpoint = Endpoint::port(Lane::OnnxHttp.default_port()), "QUINTET_ONNX_HTTP_PORT";
    /// Port of the onnx service for KServe over gRPC [default: 8011]
    #[arg(value_name = "[ADDRESS:]PORT")]
    onnx_grpc_port: Endpoint = Endpoint::port(Lane::OnnxGrpc.default_port()), "QUINTET_ONNX_GRPC_PORT";
    /// Port of the onnx service for metrics [default: 8012]
    #[arg(value_name = "[ADDRESS:]PORT")]
    onnx_metrics_port: Endpoint = Endpoint::port(ONNX_METRICS_PORT), "QUINTET_ONNX_METRICS_PORT";
    /// Port of the trt service for KServe over HTTP [default: 8020]
    #[arg(value_name = "[ADDRESS:]PORT")]
    trt_http_port: Endpoint = Endpoint::port(Lane::TrtHttp.default_port()), "QUINTET_TRT_HTTP_PORT";
    /// Port of the trt service for KServe over gRPC [default: 8021]
    #[arg(value_name = "[ADDRESS:]PORT")]
    trt_grpc_port: Endpoint = Endpoint::port(Lane::TrtGrpc.default_port()), "QUINTET_TRT_GRPC_PORT";
    /// Port of the trt service for metrics [default: 8022]
    #[arg(value_name = "[ADDRESS:]PORT")]
    trt_metrics_port: Endpoint = Endpoint::port(TRT_METRICS_PORT), "QUINTET_TRT_METRICS_PORT";
    /// Folder in which each listener, except those for metrics, also opens a Unix domain socket, e.g. onnx-http.sock [default: none]
    #[arg(value_name = "DIR")]
    uds_dir: PathBuf = PathBuf::new(), "QUINTET_UDS_DIR";
    /// Execution providers that the jpeg service tries, in this order; known are tensorrt, tensorrt-rtx, cuda, openvino, cpu, and ONNX Runtime's names of providers that --ep-library registers [default: cuda,cpu]
    #[arg(value_delimiter = ',', value_name = "PROVIDERS")]
    jpeg_providers: Vec<Provider> = vec![Provider::Cuda, Provider::Cpu], "QUINTET_JPEG_PROVIDERS";
    /// Execution providers that the onnx service tries, in this order [default: cuda,cpu]
    #[arg(value_delimiter = ',', value_name = "PROVIDERS")]
    onnx_providers: Vec<Provider> = vec![Provider::Cuda, Provider::Cpu], "QUINTET_ONNX_PROVIDERS";
    /// Execution providers that the trt service tries, in this order [default: tensorrt,tensorrt-rtx,cuda,cpu]
    #[arg(value_delimiter = ',', value_name = "PROVIDERS")]
    trt_providers: Vec<Provider> = vec![Provider::TensorRt, Provider::Plugin(Plugin::TensorRtRtx), Provider::Cuda, Provider::Cpu], "QUINTET_TRT_PROVIDERS";
    /// Weights (.safetensors with torchvision's names) or a TorchScript file (any other extension) that the jpeg service runs in libtorch instead of the model file; needs a build with --features torch
    #[arg(value_name = "FILE")]
    jpeg_weights: PathBuf = PathBuf::new(), "QUINTET_JPEG_WEIGHTS";
    /// Maximum bytes of a request body, before and after decompression, so that one request cannot fill the memory; larger ones get 413 [default: 67108864, 64 MiB]
    #[arg(value_name = "BYTES", help_heading = "Limits")]
    max_input_bytes: usize = 64 << 20, "QUINTET_MAX_INPUT_BYTES";
    /// Serve a page for browsers at / of the jpeg service (without it, of the first service's metrics): it asks each lane about a photograph and shows what the services do [default: on]
    #[arg(value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    page: bool = true, "QUINTET_PAGE";
    /// Folder with the runs of quintet-bench that the page shows [default: results]
    #[arg(value_name = "DIR")]
    results: PathBuf = "results".into(), "QUINTET_RESULTS";
    /// Maximum number of questions of the page that wait for their turn, so that waiting has an end; further ones get 503 [default: 16]
    #[arg(value_name = "N", help_heading = "Limits")]
    page_max_waiting: usize = 16, "QUINTET_PAGE_MAX_WAITING";
    /// Seconds that one question of the page may take, so that a lane that does not answer does not stop the page [default: 60]
    #[arg(value_name = "SECONDS", help_heading = "Limits")]
    page_timeout_secs: u64 = 60, "QUINTET_PAGE_TIMEOUT_SECS";
    /// Format of the log lines on stderr; QUINTET_LOG sets the level, e.g. info or quintet_server=debug [default: text]
    #[arg(value_enum)]
    log_format: LogFormat = LogFormat::Text, "QUINTET_LOG_FORMAT";
}

impl Flags {
    /// The effective settings: these flags over the file over the defaults.
    ///
    /// # Errors
    /// When the file cannot be read, or has an unknown key or a value of the wrong kind.
    pub fn resolve(&self) -> anyhow::Result<Settings> {
        let mut table = match &self.config {
            Some(path) => fs::read_to_string(path)
                .with_context(|| format!("cannot read the settings file {}", path.display()))?
                .parse::<toml::Table>()
                .with_context(|| format!("the settings file {} is not TOML", path.display()))?,
            None => toml::Table::new(),
        };
        let source = self.config.as_ref().map_or_else(|| "flags".to_owned(), |path| path.display().to_string());
        check_keys(&table).with_context(|| format!("wrong settings in {source}"))?;
        table.extend(toml::Table::try_from(self).context("cannot merge the flags")?);
        let settings: Settings = table.try_into().with_context(|| format!("wrong settings in {source}"))?;
        settings.check()?;
        Ok(settings)
    }
}

/// Rejects keys that are not settings.
fn check_keys(table: &toml::Table) -> anyhow::Result<()> {
    let known = toml::Table::try_from(Settings::default()).context("cannot list the settings")?;
    if let Some(unknown) = table.keys().find(|key| !known.contains_key(*key)) {
        let known: Vec<_> = known.keys().map(|key| format!("`{key}`")).collect();
        anyhow::bail!("unknown field `{unknown}`, expected one of {}", known.join(", "));
    }
    Ok(())
}

impl Settings {
    fn check(&self) -> anyhow::Result<()> {
        let counts = [
            (self.service.len(), "service"),
            (self.max_input_bytes, "max_input_bytes"),
            (self.common.max_connections, "max_connections"),
            (self.page_max_waiting, "page_max_waiting"),
            (self.page_timeout_secs as usize, "page_timeout_secs"),
        ];
        for (value, name) in counts {
            anyhow::ensure!(value > 0, "{name} must be at least 1");
        }
        self.common.images.check()?;
        Ok(())
    }

    /// Whether this service is among those to run.
    pub fn runs(&self, service: ServiceName) -> bool {
        self.service.contains(&service)
    }

    /// The providers that a service tries, in order.
    pub fn providers(&self, service: ServiceName) -> &[Provider] {
        match service {
            ServiceName::Jpeg => &self.jpeg_providers,
            ServiceName::Onnx => &self.onnx_providers,
            ServiceName::Trt => &self.trt_providers,
            ServiceName::Triton => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::settings::ImageFlags;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("quintet.toml");
        fs::write(&file, "jpeg_port = 9002\nonnx_http_port = \"0.0.0.0:9010\"\ntrt_providers = [\"cpu\"]\n").unwrap();
        let flags = Flags { config: Some(file), jpeg_port: Some("7002".parse().unwrap()), ..Flags::default() };
        let settings = flags.resolve().unwrap();
        assert_eq!(settings.jpeg_port.on(settings.address).to_string(), "127.0.0.1:7002");
        assert_eq!(settings.onnx_http_port.on(settings.address).to_string(), "0.0.0.0:9010");
        assert_eq!(settings.trt_providers, [Provider::Cpu]);
        assert_eq!(settings.onnx_grpc_port, Endpoint::port(8011));
    }

    #[test]
    fn printed_settings_can_be_read_again() {
        let mut settings = Settings::default();
        settings.common.ep_library = vec!["openvino=/opt/plugin.so".parse().unwrap()];
        settings.onnx_providers =
            vec![Provider::Plugin(Plugin::OpenVino), Provider::Plugin(Plugin::Other("XExecutionProvider"))];
        let printed = toml::to_string(&settings).unwrap();
        assert_eq!(toml::from_str::<Settings>(&printed).unwrap(), settings);
    }

    #[test]
    fn unknown_keys_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("quintet.toml");
        fs::write(&file, "jpeg_prot = 9002\n").unwrap();
        let error = Flags { config: Some(file), ..Flags::default() }.resolve().unwrap_err();
        assert!(format!("{error:#}").contains("jpeg_prot"), "{error:#}");
    }

    #[test]
    fn the_decode_queue_has_room_for_the_largest_request() {
        let images = ImageFlags { max_images: Some(2000), ..ImageFlags::default() };
        let common = CommonFlags { images, ..CommonFlags::default() };
        let error = Flags { common, ..Flags::default() }.resolve().unwrap_err();
        assert_eq!(
            error.to_string(),
            "max_decode_queue is 1024, but one request may have 2000 images (max_images): raise max_decode_queue or lower max_images"
        );
    }
}
