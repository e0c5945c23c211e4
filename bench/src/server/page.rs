//! Prometheus' text format: the samples of a metrics page.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::collections::BTreeMap;

/// A sample: `name{label="value",...} value [timestamp]`.
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    pub(super) labels: BTreeMap<&'a str, String>,
    /// Finite and not negative; others are not read.
    pub(super) value: f64,
}

/// The samples of a page.
pub(super) fn samples(page: &str) -> impl Iterator<Item = Sample<'_>> {
    page.lines().filter_map(parse_line)
}

fn parse_line(line: &str) -> Option<Sample<'_>> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (name, labels, rest) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, rest) = parse_labels(rest)?;
            (name, labels, rest)
        }
        None => {
            let (name, rest) = line.split_once(char::is_whitespace)?;
            (name, BTreeMap::new(), rest)
        }
    };
    let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
    (value.is_finite() && value >= 0.0).then(|| Sample { name: name.trim(), labels, value })
}

/// The labels up to the closing brace, with `\\`, `\"` and `\n` unescaped, and the text after the brace.
fn parse_labels(mut text: &str) -> Option<(BTreeMap<&str, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        text = loop {
            match chars.next()? {
                (i, '"') => break &rest[i + 1..],
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, c) => value.push(c),
            }
        };
        labels.insert(name.trim(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn labels_are_unescaped() {
        let Sample { labels, value, .. } = parse_line(r#"x{model="a\"b\\c",v="1,2}"} 3"#).unwrap();
        assert_eq!((labels["model"].as_str(), labels["v"].as_str(), value), (r#"a"b\c"#, "1,2}", 3.0));
    }

    proptest! {
        #[test]
        fn no_line_causes_a_panic(line: String) {
            let _ = parse_line(&line);
            let _ = parse_line(&format!("x{{{line}"));
        }
    }
}
