//! TLS: trusted authorities, and the timed handshake on a new stream.
//!
//! Every handshake is a full one: what a resumed session costs is another question than what a connection costs.

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

/// Why TLS is not spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of an authority cannot be used.
    #[error("{path} has no certificate that can be used: {reason}; it must be in PEM form")]
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
        "no known authority vouches for the server's certificate; give the certificate of its authority with --ca-file FILE"
    )]
    UnknownAuthority,
    /// The certificate is another server's.
    #[error("the server's certificate is not for `{host}`: {reason}; write the address with a name in the certificate")]
    OtherName {
        /// The name in the address.
        host: String,
        /// rustls's words.
        reason: String,
    },
    /// The name cannot be in a certificate.
    #[error("`{0}` is no name that a certificate can have")]
    NoName(String),
    /// gRPC needs HTTP/2.
    #[error("the server offers no HTTP/2 over TLS (ALPN h2), which gRPC needs")]
    NoHttp2,
    /// The handshake failed.
    #[error("TLS handshake: {0}")]
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
    /// The authorities that browsers believe.
    ///
    /// # Errors
    /// [`TlsError::Setup`].
    pub fn public() -> Result<Self, TlsError> {
        Self::new(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
    }

    /// The authorities in a PEM file, and no other.
    ///
    /// # Errors
    /// When it has no certificate that can be used.
    pub fn of_file(path: &Path) -> Result<Self, TlsError> {
        let unusable = |reason: String| TlsError::Authority { path: path.to_owned(), reason };
        let mut authorities = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unusable(e.to_string()))? {
            let certificate = certificate.map_err(|e| unusable(e.to_string()))?;
            authorities.add(certificate).map_err(|e| unusable(e.to_string()))?;
        }
        if authorities.is_empty() {
            return Err(unusable("there is none in it".into()));
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

    /// Speaks TLS on a fresh stream to a host.
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
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::NoName(host.to_owned()))?;
        let began = Instant::now();
        let connected = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
        let stream = connected.map_err(|error| refused(host, error))?;
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

/// A handshake that is over.
#[derive(Clone, Copy, Debug)]
pub struct Handshake {
    /// When it began: the stream was just opened.
    pub began: Instant,
    /// When the first byte of a request could leave.
    pub ended: Instant,
    /// The version agreed on.
    pub version: TlsVersion,
}

/// rustls's errors with their remedies.
fn refused(host: &str, error: io::Error) -> TlsError {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => TlsError::UnknownAuthority,
        Some(rustls::Error::InvalidCertificate(
            reason @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }),
        )) => TlsError::OtherName { host: host.to_owned(), reason: reason.to_string() },
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => TlsError::NoHttp2,
        _ => TlsError::Handshake(error),
    }
}
