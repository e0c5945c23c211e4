//! Who may do what on the listeners of the process, from the settings.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::ensure;

use crate::{
    process::settings::Access as Settings,
    transport::{
        access::{Access, Named, Reload, Reloaded, Restricted, Rules, Sites, Tls, TlsFiles, Tokens, watch},
        listener::Address,
    },
};

/// What the listeners of a protocol share.
struct Protocol {
    tls: Option<Tls>,
    restricted: Restricted,
    /// Whether each client must have a certificate.
    asks_for_certificates: bool,
}

/// Who may do what on the listeners of the process.
pub struct AccessControl {
    http: Protocol,
    grpc: Protocol,
    tokens: Option<Arc<Reloaded<Tokens>>>,
    origins: Vec<String>,
}

impl AccessControl {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// When a file cannot be used, or a setting is wrong or lacks its counterpart. The text has the remedy.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let restricted = Restricted::http(&settings.http_restricted_api)?;
        let (tls, asks_for_certificates) = (http_tls(settings)?, given(&settings.http_tls_client_ca));
        let http = Protocol { tls, restricted, asks_for_certificates };
        let restricted = Restricted::grpc(&settings.grpc_restricted_protocol)?;
        let (tls, asks_for_certificates) = (grpc_tls(settings)?, settings.grpc_use_ssl_mutual);
        let grpc = Protocol { tls, restricted, asks_for_certificates };
        let file = &settings.auth_token_file;
        let tokens = given(file).then(|| Tokens::from_file(file)).transpose()?;
        // Checked here, so that a mistake ends the start.
        Sites::new(&settings.allow_origin, true)?;
        Ok(Self { http, grpc, tokens, origins: settings.allow_origin.clone() })
    }

    /// Whether strangers cannot use an HTTP listener: a request needs a token or a certificate.
    pub fn protects_http(&self) -> bool {
        self.tokens.is_some() || self.http.asks_for_certificates
    }

    /// The same for a gRPC listener.
    pub fn protects_grpc(&self) -> bool {
        self.tokens.is_some() || self.grpc.asks_for_certificates
    }

    /// Who may do what on an HTTP listener at this address.
    ///
    /// # Errors
    /// When an origin is wrong.
    pub fn http(&self, address: &Address) -> anyhow::Result<Access> {
        let on_loopback = matches!(address, Address::Tcp(address) if address.ip().to_canonical().is_loopback());
        self.listener(&self.http, on_loopback)
    }

    /// Who may do what on a gRPC listener. Any name may be used for it: browsers do not speak HTTP/2 without TLS, and with TLS
    /// the certificate has the name.
    ///
    /// # Errors
    /// As [`Self::http`].
    pub fn grpc(&self) -> anyhow::Result<Access> {
        self.listener(&self.grpc, false)
    }

    fn listener(&self, protocol: &Protocol, only_local_names: bool) -> anyhow::Result<Access> {
        Ok(Access::from(Rules {
            tls: protocol.tls.clone(),
            tokens: self.tokens.clone(),
            restricted: protocol.restricted.clone(),
            sites: Some(Sites::new(&self.origins, only_local_names)?),
        }))
    }

    /// Reads the files again when they change, for ever.
    pub fn watch(&self) -> impl Future<Output = ()> + use<> {
        let mut files: Vec<Arc<dyn Reload>> = Vec::new();
        for tls in [&self.http.tls, &self.grpc.tls].into_iter().flatten() {
            files.push(tls.reloaded());
        }
        if let Some(tokens) = &self.tokens {
            files.push(Arc::clone(tokens) as Arc<dyn Reload>);
        }
        watch(files)
    }
}

fn given(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

fn named(path: &Path, flag: &'static str) -> Named {
    Named { path: path.to_owned(), flag }
}

fn http_tls(settings: &Settings) -> anyhow::Result<Option<Tls>> {
    let Settings { http_tls_cert: cert, http_tls_key: key, http_tls_client_ca: authorities, .. } = settings;
    ensure!(given(cert) || !given(key), "--http-tls-key needs --http-tls-cert: give the key's certificate");
    ensure!(given(cert) || !given(authorities), "--http-tls-client-ca needs --http-tls-cert and --http-tls-key");
    if !given(cert) {
        return Ok(None);
    }
    ensure!(given(key), "--http-tls-cert needs --http-tls-key: give the certificate's key");
    let files = TlsFiles {
        certificate: named(cert, "--http-tls-cert"),
        key: named(key, "--http-tls-key"),
        client_authorities: given(authorities).then(|| named(authorities, "--http-tls-client-ca")),
    };
    Ok(Some(Tls::new(files, "http/1.1", timeout(settings))?))
}

fn grpc_tls(settings: &Settings) -> anyhow::Result<Option<Tls>> {
    let Settings { grpc_server_cert: cert, grpc_server_key: key, grpc_root_cert: authorities, .. } = settings;
    let mutual = settings.grpc_use_ssl_mutual;
    if !mutual && !settings.grpc_use_ssl {
        for (path, flag) in [(cert, "cert"), (key, "key")] {
            if given(path) {
                tracing::warn!("--grpc-server-{flag} is ignored without --grpc-use-ssl");
            }
        }
        return Ok(None);
    }
    ensure!(given(cert) && given(key), "--grpc-use-ssl needs --grpc-server-cert and --grpc-server-key");
    ensure!(!mutual || given(authorities), "--grpc-use-ssl-mutual needs --grpc-root-cert, the clients' authorities");
    let files = TlsFiles {
        certificate: named(cert, "--grpc-server-cert"),
        key: named(key, "--grpc-server-key"),
        client_authorities: mutual.then(|| named(authorities, "--grpc-root-cert")),
    };
    Ok(Some(Tls::new(files, "h2", timeout(settings))?))
}

fn timeout(settings: &Settings) -> Duration {
    Duration::from_secs(settings.tls_handshake_timeout_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(settings: &Settings) -> String {
        format!("{:#}", AccessControl::new(settings).err().unwrap())
    }

    #[test]
    fn half_of_a_setting_is_refused_with_the_other_half() {
        let settings = Settings::default();
        let http = Settings { http_tls_cert: "c".into(), ..settings.clone() };
        assert!(refusal(&http).contains("--http-tls-cert needs --http-tls-key"));
        let http = Settings { http_tls_client_ca: "c".into(), ..settings.clone() };
        assert!(refusal(&http).contains("--http-tls-client-ca needs --http-tls-cert"));
        let grpc = Settings { grpc_use_ssl: true, ..settings.clone() };
        assert!(refusal(&grpc).contains("--grpc-use-ssl needs --grpc-server-cert"));
        let mutual = Settings {
            grpc_use_ssl_mutual: true,
            grpc_server_cert: "c".into(),
            grpc_server_key: "k".into(),
            ..settings.clone()
        };
        assert!(refusal(&mutual).contains("--grpc-use-ssl-mutual needs --grpc-root-cert"));
        let origin = Settings { allow_origin: vec!["example.com".into()], ..settings };
        assert!(refusal(&origin).contains("--allow-origin: 'example.com' is not an origin"));
    }

    #[test]
    fn nothing_is_guarded_by_default() {
        let access = AccessControl::new(&Settings::default()).unwrap_or_else(|error| panic!("{error}"));
        assert!(!access.protects_http() && !access.protects_grpc());
        assert!(access.grpc().is_ok_and(|access| access.tls().is_none()));
    }
}
