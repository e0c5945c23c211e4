//! Heads: a request's from its fields, and an answer's as fields (RFC 9113, section 8).

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{self, Entry},
    request,
    uri::PathAndQuery,
};

use super::MAX_HEADER_LIST_BYTES;

/// What a field counts for beside its bytes (section 6.5.2).
const FIELD_OVERHEAD_BYTES: usize = 32;

/// Fields that only HTTP/1 may have (section 8.2.2).
const OF_A_CONNECTION: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// A head that cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// No HTTP request has such fields.
    Malformed,
    /// More than [`MAX_HEADER_LIST_BYTES`].
    TooLarge,
}

/// Takes a request's fields in their order.
#[derive(Default)]
pub(super) struct Request {
    method: Option<Method>,
    path: Option<PathAndQuery>,
    has_scheme: bool,
    has_authority: bool,
    headers: HeaderMap,
    bytes: usize,
    is_malformed: bool,
}

impl Request {
    /// The next field.
    pub(super) fn take(&mut self, name: Bytes, value: Bytes) {
        self.bytes += name.len() + value.len() + FIELD_OVERHEAD_BYTES;
        if self.bytes <= MAX_HEADER_LIST_BYTES as usize && self.add(name, value).is_none() {
            self.is_malformed = true;
        }
    }

    fn add(&mut self, name: Bytes, value: Bytes) -> Option<()> {
        match name.strip_prefix(b":") {
            // Those that make the request's line come first, and once.
            Some(_) if !self.headers.is_empty() => return None,
            Some(b"method") if self.method.is_none() => self.method = Some(Method::from_bytes(&value).ok()?),
            Some(b"path") if self.path.is_none() => self.path = Some(PathAndQuery::from_maybe_shared(value).ok()?),
            Some(b"scheme") if !self.has_scheme => self.has_scheme = true,
            Some(b"authority") if !self.has_authority => self.has_authority = true,
            Some(_) => return None,
            None => {
                let name = HeaderName::from_lowercase(&name).ok()?;
                if OF_A_CONNECTION.contains(&name.as_str()) || (name == header::TE && &value[..] != b"trailers") {
                    return None;
                }
                let value = HeaderValue::from_maybe_shared(value).ok()?;
                match self.headers.entry(name) {
                    Entry::Vacant(place) => {
                        place.insert(value);
                    }
                    Entry::Occupied(mut place) => {
                        place.append(value);
                    }
                }
            }
        }
        Some(())
    }

    /// The head, when its last field was taken.
    pub(super) fn finish(self) -> Result<request::Parts, Refused> {
        if self.bytes > MAX_HEADER_LIST_BYTES as usize {
            return Err(Refused::TooLarge);
        }
        let (Some(method), Some(path), true, false) = (self.method, self.path, self.has_scheme, self.is_malformed)
        else {
            return Err(Refused::Malformed);
        };
        let (mut head, ()) = http::Request::new(()).into_parts();
        head.method = method;
        head.uri = Uri::from(path);
        head.version = http::Version::HTTP_2;
        head.headers = self.headers;
        Ok(head)
    }
}

/// An answer's fields.
pub(super) fn of_answer<'a>(
    status: &'a StatusCode,
    headers: &'a HeaderMap,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    std::iter::once((&b":status"[..], status.as_str().as_bytes())).chain(fields(headers))
}

/// Headers or trailers as fields.
pub(super) fn fields(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers
        .iter()
        .filter(|(name, _)| !OF_A_CONNECTION.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&'static str, &'static str)]) -> Result<request::Parts, Refused> {
        let mut request = Request::default();
        for (name, value) in fields {
            request.take(Bytes::from_static(name.as_bytes()), Bytes::from_static(value.as_bytes()));
        }
        request.finish()
    }

    const LINE: [(&str, &str); 3] = [(":method", "POST"), (":scheme", "http"), (":path", "/a/b?c")];

    #[test]
    fn a_head_is_its_fields() {
        let head =
            head(&[&LINE[..], &[(":authority", "h"), ("te", "trailers"), ("x", "1"), ("x", "2")]].concat()).unwrap();
        assert_eq!((head.method.as_str(), head.uri.path(), head.uri.query()), ("POST", "/a/b", Some("c")));
        assert_eq!(head.headers.get_all("x").iter().collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn what_is_no_request_is_malformed() {
        for without in 0..3 {
            let mut line = LINE.to_vec();
            line.remove(without);
            assert_eq!(head(&line).unwrap_err(), Refused::Malformed, "{line:?}");
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
            assert_eq!(head(&[&LINE[..], &[more]].concat()).unwrap_err(), Refused::Malformed, "{more:?}");
        }
        assert_eq!(head(&[&LINE[..], &[("x", "1"), (":authority", "late")]].concat()).unwrap_err(), Refused::Malformed);
    }

    #[test]
    fn a_head_has_a_limit() {
        let long = "a".repeat(15_000).leak();
        assert!(head(&[&LINE[..], &[("x", long)]].concat()).is_ok());
        assert_eq!(head(&[&LINE[..], &[("x", long), ("x", long)]].concat()).unwrap_err(), Refused::TooLarge);
    }
}
