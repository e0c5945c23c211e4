//! Reads the client's trace context: W3C's `traceparent` and `tracestate`.

use http::HeaderMap;

/// The client's trace that a request is part of (W3C Trace Context §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) trace_id: [u8; 16],
    /// The client's span that sends the request.
    pub(super) span_id: [u8; 8],
    /// Whether the client's spans are recorded (§3.2.2.5.1, the flag `sampled`).
    pub(super) sampled: bool,
    /// `tracestate`: data of other tracing systems, passed on unread; empty if there is none.
    pub(super) state: String,
}

impl Context {
    /// The context in these headers. A malformed `traceparent` is ignored, as the specification says.
    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get("traceparent")?.to_str().ok()?.trim();
        let mut parts = text.split('-');
        let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let [version] = hex(version)?;
        let [flags] = hex(flags)?;
        // Version ff is invalid. Later versions may have more fields than version 00.
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return None;
        }
        let (trace_id, span_id): ([u8; 16], [u8; 8]) = (hex(trace_id)?, hex(span_id)?);
        if trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        let state = headers.get_all("tracestate").iter().filter_map(|value| value.to_str().ok());
        Some(Self { trace_id, span_id, sampled: flags & 1 == 1, state: state.collect::<Vec<_>>().join(",") })
    }
}

/// Lower-case hexadecimal digits of exactly `N` bytes.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(traceparent: &str) -> Option<Context> {
        Context::from_headers(&HeaderMap::from_iter([("traceparent".parse().unwrap(), traceparent.parse().ok()?)]))
    }

    #[test]
    fn ignores_a_malformed_traceparent() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let context = read(&format!("00-{trace}-{span}-01")).unwrap();
        assert_eq!((context.trace_id[..3].to_vec(), context.span_id[7]), (vec![0x0a, 0xf7, 0x65], 0x31));
        let sampled =
            ["00", "01", "02", "03"].map(|flags| read(&format!("00-{trace}-{span}-{flags}")).unwrap().sampled);
        assert_eq!(sampled, [false, true, false, true]);
        assert!(read(&format!("01-{trace}-{span}-00-more")).is_some());
        for wrong in [
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-01-more"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{span}-{trace}-01"),
            String::new(),
        ] {
            assert_eq!(read(&wrong), None, "{wrong}");
        }
        assert_eq!(Context::from_headers(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn any_ids_are_read(trace_id in any::<[u8; 16]>(), span_id in any::<[u8; 8]>()) {
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let context = read(&format!("00-{}-{}-01", hex(&trace_id), hex(&span_id)));
            let valid = trace_id != [0; 16] && span_id != [0; 8];
            prop_assert_eq!(context.map(|context| (context.trace_id, context.span_id)), valid.then_some((trace_id, span_id)));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,80}") {
            let _ = read(&text);
        }
    }
}
