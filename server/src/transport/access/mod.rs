//! Who may do what on a listener: TLS, bearer tokens, restricted groups of the API, and the sites whose pages may call.
//!
//! One check of a request's head, before its body is read, serves HTTP and gRPC alike.

pub mod any_certificate;
mod group;
mod origin;
mod refusal;
mod reload;
mod restricted;
mod tls;
mod tokens;

use std::sync::Arc;

use http::{HeaderMap, header, request};

pub use self::{
    origin::{OriginError, Sites},
    refusal::Refusal,
    reload::{Reload, Reloaded, watch},
    restricted::{Restricted, RestrictedError},
    tls::{Named, Tls, TlsError, TlsFiles},
    tokens::{Tokens, TokensError},
};

/// What guards a listener. The default guards nothing.
#[derive(Clone, Default)]
pub struct Access(Arc<Rules>);

/// The rules of a listener.
#[derive(Default)]
pub struct Rules {
    /// TLS, instead of plain TCP.
    pub tls: Option<Tls>,
    /// The bearer tokens, one of which each request must bring, except for those that ask for health.
    pub tokens: Option<Arc<Reloaded<Tokens>>>,
    /// The groups of the API that need a header.
    pub restricted: Restricted,
    /// The sites whose pages may call; `None` does not look at sites.
    pub sites: Option<Sites>,
}

impl From<Rules> for Access {
    fn from(rules: Rules) -> Self {
        Self(Arc::new(rules))
    }
}

impl Access {
    /// TLS, if the listener speaks it.
    pub fn tls(&self) -> Option<&Tls> {
        self.0.tls.as_ref()
    }

    /// Whether a request may be carried out. It reads only the head.
    ///
    /// # Errors
    /// The reason, for the client.
    pub fn check(&self, head: &request::Parts) -> Result<(), Refusal> {
        self.check_site(head)?;
        let Rules { tokens, restricted, .. } = &*self.0;
        let path = head.uri.path();
        if let Some(tokens) = tokens
            && !group::is_open(path)
        {
            tokens.current().check(bearer(&head.headers))?;
        }
        restricted.check(path, &head.headers)
    }

    /// Whether a request comes from a page that may call, or from no page. A browser asks that without a token.
    ///
    /// # Errors
    /// [`Refusal::Site`].
    pub fn check_site(&self, head: &request::Parts) -> Result<(), Refusal> {
        self.0.sites.as_ref().map_or(Ok(()), |sites| sites.check(head))
    }

    /// The origin of the page that sends a request. The answer to a page that may call names it, or the browser keeps the
    /// answer from a page of another site (CORS).
    pub fn origin<'a>(&self, head: &'a request::Parts) -> Option<&'a http::HeaderValue> {
        self.0.sites.as_ref()?;
        head.headers.get(header::ORIGIN)
    }
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}
