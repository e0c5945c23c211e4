//! HTTP messages as fields: a request's head from its field section, a response's head to fields (RFC 9113 §8).

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{self, Entry},
    request,
    uri::{self, Authority, PathAndQuery, Scheme},
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

/// A request's head.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) parts: request::Parts,
    /// Bytes of the body, if the head says it.
    pub(crate) content_length: Option<u64>,
}

/// A received field section: a request's head, or the trailers of one.
pub(crate) struct FieldSection {
    method: Option<Method>,
    path: Option<PathAndQuery>,
    scheme: Option<Scheme>,
    authority: Option<Bytes>,
    headers: HeaderMap,
    content_length: Option<u64>,
    bytes: usize,
    max_bytes: usize,
    is_malformed: bool,
}

impl FieldSection {
    /// One of at most `max_bytes`.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            method: None,
            path: None,
            scheme: None,
            authority: None,
            headers: HeaderMap::new(),
            content_length: None,
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
            Some(b"scheme") if self.scheme.is_none() => self.scheme = Some(scheme(&value)?),
            Some(b"authority") if self.authority.is_none() => {
                self.authority = Some(value).filter(|value| is_authority(value));
                self.authority.as_ref()?;
            }
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
        // RFC 9113 §8.2.1: values MUST NOT start or end with whitespace.
        if [value.first(), value.last()].into_iter().flatten().any(|byte| matches!(byte, b' ' | b'\t')) {
            return None;
        }
        if name == header::CONTENT_LENGTH {
            self.add_content_length(&value)?;
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

    /// RFC 9110 §8.6: digits; several that are not the same make a message invalid.
    fn add_content_length(&mut self, value: &[u8]) -> Option<()> {
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let length = std::str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()?;
        if self.content_length.is_some_and(|earlier| earlier != length) {
            return None;
        }
        self.content_length = Some(length);
        Some(())
    }

    /// The head of a request, after its last field.
    pub(crate) fn finish(mut self) -> Result<RequestHead, HeadError> {
        self.check_size()?;
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.uri = self.target().filter(|_| !self.is_malformed).ok_or(HeadError::Malformed)?;
        parts.method = self.method.ok_or(HeadError::Malformed)?;
        parts.version = http::Version::HTTP_2;
        join_cookies(&mut self.headers);
        parts.headers = self.headers;
        Ok(RequestHead { parts, content_length: self.content_length })
    }

    /// Checks trailers, after their last field.
    // RFC 9113 §8.1: trailers MUST NOT have pseudo-header fields, else the request is malformed.
    pub(crate) fn finish_trailers(self) -> Result<(), HeadError> {
        self.check_size()?;
        let is_without_pseudo_headers =
            self.method.is_none() && self.path.is_none() && self.scheme.is_none() && self.authority.is_none();
        if is_without_pseudo_headers && !self.is_malformed { Ok(()) } else { Err(HeadError::Malformed) }
    }

    fn check_size(&self) -> Result<(), HeadError> {
        if self.bytes > self.max_bytes { Err(HeadError::TooLarge) } else { Ok(()) }
    }

    /// What the request is for; `None` if it is malformed.
    // RFC 9113 §8.3.1: Host MUST NOT determine the target if there is :authority: it never does here.
    fn target(&mut self) -> Option<Uri> {
        let authority = self.authority.take();
        // Names that `http` does not take, such as those with percent signs, are left out of the target.
        let parsed = authority.clone().and_then(|authority| Authority::from_maybe_shared(authority).ok());
        // RFC 9113 §8.5: CONNECT MUST have :authority, and MUST NOT have :scheme or :path.
        if self.method == Some(Method::CONNECT) {
            let is_connect = self.scheme.is_none() && self.path.is_none();
            return parsed.filter(|_| is_connect).map(Uri::from);
        }
        // RFC 9113 §8.3.1: requests MUST have exactly one valid value for :method, :scheme and :path. :path MUST start
        // with a slash; it MUST be an asterisk for OPTIONS without a path.
        let (scheme, path) = (self.scheme.take()?, self.path.take()?);
        let is_asterisk = path.as_str() == "*" && self.method == Some(Method::OPTIONS);
        if !path.as_str().starts_with('/') && !is_asterisk {
            return None;
        }
        let mut target = uri::Parts::default();
        if parsed.is_some() && !is_asterisk {
            target.scheme = Some(scheme);
            target.authority = parsed;
        }
        target.path_and_query = Some(path);
        Uri::from_parts(target).ok()
    }
}

/// RFC 9113 §8.3.1: :scheme MUST be valid, as RFC 3986 §3.1 has it.
fn scheme(value: &[u8]) -> Option<Scheme> {
    let is_valid = value.first().is_some_and(u8::is_ascii_alphabetic)
        && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    Scheme::try_from(value).ok().filter(|_| is_valid)
}

/// RFC 9113 §8.3.1: :authority MUST NOT be empty or have user information: RFC 3986 §3.2 without it.
fn is_authority(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(byte))
}

/// RFC 9113 §8.2.3: several cookie fields MUST be joined before they are passed on.
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    if let (Some(_), Some(_)) = (cookies.next(), cookies.next()) {
        let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_maybe_shared(Bytes::from(cookies.join(&b"; "[..]))) {
            headers.insert(header::COOKIE, joined);
        }
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

    fn section(fields: &[(&'static str, &'static str)]) -> FieldSection {
        let mut section = FieldSection::new(16 << 10);
        for (name, value) in fields {
            section.add(Bytes::from_static(name.as_bytes()), Bytes::from_static(value.as_bytes()));
        }
        section
    }

    fn head(fields: &[(&'static str, &'static str)]) -> Result<request::Parts, HeadError> {
        section(fields).finish().map(|head| head.parts)
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
            ("x", " a"),
            ("x", "a\t"),
            ("", "nameless"),
            (":authority", ""),
            (":authority", "user@host"),
            (":authority", "a/b"),
            (":protocol", "websocket"),
            ("content-length", ""),
            ("content-length", "+1"),
            ("content-length", "1, 1"),
            ("content-length", "99999999999999999999"),
        ] {
            assert_eq!(head(&[&LINE[..], &[more]].concat()).unwrap_err(), HeadError::Malformed, "{more:?}");
        }
        let empty = [(":method", "POST"), (":scheme", "http"), (":path", "")];
        assert_eq!(head(&empty).unwrap_err(), HeadError::Malformed);
        let late = head(&[&LINE[..], &[("x", "1"), (":authority", "late")]].concat());
        assert_eq!(late.unwrap_err(), HeadError::Malformed);
    }

    #[test]
    fn schemes_and_paths_are_checked() {
        let with = |scheme, path| head(&[(":method", "OPTIONS"), (":scheme", scheme), (":path", path)]).is_ok();
        assert!(with("https", "/") && with("coap+tcp", "/?a") && with("http", "*"));
        assert!(!with("", "/") && !with("1a", "/") && !with("a b", "/") && !with("http", "a") && !with("http", "**"));
        assert!(head(&[(":method", "GET"), (":scheme", "http"), (":path", "*")]).is_err());
    }

    #[test]
    fn the_target_has_the_authority() {
        let target = |authority| head(&[&LINE[..], &[(":authority", authority)]].concat()).unwrap().uri.to_string();
        assert_eq!(target("h:80"), "http://h:80/a/b?c");
        assert_eq!(target("[::1]:80"), "http://[::1]:80/a/b?c");
        assert_eq!(target("a%2Fb"), "/a/b?c");
    }

    #[test]
    fn connect_has_an_authority_and_nothing_else() {
        let connect = [(":method", "CONNECT"), (":authority", "h:80")];
        assert_eq!(head(&connect).unwrap().uri.to_string(), "h:80");
        assert!(head(&connect[..1]).is_err());
        assert!(head(&[&connect[..], &[(":scheme", "http")]].concat()).is_err());
        assert!(head(&[&connect[..], &[(":path", "/")]].concat()).is_err());
    }

    #[test]
    fn cookies_are_joined() {
        let head = head(&[&LINE[..], &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")]].concat()).unwrap();
        assert_eq!(head.headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    #[test]
    fn the_content_length_is_a_number() {
        let length = |values: &[(&'static str, &'static str)]| {
            section(&[&LINE[..], values].concat()).finish().map(|head| head.content_length)
        };
        assert_eq!(length(&[]).unwrap(), None);
        assert_eq!(length(&[("content-length", "12"), ("content-length", "012")]).unwrap(), Some(12));
        assert_eq!(length(&[("content-length", "12"), ("content-length", "13")]).unwrap_err(), HeadError::Malformed);
    }

    #[test]
    fn trailers_are_checked() {
        assert!(section(&[("x", "1"), ("y", "2")]).finish_trailers().is_ok());
        for field in [(":path", "/"), (":status", "200"), ("connection", "close"), ("Upper", "1")] {
            assert_eq!(section(&[field]).finish_trailers(), Err(HeadError::Malformed), "{field:?}");
        }
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
