//! The table of HTTP and gRPC statuses for every kind of failure, shared by all transports.

use http::StatusCode;
use quintet_engine::ErrorKind;
use tonic::Code;

/// Seconds in `Retry-After` when a queue is full or the server is not ready.
pub const RETRY_AFTER_SECONDS: &str = "1";

/// The status of a failure in both protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// HTTP status.
    pub http: StatusCode,
    /// gRPC status code.
    pub grpc: Code,
    /// Whether the same request may succeed later (`Retry-After`).
    pub retry: bool,
}

impl From<ErrorKind> for Status {
    fn from(kind: ErrorKind) -> Self {
        let (http, grpc, retry) = match kind {
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, Code::NotFound, false),
            ErrorKind::InvalidInput => (StatusCode::BAD_REQUEST, Code::InvalidArgument, false),
            ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, false),
            ErrorKind::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, true),
            ErrorKind::NoMemory => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, true),
            ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, true),
            ErrorKind::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, Code::DeadlineExceeded, false),
            // nginx's 499 (client closed request).
            ErrorKind::Cancelled => {
                (StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST), Code::Cancelled, false)
            }
            ErrorKind::Unsupported => (StatusCode::NOT_IMPLEMENTED, Code::Unimplemented, false),
            ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, false),
            // Another server, or this one after its restart, may answer.
            ErrorKind::DeviceLost => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, true),
        };
        Self { http, grpc, retry }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_status() {
        let table: Vec<_> = ErrorKind::ALL
            .map(Status::from)
            .iter()
            .zip(ErrorKind::ALL)
            .map(|(status, kind)| format!("{kind:?} {} {:?} retry={}", status.http.as_u16(), status.grpc, status.retry))
            .collect();
        insta::assert_snapshot!(table.join("\n"), @r"
        NotFound 404 NotFound retry=false
        InvalidInput 400 InvalidArgument retry=false
        TooLarge 413 ResourceExhausted retry=false
        QueueFull 503 Unavailable retry=true
        NoMemory 503 Unavailable retry=true
        Unavailable 503 Unavailable retry=true
        DeadlineExceeded 504 DeadlineExceeded retry=false
        Cancelled 499 Cancelled retry=false
        Unsupported 501 Unimplemented retry=false
        Internal 500 Internal retry=false
        DeviceLost 503 Unavailable retry=true
        ");
    }
}
