//! Settings of who may do what: TLS, tokens, restricted groups, sites.

use std::path::PathBuf;

use super::boolean::boolean;

settings! {
    AccessFlags {}
    Access {}
    defaults {}
    /// Certificate (PEM, with intermediate ones) for TLS on all HTTP and metrics listeners on TCP, so that nobody on the way reads or changes what is sent; read again when it changes, as are key and authorities [default: no TLS]
    #[arg(value_name = "FILE", help_heading = "Security")]
    http_tls_cert: PathBuf = PathBuf::new(), "QUINTET_HTTP_TLS_CERT";
    /// Key (PEM, not encrypted) of --http-tls-cert
    #[arg(value_name = "FILE", help_heading = "Security")]
    http_tls_key: PathBuf = PathBuf::new(), "QUINTET_HTTP_TLS_KEY";
    /// Authorities (PEM) of client certificates: with them, each client of the HTTP and metrics listeners, health probes included, must have a certificate that one of them signed [default: none is asked for]
    #[arg(value_name = "FILE", help_heading = "Security")]
    http_tls_client_ca: PathBuf = PathBuf::new(), "QUINTET_HTTP_TLS_CLIENT_CA";
    /// Use TLS on the gRPC listeners on TCP [default: false]
    #[arg(value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", value_parser = boolean, help_heading = "Security")]
    grpc_use_ssl: bool = false, "QUINTET_GRPC_USE_SSL";
    /// Use TLS on the gRPC listeners, and demand of each client a certificate that an authority of --grpc-root-cert signed; it includes --grpc-use-ssl [default: false]
    #[arg(value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", value_parser = boolean, help_heading = "Security")]
    grpc_use_ssl_mutual: bool = false, "QUINTET_GRPC_USE_SSL_MUTUAL";
    /// Certificate (PEM) of the gRPC listeners; ignored without --grpc-use-ssl or --grpc-use-ssl-mutual
    #[arg(value_name = "FILE", help_heading = "Security")]
    grpc_server_cert: PathBuf = PathBuf::new(), "QUINTET_GRPC_SERVER_CERT";
    /// Key (PEM, not encrypted) of --grpc-server-cert
    #[arg(value_name = "FILE", help_heading = "Security")]
    grpc_server_key: PathBuf = PathBuf::new(), "QUINTET_GRPC_SERVER_KEY";
    /// Authorities (PEM) of client certificates; used with --grpc-use-ssl-mutual only
    #[arg(value_name = "FILE", help_heading = "Security")]
    grpc_root_cert: PathBuf = PathBuf::new(), "QUINTET_GRPC_ROOT_CERT";
    /// Seconds that a TLS handshake may take, so that a silent client does not keep a connection [default: 30]
    #[arg(value_name = "SECONDS", help_heading = "Limits")]
    tls_handshake_timeout_secs: u64 = 30, "QUINTET_TLS_HANDSHAKE_TIMEOUT_SECS";
    /// File with bearer tokens, one on each line (# starts a comment): each request over HTTP and gRPC, those for metrics included, must bring one as 'Authorization: Bearer TOKEN'; only the server's health (live, ready) needs none; read again when it changes [default: no token is needed]
    #[arg(value_name = "FILE", help_heading = "Security")]
    auth_token_file: PathBuf = PathBuf::new(), "QUINTET_AUTH_TOKEN_FILE";
    /// Groups of the HTTP API that need the header KEY with this VALUE, as API,API:KEY=VALUE; may be repeated. Groups are health, metadata, inference, shared-memory, model-config, model-repository, statistics, trace, logging
    #[arg(value_name = "API,...:KEY=VALUE", help_heading = "Security")]
    http_restricted_api: Vec<String> = Vec::new(), "QUINTET_HTTP_RESTRICTED_API";
    /// The same for gRPC, where the header is triton-grpc-protocol-KEY; may be repeated
    #[arg(value_name = "API,...:KEY=VALUE", help_heading = "Security")]
    grpc_restricted_protocol: Vec<String> = Vec::new(), "QUINTET_GRPC_RESTRICTED_PROTOCOL";
    /// Sites whose pages may call the server from a browser, such as https://example.com, or * for every site; on loopback, their names are also accepted as the server's; separated by commas [default: none, so that no page that a user visits can run a model]
    #[arg(value_name = "ORIGIN", value_delimiter = ',', help_heading = "Security")]
    allow_origin: Vec<String> = Vec::new(), "QUINTET_ALLOW_ORIGIN";
}
