//! Base64: what is accepted is what was encoded, and what is refused is not.

use quintet_server::image_input::base64;

pub(crate) fn run(bytes: &[u8]) {
    let encoded = base64_simd::STANDARD.encode_to_string(bytes);
    match base64::decode(&encoded) {
        Ok(decoded) => assert_eq!(decoded, bytes, "not what was encoded"),
        Err(error) => assert!(bytes.is_empty(), "{error}"),
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match base64::decode(text) {
        Ok(decoded) => assert!(decoded.len() <= text.len(), "longer than its text"),
        Err(error) => assert!(error.to_string().len() < 200, "an error as long as its text"),
    }
}
