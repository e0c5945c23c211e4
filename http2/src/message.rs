//! HTTP messages as fields: a request's head from its field section, a response's head to fields (RFC 9113 §8).

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{self, Entry},
    request,
    uri::PathAndQuery,
};

/// Bytes that a field counts in addition to its name and value (RFC 9113 §6.5.2).
const FIELD_OVERHEAD_BYTES: usize = 32;

/// Fields that only HTTP/1 may have (RFC 9113 §8.2.2).
const CONNECTION_SPECIFIC: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Why a field section is not a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// It breaks a rule of RFC 9113 §8.
    Malformed,
    /// It exceeds the limit, as RFC 9113 §6.5.2 counts its size.
    TooLarge,
}

/// Builds a request's head from its fields.
pub(crate) struct RequestBuilder {
    method: Option<Method>,
    path: Option<PathAndQuery>,
    has_scheme: bool,
    has_authority: bool,
    headers: HeaderMap,
    bytes: usize,
    max_bytes: usize,
    is_malformed: bool,
}

impl RequestBuilder {
    /// For a field section of at most `max_bytes`.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            method: None,
            path: None,
            has_scheme: false,
            has_authority: false,
            headers: HeaderMap::new(),
            bytes: 0,
            max_bytes,
            is_malformed: false,
        }
    }

    /// Adds the next field.
    pub(crate) fn add(&mut self, name: Bytes, value: Bytes) {
        self.bytes += name.len() + value.len() + FIELD_OVERHEAD_BYTES;
        if self.bytes <= self.max_bytes && self.try_add(name, value).is_none() {
            self.is_malformed = true;
        }
    }

    /// `None` makes the request malformed.
    fn try_add(&mut self, name: Bytes, value: Bytes) -> Option<()> {
        match name.strip_prefix(b":") {
            // RFC 9113 §8.3: a pseudo-header field after a regular field, a second one of the same name, and one that
            // is not defined for requests MUST be treated as malformed.
            Some(_) if !self.headers.is_empty() => return None,
            Some(b"method") if self.method.is_none() => self.method = Some(Method::from_bytes(&value).ok()?),
            // RFC 9113 §8.3.1: :path MUST NOT be empty, which `PathAndQuery` refuses.
            Some(b"path") if self.path.is_none() => self.path = Some(PathAndQuery::from_maybe_shared(value).ok()?),
            Some(b"scheme") if !self.has_scheme => self.has_scheme = true,
            Some(b"authority") if !self.has_authority => self.has_authority = true,
            Some(_) => return None,
            None => self.add_regular(&name, value)?,
        }
        Some(())
    }

    fn add_regular(&mut self, name: &[u8], value: Bytes) -> Option<()> {
        // RFC 9113 §8.2.1: names MUST NOT contain control characters, spaces, upper case, bytes from 0x7f on or colons.
        let name = HeaderName::from_lowercase(name).ok()?;
        // RFC 9113 §8.2.2: connection-specific fields MUST be treated as malformed; TE MUST contain only "trailers".
        if CONNECTION_SPECIFIC.contains(&name.as_str()) || (name == header::TE && &value[..] != b"trailers") {
            return None;
        }
        // RFC 9113 §8.2.1: values MUST NOT contain NUL, LF or CR.
        let value = HeaderValue::from_maybe_shared(value).ok()?;
        match self.headers.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(value);
            }
            Entry::Occupied(mut entry) => {
                entry.append(value);
            }
        }
        Some(())
    }

    /// The head, after its last field.
    pub(crate) fn finish(self) -> Result<request::Parts, HeadError> {
        if self.bytes > self.max_bytes {
            return Err(HeadError::TooLarge);
        }
        // RFC 9113 §8.3.1: requests MUST have exactly one valid value for :method, :scheme and :path.
        let (Some(method), Some(path), true, false) = (self.method, self.path, self.has_scheme, self.is_malformed)
        else {
            return Err(HeadError::Malformed);
        };
        let (mut head, ()) = http::Request::new(()).into_parts();
        head.method = method;
        // RFC 9113 §8.3.1: Host MUST NOT determine the target if there is :authority: neither does.
        head.uri = Uri::from(path);
        head.version = http::Version::HTTP_2;
        head.headers = self.headers;
        Ok(head)
    }
}

/// The fields of a response's head.
pub(crate) fn response_fields<'a>(
    status: &'a StatusCode,
    headers: &'a HeaderMap,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    // RFC 9113 §8.3.2: :status MUST be in every response. RFC 9113 §8.3: it comes before the regular fields.
    std::iter::once((&b":status"[..], status.as_str().as_bytes())).chain(fields(headers))
}

/// Headers or trailers as fields.
// RFC 9113 §8.2: names MUST be in lower case, as those of `HeaderMap` are.
// RFC 9113 §8.1: trailers MUST NOT have pseudo-header fields, which `HeaderMap` cannot hold.
pub(crate) fn fields(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers
        .iter()
        // RFC 9113 §8.2.2: an endpoint MUST NOT generate connection-specific fields.
        .filter(|(name, _)| !CONNECTION_SPECIFIC.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&'static str, &'static str)]) -> Result<request::Parts, HeadError> {
        let mut request = RequestBuilder::new(16 << 10);
        for (name, value) in fields {
            request.add(Bytes::from_static(name.as_bytes()), Bytes::from_static(value.as_bytes()));
        }
        request.finish()
    }

    const LINE: [(&str, &str); 3] = [(":method", "POST"), (":scheme", "http"), (":path", "/a/b?c")];

    #[test]
    fn builds_a_head_from_its_fields() {
        let head =
            head(&[&LINE[..], &[(":authority", "h"), ("te", "trailers"), ("x", "1"), ("x", "2")]].concat()).unwrap();
        assert_eq!((head.method.as_str(), head.uri.path(), head.uri.query()), ("POST", "/a/b", Some("c")));
        assert_eq!(head.headers.get_all("x").iter().collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn rejects_malformed_requests() {
        for without in 0..3 {
            let mut line = LINE.to_vec();
            line.remove(without);
            assert_eq!(head(&line).unwrap_err(), HeadError::Malformed, "{line:?}");
        }
        for more in [
            (":path", "/twice"),
            (":status", "200"),
            ("Upper", "case"),
            ("connection", "close"),
            ("te", "gzip"),
            ("x", "a\nb"),
            ("", "nameless"),
        ] {
            assert_eq!(head(&[&LINE[..], &[more]].concat()).unwrap_err(), HeadError::Malformed, "{more:?}");
        }
        let empty = [(":method", "POST"), (":scheme", "http"), (":path", "")];
        assert_eq!(head(&empty).unwrap_err(), HeadError::Malformed);
        let late = head(&[&LINE[..], &[("x", "1"), (":authority", "late")]].concat());
        assert_eq!(late.unwrap_err(), HeadError::Malformed);
    }

    #[test]
    fn a_head_has_a_limit() {
        let long = "a".repeat(15_000).leak();
        assert!(head(&[&LINE[..], &[("x", long)]].concat()).is_ok());
        assert_eq!(head(&[&LINE[..], &[("x", long), ("x", long)]].concat()).unwrap_err(), HeadError::TooLarge);
    }

    #[test]
    fn responses_have_no_connection_specific_fields() {
        let headers = [("x", "1"), ("connection", "close"), ("upgrade", "h2c")];
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        let fields: Vec<_> = response_fields(&StatusCode::OK, &HeaderMap::from_iter(headers))
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        assert_eq!(fields, [(b":status".to_vec(), b"200".to_vec()), (b"x".to_vec(), b"1".to_vec())]);
    }
}
