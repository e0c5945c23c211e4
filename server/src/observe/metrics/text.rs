//! Prometheus' text format, put together from several recorders.

use std::collections::BTreeMap;

/// One text of several: each metric's samples stand together behind one help and one type line, as the format
/// demands. Metrics are sorted by name: the recorders' own order is a hash table's.
pub(super) fn merge<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
    for text in texts {
        let mut current = "";
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some((kind, name)) = header(line) {
                families.entry(name).or_default().header(kind).get_or_insert(line);
                current = name;
            } else if let Some(family) = families.get_mut(current) {
                family.samples.push(line);
            }
        }
    }
    let mut merged = String::new();
    for family in families.into_values() {
        for line in family.help.into_iter().chain(family.kind).chain(family.samples) {
            merged.push_str(line);
            merged.push('\n');
        }
    }
    merged
}

#[derive(Default)]
struct Family<'a> {
    help: Option<&'a str>,
    kind: Option<&'a str>,
    samples: Vec<&'a str>,
}

impl<'a> Family<'a> {
    fn header(&mut self, kind: Header) -> &mut Option<&'a str> {
        match kind {
            Header::Help => &mut self.help,
            Header::Type => &mut self.kind,
        }
    }
}

#[derive(Clone, Copy)]
enum Header {
    Help,
    Type,
}

/// The metric that a help or type line is about.
fn header(line: &str) -> Option<(Header, &str)> {
    let (kind, rest) = match line.strip_prefix("# HELP ") {
        Some(rest) => (Header::Help, rest),
        None => (Header::Type, line.strip_prefix("# TYPE ")?),
    };
    Some((kind, rest.split_whitespace().next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_of_two_recorders_stands_together() {
        let one = "# HELP a Of a\n# TYPE a counter\na{m=\"1\"} 1\n\n# TYPE b gauge\nb{m=\"1\"} 2\n\n";
        let two = "# HELP c Of c\n# TYPE c gauge\nc 5\n\n# HELP a Of a\n# TYPE a counter\na{m=\"2\"} 3\n\n";
        insta::assert_snapshot!(merge([one, two]), @r#"
        # HELP a Of a
        # TYPE a counter
        a{m="1"} 1
        a{m="2"} 3
        # TYPE b gauge
        b{m="1"} 2
        # HELP c Of c
        # TYPE c gauge
        c 5
        "#);
        assert_eq!(merge([]), "");
    }
}
