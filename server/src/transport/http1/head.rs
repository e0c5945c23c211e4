//! Parses the heads of plain requests, and writes the heads of responses.

use std::time::SystemTime;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request, response};
use quintet_proto::INFERENCE_HEADER_CONTENT_LENGTH;

/// The most headers of a plain request. A request with more is left to hyper.
const MAX_HEADERS: usize = 64;

/// The head of a request, as far as it was received.
pub(super) enum Parsed {
    /// The complete head of a plain request: the length of its body, and where the head ends.
    Plain { parts: Box<request::Parts>, length: usize, end: usize },
    /// An incomplete head.
    Partial,
    /// Any other request, malformed ones included.
    Unusual,
}

/// Parses a request's head. A request is plain if it is HTTP/1.1, GET or POST, with at most one `Content-Length` that has
/// only digits, no other framing, and no header that changes the connection.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => match plain(&request) {
            Some((parts, length)) => Parsed::Plain { parts: Box::new(parts), length, end },
            None => Parsed::Unusual,
        },
        Ok(httparse::Status::Partial) => Parsed::Partial,
        Err(_) => Parsed::Unusual,
    }
}

fn plain(request: &httparse::Request<'_, '_>) -> Option<(request::Parts, usize)> {
    let method = match request.method? {
        "POST" => Method::POST,
        "GET" => Method::GET,
        _ => return None,
    };
    if request.version? != 1 {
        return None;
    }
    let mut length = None;
    let mut headers = HeaderMap::with_capacity(request.headers.len());
    for header in &*request.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        match name {
            header::CONTENT_LENGTH if length.is_none() => length = Some(digits(header.value)?),
            header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::EXPECT | header::UPGRADE => return None,
            header::CONNECTION if !header.value.eq_ignore_ascii_case(b"keep-alive") => return None,
            _ => {}
        }
        headers.append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = method;
    parts.uri = request.path?.parse::<Uri>().ok()?;
    parts.headers = headers;
    Some((parts, length.unwrap_or(0)))
}

fn digits(value: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(value).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Where the binary tensors begin in a body (`Inference-Header-Content-Length`); 0 without that header.
pub(super) fn aligned_at(headers: &HeaderMap) -> usize {
    headers.get(INFERENCE_HEADER_CONTENT_LENGTH).and_then(|value| digits(value.as_bytes())).unwrap_or(0)
}

/// The head of a response. Without a length, its body is sent in chunks. `keep_alive` is whether the connection stays
/// open.
pub(super) fn print(parts: &response::Parts, length: Option<u64>, keep_alive: bool) -> Bytes {
    let mut out = BytesMut::with_capacity(512);
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(parts.status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(parts.status.canonical_reason().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
    let mut line = |name: &str, value: &[u8]| {
        out.put_slice(name.as_bytes());
        out.put_slice(b": ");
        out.put_slice(value);
        out.put_slice(b"\r\n");
    };
    for (name, value) in &parts.headers {
        // The framing is written below.
        if !matches!(*name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::CONNECTION) {
            line(name.as_str(), value.as_bytes());
        }
    }
    match length {
        Some(_) if parts.status == StatusCode::NO_CONTENT => {}
        Some(length) => line("content-length", length.to_string().as_bytes()),
        None => line("transfer-encoding", b"chunked"),
    }
    if !keep_alive {
        line("connection", b"close");
    }
    line("date", httpdate::fmt_http_date(SystemTime::now()).as_bytes());
    out.put_slice(b"\r\n");
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_a_plain_request() {
        let text =
            "POST /v2/models/a%20b/infer?x=1 HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\ncontent-length: 7\r\n\r\nbody";
        let Parsed::Plain { parts, length, end } = parse(text.as_bytes()) else { panic!("not plain") };
        assert_eq!((length, &text[end..]), (7, "body"));
        assert_eq!((parts.method, parts.uri.to_string()), (Method::POST, "/v2/models/a%20b/infer?x=1".to_owned()));
        assert_eq!(parts.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn a_length_has_only_digits() {
        assert_eq!([digits(b"0"), digits(b"12")], [Some(0), Some(12)]);
        assert_eq!(
            [digits(b""), digits(b"+1"), digits(b" 1"), digits(b"1,1"), digits(b"99999999999999999999")],
            [None; 5]
        );
    }

    #[test]
    fn a_responses_head_has_its_own_framing() {
        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.headers.insert("x", HeaderValue::from_static("y"));
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        let text = |length, keep_alive| String::from_utf8(print(&parts, length, keep_alive).to_vec()).unwrap();
        assert!(text(Some(3), true).starts_with("HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 3\r\ndate: "));
        assert!(
            text(None, false)
                .starts_with("HTTP/1.1 200 OK\r\nx: y\r\ntransfer-encoding: chunked\r\nconnection: close\r\n")
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn an_incomplete_head_is_never_plain(cut in 0usize..60) {
            let text = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\nX: 1\r\n\r\n";
            let plain = matches!(parse(&text[..cut.min(text.len() - 1)]), Parsed::Plain { .. });
            prop_assert!(!plain);
        }
    }
}
