//! The size and opening tag of a drawing, and escaped text.

pub(crate) const WIDTH: f64 = 420.0;

pub(crate) const HEIGHT: f64 = 300.0;

pub(crate) const LEFT: f64 = 52.0;

pub(crate) const RIGHT: f64 = 12.0;

pub(crate) const TOP: f64 = 10.0;

pub(crate) const BOTTOM: f64 = 42.0;

/// Text that is safe in HTML and in attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

pub(crate) fn open(title: &str, height: f64) -> String {
    let title = escape(title);
    format!(r#"<svg viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{title}"><title>{title}</title>"#)
}
