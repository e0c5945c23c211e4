//! Prometheus' text format, written with the exporter's functions.

use std::fmt::Display;

use metrics::{Key, Label};
use metrics_exporter_prometheus::{
    LabelSet,
    formatting::{write_help_line, write_metric_line, write_type_line},
};

/// A metric with its samples.
pub(crate) struct Family {
    name: &'static str,
    text: String,
    header_bytes: usize,
}

impl Family {
    /// A metric without samples yet. `kind` is `counter`, `gauge`, `histogram` or `summary`.
    pub(crate) fn new(kind: &str, (name, help): (&'static str, &str)) -> Self {
        let mut text = String::new();
        write_help_line(&mut text, name, None, None, help);
        write_type_line(&mut text, name, None, None, kind);
        Self { name, header_bytes: text.len(), text }
    }

    /// Adds a sample.
    pub(crate) fn sample(&mut self, labels: &LabelSet, value: impl Display) {
        self.part(None, labels, None::<(_, f64)>, value);
    }

    /// Adds a sample with an additional label, whose value needs no escape.
    pub(crate) fn labelled(&mut self, labels: &LabelSet, label: (&'static str, impl Display), value: impl Display) {
        self.part(None, labels, Some(label), value);
    }

    /// Adds a sample of a histogram or summary: of its `bucket`s, its `sum` or its `count`.
    pub(crate) fn part(
        &mut self,
        suffix: Option<&'static str>,
        labels: &LabelSet,
        label: Option<(&'static str, impl Display)>,
        value: impl Display,
    ) {
        write_metric_line(&mut self.text, self.name, suffix, labels, label, value, None);
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

    #[test]
    fn samples_follow_the_header_of_their_metric() {
        let mut family = Family::new("histogram", ("a_ms", "Of \"a\"\nand b"));
        let of = labels(vec![Label::new("model", "\"m\""), Label::new("team-1", "red\n")]);
        family.part(Some("bucket"), &of, Some(("le", 0.5)), 1);
        family.part(Some("bucket"), &of, Some(("le", "+Inf")), 2);
        family.totals(&of, 1.5, 2);
        insta::assert_snapshot!(family.into_text().unwrap(), @r##"
        # HELP a_ms Of "a"\nand b
        # TYPE a_ms histogram
        a_ms_bucket{model="\"m\"",team_1="red\n",le="0.5"} 1
        a_ms_bucket{model="\"m\"",team_1="red\n",le="+Inf"} 2
        a_ms_sum{model="\"m\"",team_1="red\n"} 1.5
        a_ms_count{model="\"m\"",team_1="red\n"} 2
        "##);
    }

    #[test]
    fn a_metric_without_samples_has_no_text() {
        assert_eq!(Family::new("gauge", ("a", "Of a")).into_text(), None);
        let mut family = Family::new("gauge", ("a", "Of a"));
        family.sample(&labels(vec![]), 1);
        assert_eq!(family.into_text().unwrap(), "# HELP a Of a\n# TYPE a gauge\na 1\n");
    }
}
