//! The times of answered requests by protocol: with its service, the protocol is a lane.

use std::time::{Duration, Instant};

use metrics::Label;

use super::{
    format::Format,
    names::ANSWERS,
    summary::Summary,
    text::{self, Family},
};

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// gRPC.
    Grpc,
}

impl Protocol {
    const ALL: [Self; 2] = [Self::Http, Self::Grpc];

    /// The value of the label `protocol`.
    fn label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }
}

/// How long the answered inference requests of a service took.
pub struct AnswerTimes([Summary; Protocol::ALL.len()]);

impl Default for AnswerTimes {
    fn default() -> Self {
        Self(Protocol::ALL.map(|_| Summary::new(vec![0.5, 0.99])))
    }
}

impl AnswerTimes {
    /// Counts a request that came over this protocol and was answered after `elapsed`.
    pub fn record(&self, protocol: Protocol, elapsed: Duration) {
        self.0[protocol as usize].record(elapsed, Instant::now());
    }

    /// The protocols that have answered something.
    pub(super) fn family(&self, format: Format, now: Instant) -> Family {
        let mut family = Family::new(format, "summary", ANSWERS);
        for (protocol, summary) in Protocol::ALL.into_iter().zip(&self.0).filter(|(_, summary)| !summary.is_empty()) {
            summary.write(&mut family, &text::labels(vec![Label::new("protocol", protocol.label())]), now);
        }
        family
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_appears_with_its_first_answer() {
        let times = AnswerTimes::default();
        let now = Instant::now();
        assert_eq!(times.family(Format::Text, now).into_text(), None);
        times.record(Protocol::Grpc, Duration::from_millis(4));
        let text = times.family(Format::Text, now).into_text().unwrap();
        assert!(text.contains("quintet_request_summary_us_count{protocol=\"grpc\"} 1\n"), "{text}");
        assert!(text.contains("quintet_request_summary_us{protocol=\"grpc\",quantile=\"0.99\"} 4"), "{text}");
        assert!(!text.contains("http"), "{text}");
    }
}
