//! TLS on a listener: certificate, key and the authorities of client certificates, read again when their files change.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, RootCertStore, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
    },
    server::TlsStream,
};

use super::reload::{Reloaded, warn_if_readable_by_all};

/// The files of a listener's TLS, with the flags that name them.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate and those of its intermediate authorities, in PEM form.
    pub certificate: Named,
    /// The certificate's key, in PEM form.
    pub key: Named,
    /// The authorities of client certificates, in PEM form. With them, each client must have a certificate.
    pub client_authorities: Option<Named>,
}

/// A file, and the flag that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The file.
    pub path: PathBuf,
    /// The flag.
    pub flag: &'static str,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.flag)
    }
}

/// Files that TLS cannot use. The text names file, flag and remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("TLS: {0}")]
pub struct TlsError(String);

/// TLS on a listener.
#[derive(Clone)]
pub struct Tls {
    config: Arc<Reloaded<ServerConfig>>,
    handshake_timeout: Duration,
}

impl Tls {
    /// TLS with these files, for a listener that speaks `protocol` (its name in ALPN: `http/1.1` or `h2`). A handshake may
    /// take `handshake_timeout`.
    ///
    /// # Errors
    /// When a file cannot be read or used, or the key does not fit the certificate.
    pub fn new(files: TlsFiles, protocol: &'static str, handshake_timeout: Duration) -> Result<Self, TlsError> {
        warn_if_readable_by_all(&files.key.path);
        let named = [Some(&files.certificate), Some(&files.key), files.client_authorities.as_ref()];
        let paths = named.into_iter().flatten().map(|named| named.path.clone()).collect();
        let make = move |contents: &[Vec<u8>]| configure(&files, contents, protocol);
        Ok(Self { config: Arc::new(Reloaded::new(paths, make).map_err(TlsError)?), handshake_timeout })
    }

    /// The files, which [`super::watch`] reads again.
    pub fn reloaded(&self) -> Arc<Reloaded<ServerConfig>> {
        Arc::clone(&self.config)
    }

    /// Performs the handshake on a new connection, with the files as last read.
    ///
    /// # Errors
    /// When it fails or takes too long.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let handshake = TlsAcceptor::from(self.config.current()).accept(stream);
        match tokio::time::timeout(self.handshake_timeout, handshake).await {
            Ok(outcome) => outcome,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long")),
        }
    }
}

/// The configuration with these contents of the files, in the order of [`TlsFiles`].
fn configure(files: &TlsFiles, contents: &[Vec<u8>], protocol: &str) -> Result<ServerConfig, String> {
    let [certificate, key, authorities @ ..] = contents else { return Err("files are missing".into()) };
    let chain = certificates(&files.certificate, certificate)?;
    let key = private_key(&files.key, key)?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match (&files.client_authorities, authorities) {
        (Some(named), [content, ..]) => builder.with_client_cert_verifier(verifier(named, content, provider)?),
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            format!(
                "the key {} does not belong to the certificate {}: give both of one pair",
                files.key, files.certificate
            )
        }
        error => format!("{} and {} cannot be used: {error}", files.certificate, files.key),
    })?;
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Ok(config)
}

fn certificates(named: &Named, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
    let found = found.map_err(|error| format!("{named} is not PEM: {error}"))?;
    if found.is_empty() {
        return Err(format!("{named} has no certificate: it needs a block BEGIN CERTIFICATE (PEM)"));
    }
    Ok(found)
}

fn private_key(named: &Named, content: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let text = String::from_utf8_lossy(content);
    if text.contains("ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(format!(
            "the key in {named} is encrypted: write it without a passphrase, e.g. with `openssl pkey`"
        ));
    }
    PrivateKeyDer::from_pem_slice(content)
        .map_err(|error| format!("{named} has no private key: it needs a block BEGIN PRIVATE KEY (PEM): {error}"))
}

fn verifier(
    named: &Named,
    content: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    let mut authorities = RootCertStore::empty();
    for certificate in certificates(named, content)? {
        authorities.add(certificate).map_err(|error| format!("{named} has a certificate of no use: {error}"))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider)
        .build()
        .map_err(|error| format!("{named} cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::{super::reload::Reload as _, *};

    fn pair() -> CertifiedKey<rcgen::KeyPair> {
        generate_simple_self_signed(["localhost".to_owned()]).unwrap()
    }

    fn files(folder: &Path) -> TlsFiles {
        TlsFiles {
            certificate: Named { path: folder.join("cert.pem"), flag: "--http-tls-cert" },
            key: Named { path: folder.join("key.pem"), flag: "--http-tls-key" },
            client_authorities: None,
        }
    }

    fn tls(files: &TlsFiles) -> Result<Tls, String> {
        Tls::new(files.clone(), "http/1.1", Duration::from_secs(5)).map_err(|error| error.to_string())
    }

    #[test]
    fn errors_name_file_and_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let refusal = |files: &TlsFiles, certificate: &str, key: &str| {
            fs::write(&files.certificate.path, certificate).unwrap();
            fs::write(&files.key.path, key).unwrap();
            tls(files).err().unwrap()
        };
        assert!(tls(&files).err().unwrap().contains("cannot read "));
        let (first, second) = (pair(), pair());
        let (certificate, key) = (first.cert.pem(), first.signing_key.serialize_pem());
        for (certificate, key, flag, reason) in [
            ("", &*key, "--http-tls-cert", "has no certificate"),
            (&*key, &*key, "--http-tls-cert", "has no certificate"),
            (&*certificate, "", "--http-tls-key", "has no private key"),
            (&*certificate, "-----BEGIN ENCRYPTED PRIVATE KEY-----", "--http-tls-key", "is encrypted"),
            (
                &*certificate,
                &*second.signing_key.serialize_pem(),
                "--http-tls-key",
                "does not belong to the certificate",
            ),
        ] {
            let refusal = refusal(&files, certificate, key);
            assert!(refusal.contains(flag) && refusal.contains(reason), "{refusal}");
        }
        let authorities = Named { path: folder.path().join("none.pem"), flag: "--http-tls-client-ca" };
        fs::write(&authorities.path, "").unwrap();
        let files = TlsFiles { client_authorities: Some(authorities), ..files };
        let refusal = refusal(&files, &certificate, &key);
        assert!(refusal.contains("--http-tls-client-ca") && refusal.contains("has no certificate"), "{refusal}");
    }

    #[test]
    fn a_new_pair_takes_effect_and_half_of_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let write = |pair: &CertifiedKey<rcgen::KeyPair>, half: bool| {
            fs::write(&files.certificate.path, pair.cert.pem()).unwrap();
            if !half {
                fs::write(&files.key.path, pair.signing_key.serialize_pem()).unwrap();
            }
        };
        write(&pair(), false);
        let tls = tls(&files).unwrap();
        let first = tls.config.current();
        let next = pair();
        write(&next, true);
        tls.config.reload();
        assert!(Arc::ptr_eq(&first, &tls.config.current()));
        write(&next, false);
        tls.config.reload();
        assert!(!Arc::ptr_eq(&first, &tls.config.current()));
    }

    #[tokio::test]
    async fn a_handshake_that_does_not_proceed_ends() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let pair = pair();
        fs::write(&files.certificate.path, pair.cert.pem()).unwrap();
        fs::write(&files.key.path, pair.signing_key.serialize_pem()).unwrap();
        let (_client, server) = tokio::io::duplex(64);
        let tls = Tls { handshake_timeout: Duration::ZERO, ..tls(&files).unwrap() };
        let error = tls.accept(server).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
