//! TLS: trusted authorities and timed handshakes.
//!
//! Sessions are never resumed, so that each connection pays for a full handshake.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, AlertDescription, CertificateError, ClientConfig, ProtocolVersion, RootCertStore,
        client::Resumption,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use crate::{
    client::{call::HttpVersion, stream::Stream},
    model::connection::TlsVersion,
};

/// Why TLS failed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file has no usable certificate of an authority.
    #[error("{path} has no usable certificate: {reason}; give a file in PEM form")]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// rustls cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
    /// No trusted authority signed the server's certificate.
    #[error(
        "no trusted authority signed the server's certificate; give the certificate of its authority with --ca-file FILE"
    )]
    UnknownAuthority,
    /// The certificate is for another name.
    #[error("the server's certificate is not for `{host}`: {reason}; use an address with a name in the certificate")]
    OtherName {
        /// The name in the address.
        host: String,
        /// rustls's error.
        reason: String,
    },
    /// The host is not valid in a certificate.
    #[error("`{0}` is not a name that a certificate can contain; use a host name or an IP address")]
    InvalidName(String),
    /// The server does not offer HTTP/2, which gRPC needs.
    #[error("the server offers no HTTP/2 over TLS (ALPN h2), which gRPC needs")]
    NoHttp2,
    /// The handshake failed.
    #[error("TLS handshake failed: {0}")]
    Handshake(io::Error),
}

/// Trusted authorities.
#[derive(Clone, Debug)]
pub struct Trust {
    authorities: Arc<RootCertStore>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.authorities.roots == other.authorities.roots
    }
}

impl Eq for Trust {}

impl Trust {
    /// The public authorities that browsers trust.
    ///
    /// # Errors
    /// [`TlsError::Setup`].
    pub fn public() -> Result<Self, TlsError> {
        Self::new(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
    }

    /// Only the authorities in a PEM file.
    ///
    /// # Errors
    /// When it has no certificate that can be used.
    pub fn from_file(path: &Path) -> Result<Self, TlsError> {
        let unusable = |reason: String| TlsError::Authority { path: path.to_owned(), reason };
        let mut authorities = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unusable(e.to_string()))? {
            let certificate = certificate.map_err(|e| unusable(e.to_string()))?;
            authorities.add(certificate).map_err(|e| unusable(e.to_string()))?;
        }
        if authorities.is_empty() {
            return Err(unusable("it contains none".into()));
        }
        Self::new(authorities)
    }

    fn new(authorities: RootCertStore) -> Result<Self, TlsError> {
        let authorities = Arc::new(authorities);
        let mut http1 = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_root_certificates(Arc::clone(&authorities))
            .with_no_client_auth();
        http1.resumption = Resumption::disabled();
        let mut http2 = http1.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        http2.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { authorities, http1: Arc::new(http1), http2: Arc::new(http2) })
    }

    /// Performs the TLS handshake with a host on a new stream.
    ///
    /// # Errors
    /// [`TlsError`].
    pub async fn handshake<S: Stream>(
        &self,
        host: &str,
        version: HttpVersion,
        stream: S,
    ) -> Result<(TlsStream<S>, Handshake), TlsError> {
        let config = match version {
            HttpVersion::Http1 => &self.http1,
            HttpVersion::Http2 => &self.http2,
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::InvalidName(host.to_owned()))?;
        let began = Instant::now();
        let connected = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
        let stream = connected.map_err(|error| handshake_error(host, error))?;
        let ended = Instant::now();
        let session = stream.get_ref().1;
        if version == HttpVersion::Http2 && session.alpn_protocol() != Some(b"h2") {
            return Err(TlsError::NoHttp2);
        }
        let version = match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => TlsVersion::V1_2,
            _ => TlsVersion::V1_3,
        };
        Ok((stream, Handshake { began, ended, version }))
    }
}

/// A completed handshake.
#[derive(Clone, Copy, Debug)]
pub struct Handshake {
    /// Start, when the stream was open.
    pub began: Instant,
    /// End, when a request could be sent.
    pub ended: Instant,
    /// The negotiated version.
    pub version: TlsVersion,
}

/// Maps errors of rustls to errors with a remedy.
fn handshake_error(host: &str, error: io::Error) -> TlsError {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => TlsError::UnknownAuthority,
        Some(rustls::Error::InvalidCertificate(
            reason @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }),
        )) => TlsError::OtherName { host: host.to_owned(), reason: reason.to_string() },
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => TlsError::NoHttp2,
        _ => TlsError::Handshake(error),
    }
}
