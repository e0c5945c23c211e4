//! Why a request may not be carried out, with its statuses in both protocols.

use http::StatusCode;
use tonic::Code;

/// Why a request may not be carried out. The text is for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It comes from a page of another site, or was sent to a name that is not the server's.
    #[error("{0}")]
    Site(String),
    /// It has no token.
    #[error("this server needs a token: send the header 'Authorization: Bearer TOKEN'")]
    NoToken,
    /// It has a token that is not valid.
    #[error("the token of the header 'Authorization' is not valid")]
    WrongToken,
    /// It lacks the header of a restricted group. `what` is Triton's word: `API` or `protocol`.
    #[error("This {what} is restricted, expecting header '{header}'")]
    Restricted {
        /// `API` over HTTP, `protocol` over gRPC.
        what: &'static str,
        /// The header's name.
        header: String,
    },
}

impl Refusal {
    /// The HTTP status.
    pub fn http(&self) -> StatusCode {
        match self {
            Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::Site(_) | Self::Restricted { .. } => StatusCode::FORBIDDEN,
        }
    }

    /// The gRPC status; Triton's for a restricted protocol.
    pub fn grpc(&self) -> Code {
        match self {
            Self::NoToken | Self::WrongToken => Code::Unauthenticated,
            Self::Site(_) => Code::PermissionDenied,
            Self::Restricted { .. } => Code::Unavailable,
        }
    }

    /// The value of `WWW-Authenticate` for a 401 (RFC 6750 §3).
    pub fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::NoToken => Some(r#"Bearer realm="quintet""#),
            Self::WrongToken => Some(r#"Bearer realm="quintet", error="invalid_token""#),
            Self::Site(_) | Self::Restricted { .. } => None,
        }
    }
}
