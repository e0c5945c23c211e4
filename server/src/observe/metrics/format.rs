//! The formats of the metrics: Prometheus' text format, and OpenMetrics for clients that prefer it.

use http::{HeaderMap, header};

/// A format of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0. Metrics keep the names that they have in the text format, so that queries do not depend on it.
    OpenMetrics,
}

impl Format {
    /// The format that a request's `Accept` prefers (RFC 9110 §12.5.1): OpenMetrics only if it is named, and no text is
    /// preferred to it.
    pub fn accepted(headers: &HeaderMap) -> Self {
        let (mut text, mut open_metrics) = (0.0, 0.0);
        let values = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
        for range in values.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
            let parameter = |name: &str| parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            let weight: f32 = parameter("q").map_or(Some(1.0), |(_, q)| q.parse().ok()).unwrap_or(0.0);
            match media.as_str() {
                "application/openmetrics-text" => {
                    let is_known = parameter("version").is_none_or(|(_, version)| version.trim_matches('"') == "1.0.0");
                    open_metrics = if is_known { weight.max(open_metrics) } else { open_metrics };
                }
                "text/plain" | "text/*" | "*/*" => text = weight.max(text),
                _ => {}
            }
        }
        if open_metrics > 0.0 && open_metrics >= text { Self::OpenMetrics } else { Self::Text }
    }

    /// Its `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What ends a page.
    pub fn end(self) -> &'static str {
        match self {
            Self::Text => "",
            Self::OpenMetrics => "# EOF\n",
        }
    }

    /// A number as the value of a label: OpenMetrics requires the canonical form.
    pub(super) fn number(self, number: f64) -> String {
        match self {
            _ if number == f64::INFINITY => "+Inf".to_owned(),
            Self::Text => number.to_string(),
            Self::OpenMetrics => format!("{number:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(values: &[&str]) -> Format {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT, value.parse().unwrap());
        }
        Format::accepted(&headers)
    }

    #[test]
    fn open_metrics_is_for_clients_that_prefer_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in [
            prometheus,
            "application/openmetrics-text",
            "application/openmetrics-text; version=\"1.0.0\", */*",
            "Application/OpenMetrics-Text;q=0.5, text/plain;q=0.4",
        ] {
            assert_eq!(accepting(&[accept]), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/html, */*;q=0.8",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=x",
            "application/openmetrics-text;q=0.2, text/plain",
        ] {
            assert_eq!(accepting(&[accept]), Format::Text, "{accept}");
        }
        assert_eq!(accepting(&[]), Format::Text);
        assert_eq!(accepting(&["text/plain;q=0.1", "application/openmetrics-text"]), Format::OpenMetrics);
    }
}
