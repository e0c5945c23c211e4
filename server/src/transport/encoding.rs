//! Content encodings of requests and responses: gzip, deflate, zstd.

use std::io::{self, Read, Write as _};

use bytes::Bytes;
use flate2::{Compression, GzBuilder, read, write};
use http::{HeaderMap, HeaderName, header};
use quintet_engine::{ErrorKind, InferError};

use crate::catalog::InputLimit;

/// A supported content encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 1952.
    Gzip,
    /// RFC 9110's `deflate`: a zlib stream.
    Deflate,
    /// RFC 8878.
    Zstd,
}

/// gRPC's counterpart to `Content-Encoding`.
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// zstd's fastest standard level.
const ZSTD_LEVEL: i32 = 1;

impl Encoding {
    /// In order of preference: of encodings that a client weights equally, the first is used.
    const ALL: [Self; 3] = [Self::Zstd, Self::Gzip, Self::Deflate];

    /// Its name in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        let name = if name.eq_ignore_ascii_case("x-gzip") { "gzip" } else { name };
        Self::ALL.into_iter().find(|encoding| encoding.name().eq_ignore_ascii_case(name))
    }

    /// The encoding of an HTTP request's body; `None` if it is not encoded.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], naming the encoding.
    pub fn of_request(headers: &HeaderMap) -> Result<Option<Self>, InferError> {
        Self::of_header(headers, &header::CONTENT_ENCODING)
    }

    /// The encoding of a gRPC call's compressed messages; `None` if the call names none.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], naming the encoding.
    pub fn of_call(headers: &HeaderMap) -> Result<Option<Self>, InferError> {
        Self::of_header(headers, &GRPC_ENCODING)
    }

    fn of_header(headers: &HeaderMap, header: &HeaderName) -> Result<Option<Self>, InferError> {
        let Some(value) = headers.get(header) else { return Ok(None) };
        let name = String::from_utf8_lossy(value.as_bytes());
        let name = name.trim();
        if name.is_empty() || name.eq_ignore_ascii_case("identity") {
            return Ok(None);
        }
        Self::from_name(name).map(Some).ok_or_else(|| {
            InferError::new(
                ErrorKind::Unsupported,
                format_args!("content encoding '{name}' is not supported: send gzip, deflate, zstd or identity"),
            )
        })
    }

    /// The encoding that the client's `Accept-Encoding` prefers (RFC 9110 §12.5.3); `None` to send the body as it is.
    pub fn for_response(headers: &HeaderMap) -> Option<Self> {
        let mut weights: [Option<f32>; Self::ALL.len()] = [None; Self::ALL.len()];
        let (mut others, mut identity) = (None, None);
        let values = headers.get_all(header::ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
        for part in values.flat_map(|value| value.split(',')) {
            let (name, parameters) = part.split_once(';').unwrap_or((part, ""));
            let weight = parameters.trim().strip_prefix("q=").map_or(Some(1.0), |weight| weight.parse().ok());
            match name.trim() {
                "*" => others = weight,
                name if name.eq_ignore_ascii_case("identity") => identity = weight,
                name => {
                    if let Some(index) = Self::from_name(name).and_then(|e| Self::ALL.iter().position(|&a| a == e)) {
                        weights[index] = weight;
                    }
                }
            }
        }
        let mut best = (identity.unwrap_or(0.0), None);
        for (encoding, weight) in Self::ALL.into_iter().zip(weights) {
            let weight = weight.or(others).unwrap_or(0.0);
            if weight > 0.0 && (weight > best.0 || (best.1.is_none() && weight >= best.0)) {
                best = (weight, Some(encoding));
            }
        }
        best.1
    }

    /// Decodes a body to at most `max` bytes, on a blocking thread: it uses the CPU.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] over the limit, [`ErrorKind::InvalidInput`] for a body that is not in this encoding.
    pub async fn decode(self, body: Bytes, max: InputLimit) -> Result<Bytes, InferError> {
        let decode = move || -> io::Result<Vec<u8>> {
            let limit = max.bytes as u64 + 1;
            let mut out = Vec::new();
            match self {
                Self::Gzip => read::MultiGzDecoder::new(&body[..]).take(limit).read_to_end(&mut out),
                Self::Deflate => read::ZlibDecoder::new(&body[..]).take(limit).read_to_end(&mut out),
                Self::Zstd => zstd::Decoder::with_buffer(&body[..])?.take(limit).read_to_end(&mut out),
            }?;
            Ok(out)
        };
        let decoded = tokio::task::spawn_blocking(decode).await.map_err(InferError::internal)?;
        let decoded =
            decoded.map_err(|error| InferError::invalid(format_args!("the body is not {}: {error}", self.name())))?;
        if decoded.len() > max.bytes {
            return Err(too_large(" once decoded", max));
        }
        Ok(decoded.into())
    }

    /// Encodes the parts of a body as one, on a blocking thread as [`decode`](Self::decode).
    ///
    /// # Errors
    /// [`ErrorKind::Internal`], if the encoder fails.
    pub async fn encode(self, parts: Vec<Bytes>) -> Result<Bytes, InferError> {
        let encode = move || -> io::Result<Vec<u8>> {
            match self {
                Self::Gzip => {
                    // 3 is Unix, which zlib writes too.
                    let mut encoder = GzBuilder::new().operating_system(3).write(Vec::new(), Compression::default());
                    parts.iter().try_for_each(|part| encoder.write_all(part))?;
                    encoder.finish()
                }
                Self::Deflate => {
                    let mut encoder = write::ZlibEncoder::new(Vec::new(), Compression::default());
                    parts.iter().try_for_each(|part| encoder.write_all(part))?;
                    encoder.finish()
                }
                Self::Zstd => {
                    let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                    parts.iter().try_for_each(|part| encoder.write_all(part))?;
                    encoder.finish()
                }
            }
        };
        let encoded = tokio::task::spawn_blocking(encode).await.map_err(InferError::internal)?;
        encoded.map(Bytes::from).map_err(InferError::internal)
    }
}

/// The refusal of a body over the limit; `what`, with a leading space, describes the body.
pub(super) fn too_large(what: &str, max: InputLimit) -> InferError {
    InferError::new(ErrorKind::TooLarge, format_args!("the body{what} exceeds the limit of {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn max(bytes: usize) -> InputLimit {
        InputLimit { bytes, flag: "--max" }
    }

    fn accepting(value: &str) -> Option<Encoding> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
        Encoding::for_response(&headers)
    }

    #[test]
    fn the_clients_weights_choose_the_encoding() {
        assert_eq!(Encoding::for_response(&HeaderMap::new()), None);
        assert_eq!(accepting("deflate"), Some(Encoding::Deflate));
        assert_eq!(accepting("gzip, deflate"), Some(Encoding::Gzip));
        assert_eq!(accepting("gzip;q=0.5, deflate;q=0.8, br"), Some(Encoding::Deflate));
        assert_eq!(accepting("*;q=0.1"), Some(Encoding::Zstd));
        assert_eq!(accepting("zstd;q=0, *"), Some(Encoding::Gzip));
        assert_eq!(accepting("identity, gzip;q=0.5"), None);
        assert_eq!(accepting("br"), None);
        assert_eq!(accepting("gzip;q=nonsense"), None);
    }

    #[tokio::test]
    async fn encoded_bodies_are_decoded_up_to_the_limit() {
        let parts = vec![Bytes::from_static(b"head"), Bytes::from(vec![7; 10_000])];
        for encoding in Encoding::ALL {
            let encoded = encoding.encode(parts.clone()).await.unwrap();
            assert!(encoded.len() < 200, "{encoding:?}");
            assert_eq!(encoding.decode(encoded.clone(), max(10_004)).await.unwrap(), parts.concat());
            let error = encoding.decode(encoded.clone(), max(10_003)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            let error = encoding.decode(encoded.slice(..encoded.len() / 2), max(20_000)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let error = encoding.decode(Bytes::from_static(b"as it is"), max(20_000)).await.unwrap_err();
            assert!(error.to_string().starts_with(&format!("the body is not {}: ", encoding.name())), "{error}");
        }
    }

    #[test]
    fn rejects_an_unknown_encoding_by_name() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, "br".parse().unwrap());
        let error = Encoding::of_request(&headers).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("'br'"), "{error}");
    }
}
