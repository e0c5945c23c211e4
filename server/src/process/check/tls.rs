//! TLS of the health check.

use std::{io, net::TcpStream, path::PathBuf, sync::Arc};

use anyhow::{Context as _, ensure};
use clap::Args;
use http::uri::Authority;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};

use crate::transport::access::any_certificate::AnyCertificate;

/// Whom to trust, and what to show.
#[derive(Debug, Args)]
pub(super) struct TlsArgs {
    /// Authorities (PEM) of the server's certificate; without them any certificate is accepted, as Kubernetes' probes do: no secret is sent
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// Certificate (PEM) to show to a server that asks for one
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Key (PEM) of --client-cert
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
}

impl TlsArgs {
    /// A connection to the server with this host, after the handshake of the first write.
    ///
    /// # Errors
    /// When a file cannot be used, or the host is not valid in a certificate.
    pub(super) fn connect(
        &self,
        host: &Authority,
        stream: TcpStream,
    ) -> anyhow::Result<StreamOwned<ClientConnection, TcpStream>> {
        let host = host.host().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).context("the host is not valid in a certificate")?;
        let connection = ClientConnection::new(Arc::new(self.config()?), name).context("cannot set up TLS")?;
        Ok(StreamOwned::new(connection, stream))
    }

    fn config(&self) -> anyhow::Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let builder = match &self.ca_file {
            Some(file) => builder.with_root_certificates(authorities(file)?),
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
        };
        match (&self.client_cert, &self.client_key) {
            (Some(cert), Some(key)) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
                let chain = chain.with_context(|| format!("--client-cert {}", cert.display()))?;
                let key =
                    PrivateKeyDer::from_pem_file(key).with_context(|| format!("--client-key {}", key.display()))?;
                builder.with_client_auth_cert(chain, key).context("--client-cert and --client-key cannot be used")
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }
}

fn authorities(file: &PathBuf) -> anyhow::Result<RootCertStore> {
    let name = || format!("--ca-file {}", file.display());
    let mut authorities = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).with_context(name)? {
        authorities.add(certificate.with_context(name)?).with_context(name)?;
    }
    ensure!(!authorities.is_empty(), "{} has no certificate", name());
    Ok(authorities)
}

/// Whether an error is the end of a connection without TLS's own end, which some servers leave out.
pub(super) fn is_unannounced_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}
