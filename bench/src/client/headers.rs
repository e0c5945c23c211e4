//! Headers that the user adds to every request, from the command line or from a file.

use std::{fmt, fs, io, str::FromStr};

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Headers that the client sets itself.
const OWN: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static(quintet_proto::INFERENCE_HEADER_CONTENT_LENGTH),
];

/// Headers whose values are secrets. The report keeps the command line, so they are read from files only.
const SECRET: [HeaderName; 3] = [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE];

/// One value of `--header`: `Name: value`, or `@FILE` with one header on each line.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub HeaderMap);

/// Why a value of `--header` is refused.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// It is not `Name: value`.
    #[error("`{0}` is not a header: write 'Name: value', or @FILE for a file with one header on each line")]
    Form(String),
    /// The client sets it itself.
    #[error("the header {0} belongs to the protocol: it is set by this program")]
    Own(HeaderName),
    /// It is a secret.
    #[error(
        "{0} would be kept in the report with the command line: write it to a file and give --header @FILE (for a bearer \
         token --auth-token-file FILE)"
    )]
    Secret(HeaderName),
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// The system's error.
        source: io::Error,
    },
}

impl FromStr for Headers {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<Self, HeaderError> {
        let Some(path) = text.strip_prefix('@') else {
            let (name, value) = parse(text)?;
            if SECRET.contains(&name) {
                return Err(HeaderError::Secret(name));
            }
            return Ok(Self(HeaderMap::from_iter([(name, value)])));
        };
        let file = fs::read_to_string(path).map_err(|source| HeaderError::File { path: path.to_owned(), source })?;
        let lines = file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(parse).collect::<Result<HeaderMap, _>>().map(Self)
    }
}

/// Parses `Name: value`.
fn parse(text: &str) -> Result<(HeaderName, HeaderValue), HeaderError> {
    let malformed = || HeaderError::Form(text.to_owned());
    let (name, value) = text.split_once(':').ok_or_else(malformed)?;
    let name: HeaderName = name.trim().parse().map_err(|_| malformed())?;
    if OWN.contains(&name) || name.as_str().starts_with("grpc-") {
        return Err(HeaderError::Own(name));
    }
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| malformed())?;
    // It is not printed with the request.
    value.set_sensitive(true);
    Ok((name, value))
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Headers").field(&self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(text: &str) -> String {
        text.parse::<Headers>().unwrap_err().to_string()
    }

    #[test]
    fn headers_come_from_the_command_line_or_a_file() {
        let headers: Headers = "X-Route:  canary ".parse().unwrap();
        assert_eq!(headers.0["x-route"], "canary");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("headers");
        fs::write(&file, "# secret\nAuthorization: Basic abc\n\nHost: a.example\n").unwrap();
        let headers: Headers = format!("@{}", file.display()).parse().unwrap();
        assert_eq!(
            (headers.0.len(), &headers.0["authorization"], &headers.0["host"]),
            (2, &HeaderValue::from_static("Basic abc"), &HeaderValue::from_static("a.example"))
        );
        assert!(!format!("{headers:?}").contains("abc"), "secrets are not printed");
    }

    #[test]
    fn the_protocols_headers_and_secrets_are_refused() {
        assert!(refusal("Content-Length: 1").contains("content-length belongs to the protocol"));
        assert!(refusal("grpc-timeout: 1S").contains("grpc-timeout"));
        assert!(refusal("authorization: Bearer x").contains("--header @FILE"));
        assert!(refusal("x").contains("`x` is not a header"));
        assert!(refusal("@/nowhere").starts_with("cannot read /nowhere: "));
    }

    proptest! {
        #[test]
        fn any_text_is_a_header_or_an_error(name in "[A-Za-z0-9_ -]{0,8}", value in "\\PC{0,8}") {
            if let Ok(Headers(headers)) = format!("{name}:{value}").parse::<Headers>() {
                prop_assert_eq!(headers.len(), 1);
                prop_assert!(headers.contains_key(name.trim()));
            }
        }
    }
}
