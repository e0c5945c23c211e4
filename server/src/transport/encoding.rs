//! Content encodings of requests and responses: gzip, deflate, zstd.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::{Compression, GzBuilder, read, write};
use http::{HeaderMap, HeaderName, header};
use quintet_engine::{Budget, ErrorKind, InferError, budget::Charge};

use super::work::{self, Stop};
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

/// How hard to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// The least time.
    Low,
    /// The library's default.
    Medium,
    /// The fewest bytes.
    High,
}

impl Effort {
    /// The level of gzip and deflate.
    fn zlib(self) -> Compression {
        match self {
            Self::Low => Compression::fast(),
            Self::Medium => Compression::default(),
            Self::High => Compression::best(),
        }
    }
}

/// gRPC's counterpart to `Content-Encoding`.
pub(super) const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// gRPC's counterpart to `Accept-Encoding`, without weights.
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

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

    /// The encoding of the messages of an answer to a gRPC client: gzip or deflate, which gRPC's clients have; `None` if it
    /// accepts neither.
    pub fn of_answer(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(GRPC_ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
        let accepted: Vec<_> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
        [Self::Gzip, Self::Deflate].into_iter().find(|encoding| accepted.contains(&encoding.name()))
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

    /// Decodes a body to at most `max` bytes. The memory of the decoded bytes is charged to `budget` as it grows.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] over the limit, [`ErrorKind::NoMemory`] if the budget is used up,
    /// [`ErrorKind::InvalidInput`] for a body that is not in this encoding.
    pub async fn decode(self, body: Bytes, max: InputLimit, budget: &Budget) -> Result<Bytes, InferError> {
        let charge = budget.charge();
        let malformed = move |error| InferError::invalid(format_args!("the body is not {}: {error}", self.name()));
        work::run(move |stop| {
            let reader: Box<dyn Read + '_> = match self {
                Self::Gzip => Box::new(read::MultiGzDecoder::new(&body[..])),
                Self::Deflate => Box::new(read::ZlibDecoder::new(&body[..])),
                Self::Zstd => Box::new(zstd::Decoder::with_buffer(&body[..]).map_err(malformed)?),
            };
            let (out, charge) = read_to_end(reader, max, charge, stop, &malformed)?;
            Ok(charge.hold(out.into()))
        })
        .await
    }

    /// Encodes the parts of a body as one; zstd has one effort. Its memory is charged to `budget` in any case.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`], if the encoder fails.
    pub async fn encode(self, parts: Vec<Bytes>, effort: Effort, budget: &Budget) -> Result<Bytes, InferError> {
        let mut charge = budget.charge();
        work::run(move |stop| {
            let out = match self {
                Self::Gzip => {
                    // 3 is Unix, which zlib writes too.
                    let mut encoder = GzBuilder::new().operating_system(3).write(Vec::new(), effort.zlib());
                    write(&parts, &mut encoder, stop)?;
                    encoder.finish()
                }
                Self::Deflate => {
                    let mut encoder = write::ZlibEncoder::new(Vec::new(), effort.zlib());
                    write(&parts, &mut encoder, stop)?;
                    encoder.finish()
                }
                Self::Zstd => {
                    let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL).map_err(InferError::internal)?;
                    write(&parts, &mut encoder, stop)?;
                    encoder.finish()
                }
            };
            let out = out.map_err(InferError::internal)?;
            charge.force(out.len());
            Ok(charge.hold(out.into()))
        })
        .await
    }
}

/// Bytes between two looks whether the request is still there.
const STEP_BYTES: usize = 256 << 10;

/// Reads all of a decoder's output, at most `max` bytes.
fn read_to_end(
    mut reader: Box<dyn Read + '_>,
    max: InputLimit,
    mut charge: Charge,
    stop: &Stop,
    malformed: &impl Fn(io::Error) -> InferError,
) -> Result<(Vec<u8>, Charge), InferError> {
    let mut out = Vec::new();
    loop {
        stop.check()?;
        let free = out.capacity() - out.len();
        if free < STEP_BYTES {
            // One byte more than the limit shows that there is more.
            let more = STEP_BYTES.max(out.len()).min(max.bytes + 1 - out.len());
            charge.try_force(more - free.min(more))?;
            out.reserve_exact(more);
        }
        let step = (out.capacity() - out.len()).min(STEP_BYTES) as u64;
        let received = (&mut reader).take(step).read_to_end(&mut out).map_err(malformed)?;
        if out.len() > max.bytes {
            return Err(too_large(" once decoded", max));
        }
        if (received as u64) < step {
            return Ok((out, charge));
        }
    }
}

fn write(parts: &[Bytes], encoder: &mut impl io::Write, stop: &Stop) -> Result<(), InferError> {
    for chunk in parts.iter().flat_map(|part| part.chunks(STEP_BYTES)) {
        stop.check()?;
        encoder.write_all(chunk).map_err(InferError::internal)?;
    }
    Ok(())
}

/// The refusal of a body over the limit; `what`, with a leading space, describes the body.
pub(super) fn too_large(what: &str, max: InputLimit) -> InferError {
    InferError::new(ErrorKind::TooLarge, format_args!("the body{what} exceeds the limit of {max}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quintet_engine::budget::Bounds;

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
        let budget = &Budget::unlimited();
        for encoding in Encoding::ALL {
            let encoded = encoding.encode(parts.clone(), Effort::Medium, budget).await.unwrap();
            assert!(encoded.len() < 200, "{encoding:?}");
            assert_eq!(encoding.decode(encoded.clone(), max(10_004), budget).await.unwrap(), parts.concat());
            let error = encoding.decode(encoded.clone(), max(10_003), budget).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            let error = encoding.decode(encoded.slice(..encoded.len() / 2), max(20_000), budget).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let error = encoding.decode(Bytes::from_static(b"as it is"), max(20_000), budget).await.unwrap_err();
            assert!(error.to_string().starts_with(&format!("the body is not {}: ", encoding.name())), "{error}");
        }
    }

    #[tokio::test]
    async fn a_body_that_grows_when_it_is_decoded_is_charged_and_refused() {
        const ZEROS: usize = 8 << 20;
        let bounds = Bounds { bytes: 4 << 20, largest_body: 1 << 20, wait: Duration::ZERO, flag: "--max-memory-bytes" };
        let budget = Budget::new(bounds);
        for encoding in Encoding::ALL {
            let bomb =
                encoding.encode(vec![Bytes::from(vec![0; ZEROS])], Effort::Low, &Budget::unlimited()).await.unwrap();
            assert!(bomb.len() < 100_000);
            let error = encoding.decode(bomb, max(ZEROS), &budget).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoMemory, "{error}");
            assert_eq!(budget.used(), 0);
            let small =
                encoding.encode(vec![Bytes::from(vec![0; 1 << 20])], Effort::High, &Budget::unlimited()).await.unwrap();
            let decoded = encoding.decode(small, max(1 << 20), &budget).await.unwrap();
            assert!(budget.used() >= decoded.len() && budget.used() <= 2 << 20, "{}", budget.used());
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
