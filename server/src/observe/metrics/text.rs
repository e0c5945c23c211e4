//! Prometheus' text format and OpenMetrics, written with the exporter's functions.

use std::fmt::Display;

use metrics::{Key, Label};
use metrics_exporter_prometheus::{
    LabelSet,
    formatting::{write_help_line, write_metric_line, write_type_line},
};

use super::format::Format;

/// A metric with its samples.
pub(crate) struct Family {
    format: Format,
    name: &'static str,
    text: String,
    header_bytes: usize,
}

impl Family {
    /// A metric without samples yet. `kind` is `counter`, `gauge`, `histogram` or `summary`.
    ///
    /// OpenMetrics appends `_total` to the names of counters. Those that are not called so already are of the type
    /// `unknown` there, which keeps their names.
    pub(crate) fn new(format: Format, kind: &str, (name, help): (&'static str, &str)) -> Self {
        let (announced, kind) = match (format, kind, name.strip_suffix("_total")) {
            (Format::OpenMetrics, "counter", Some(stem)) => (stem, kind),
            (Format::OpenMetrics, "counter", None) => (name, "unknown"),
            _ => (name, kind),
        };
        let mut text = String::new();
        write_help_line(&mut text, announced, None, None, help);
        write_type_line(&mut text, announced, None, None, kind);
        Self { format, name, header_bytes: text.len(), text }
    }

    /// Adds a sample.
    pub(crate) fn sample(&mut self, labels: &LabelSet, value: impl Display) {
        self.part(None, labels, None::<(_, f64)>, value);
    }

    /// Adds a sample with an additional label, whose value needs no escape.
    pub(crate) fn labelled(&mut self, labels: &LabelSet, label: (&'static str, impl Display), value: impl Display) {
        self.part(None, labels, Some(label), value);
    }

    fn part(
        &mut self,
        suffix: Option<&'static str>,
        labels: &LabelSet,
        label: Option<(&'static str, impl Display)>,
        value: impl Display,
    ) {
        write_metric_line(&mut self.text, self.name, suffix, labels, label, value, None);
    }

    /// Adds the number of samples up to a bound of a histogram.
    pub(crate) fn bucket(&mut self, labels: &LabelSet, bound: f64, count: u64) {
        self.part(Some("bucket"), labels, Some(("le", self.format.number(bound))), count);
    }

    /// Adds a quantile of a summary.
    pub(crate) fn quantile(&mut self, labels: &LabelSet, quantile: f64, value: f64) {
        self.part(None, labels, Some(("quantile", self.format.number(quantile))), value);
    }

    /// Adds the `sum` and the `count` of a histogram or summary.
    pub(crate) fn totals(&mut self, labels: &LabelSet, sum: f64, count: u64) {
        self.part(Some("sum"), labels, None::<(_, f64)>, sum);
        self.part(Some("count"), labels, None::<(_, f64)>, count);
    }

    /// The text; `None` without a sample.
    pub(crate) fn into_text(self) -> Option<String> {
        (self.text.len() > self.header_bytes).then_some(self.text)
    }
}

/// Labels in this order.
pub(crate) fn labels(labels: Vec<Label>) -> LabelSet {
    LabelSet::from_key_and_global(&Key::from_parts("", labels), &Default::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A histogram and two counters.
    fn page(format: Format) -> String {
        let mut family = Family::new(format, "histogram", ("a_ms", "Of a\nand b"));
        let of = labels(vec![Label::new("model", "\"m\""), Label::new("team-1", "red\n")]);
        family.bucket(&of, 50.0, 1);
        family.bucket(&of, f64::INFINITY, 2);
        family.totals(&of, 1.5, 2);
        let counters = ["b_total", "c_count"].map(|name| {
            let mut counter = Family::new(format, "counter", (name, "A counter"));
            counter.sample(&labels(vec![]), 1);
            counter
        });
        [family].into_iter().chain(counters).filter_map(Family::into_text).collect()
    }

    #[test]
    fn samples_follow_the_header_of_their_metric() {
        insta::assert_snapshot!(page(Format::Text), @r##"
        # HELP a_ms Of a\nand b
        # TYPE a_ms histogram
        a_ms_bucket{model="\"m\"",team_1="red\n",le="50"} 1
        a_ms_bucket{model="\"m\"",team_1="red\n",le="+Inf"} 2
        a_ms_sum{model="\"m\"",team_1="red\n"} 1.5
        a_ms_count{model="\"m\"",team_1="red\n"} 2
        # HELP b_total A counter
        # TYPE b_total counter
        b_total 1
        # HELP c_count A counter
        # TYPE c_count counter
        c_count 1
        "##);
    }

    #[test]
    fn names_are_the_same_in_open_metrics() {
        insta::assert_snapshot!(page(Format::OpenMetrics), @r##"
        # HELP a_ms Of a\nand b
        # TYPE a_ms histogram
        a_ms_bucket{model="\"m\"",team_1="red\n",le="50.0"} 1
        a_ms_bucket{model="\"m\"",team_1="red\n",le="+Inf"} 2
        a_ms_sum{model="\"m\"",team_1="red\n"} 1.5
        a_ms_count{model="\"m\"",team_1="red\n"} 2
        # HELP b A counter
        # TYPE b counter
        b_total 1
        # HELP c_count A counter
        # TYPE c_count unknown
        c_count 1
        "##);
    }

    #[test]
    fn a_metric_without_samples_has_no_text() {
        assert_eq!(Family::new(Format::Text, "gauge", ("a", "Of a")).into_text(), None);
        let mut family = Family::new(Format::Text, "gauge", ("a", "Of a"));
        family.sample(&labels(vec![]), 1);
        assert_eq!(family.into_text().unwrap(), "# HELP a Of a\n# TYPE a gauge\na 1\n");
    }
}
