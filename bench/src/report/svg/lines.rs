//! Draws line plots.

use std::fmt::Write as _;

use crate::report::svg::{
    frame::{BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, escape, open},
    scale::{Axis, Mapped, short},
};

/// Height of a caption, and of a row of the legend.
const ROW: f64 = 18.0;

/// Entries in a row of the legend, and their width below.
const KEYS: usize = 2;

const KEY: f64 = 184.0;

/// Colours of the drawing.
const STYLE: &str = include_str!("../plots.css");

/// A point, with the interval of its y value.
pub(crate) struct Point {
    pub x: f64,
    pub y: f64,
    pub interval: Option<(f64, f64)>,
}

/// A line through points.
pub(crate) struct Series {
    /// The CSS class for its colour and dashes.
    pub class: String,
    /// Its name.
    pub label: String,
    /// Its points, in order.
    pub points: Vec<Point>,
    /// Whether its points are marked.
    pub marks: bool,
}

/// Draws lines over two axes; `None` if there is no point to draw.
pub(crate) fn plot(title: &str, x: &Axis<'_>, y: &Axis<'_>, series: &[Series]) -> Option<String> {
    Some(open(title, HEIGHT) + &lines(x, y, series)? + "</svg>")
}

/// The same as a standalone file with its own colours, caption and legend.
pub(crate) fn file(title: &str, x: &Axis<'_>, y: &Axis<'_>, series: &[Series]) -> Option<String> {
    let drawn: Vec<&Series> = series.iter().filter(|series| !series.points.is_empty()).collect();
    let height = ROW + HEIGHT + ROW * drawn.len().div_ceil(KEYS) as f64;
    let title = escape(title);
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{title}">
<title>{title}</title>
<style>
{STYLE}svg {{ font: 12px system-ui, sans-serif; }}
</style>
<rect width="{WIDTH}" height="{height:.0}" style="fill: var(--paper)"/>
<text class="name mid" x="{:.1}" y="14">{title}</text>
<g transform="translate(0 {ROW})">{}</g>
"#,
        WIDTH / 2.0,
        lines(x, y, series)?
    );
    for (i, Series { class, label, .. }) in drawn.into_iter().enumerate() {
        let (x, y) = (LEFT + KEY * (i % KEYS) as f64, ROW + HEIGHT + ROW * (i / KEYS) as f64 + 4.0);
        let _ = writeln!(
            svg,
            r#"<g class="{}"><path class="line" d="M{x:.1} {y:.1}h22"/><circle class="mark" cx="{:.1}" cy="{y:.1}" r="3"/></g><text class="name" x="{:.1}" y="{:.1}">{}</text>"#,
            escape(class),
            x + 11.0,
            x + 30.0,
            y + 4.0,
            escape(label)
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// The axes and lines of [`plot`].
fn lines(x: &Axis<'_>, y: &Axis<'_>, series: &[Series]) -> Option<String> {
    let points = || series.iter().flat_map(|series| &series.points);
    let bounds = |point: &Point| [Some(point.y), point.interval.map(|i| i.0), point.interval.map(|i| i.1)];
    let across = Mapped::new(x.scale, points().map(|p| p.x), (LEFT, WIDTH - RIGHT))?;
    let up = Mapped::new(y.scale, points().flat_map(bounds).flatten(), (HEIGHT - BOTTOM, TOP))?;
    let mut svg = String::new();
    for tick in up.marks(y) {
        let at = up.at(tick);
        let _ = write!(
            svg,
            r#"<path class="grid" d="M{LEFT} {at:.1}H{:.1}"/><text class="tick end" x="{:.1}" y="{:.1}">{}</text>"#,
            WIDTH - RIGHT,
            LEFT - 5.0,
            at + 4.0,
            short(tick)
        );
    }
    for tick in across.marks(x) {
        let at = across.at(tick);
        let _ = write!(
            svg,
            r#"<path class="grid" d="M{at:.1} {TOP}V{:.1}"/><text class="tick mid" x="{at:.1}" y="{:.1}">{}</text>"#,
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 15.0,
            short(tick)
        );
    }
    let _ = write!(
        svg,
        r#"<path class="axis" d="M{LEFT} {TOP}V{0:.1}H{1:.1}"/><text class="name mid" x="{2:.1}" y="{3:.1}">{4}</text><text class="name mid" transform="translate(12 {5:.1}) rotate(-90)">{6}</text>"#,
        HEIGHT - BOTTOM,
        WIDTH - RIGHT,
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 8.0,
        escape(x.label),
        (TOP + HEIGHT - BOTTOM) / 2.0,
        escape(y.label),
    );
    for series in series.iter().filter(|series| !series.points.is_empty()) {
        draw(&mut svg, series, &across, &up);
    }
    Some(svg)
}

/// One line with its whiskers and marks.
fn draw(svg: &mut String, series: &Series, across: &Mapped, up: &Mapped) {
    let Series { class, label, points, marks } = series;
    let _ = write!(svg, r#"<g class="{}"><title>{}</title>"#, escape(class), escape(label));
    let mut path = String::new();
    for (i, point) in points.iter().enumerate() {
        let _ = write!(path, "{}{:.1} {:.1}", if i == 0 { 'M' } else { 'L' }, across.at(point.x), up.at(point.y));
    }
    let _ = write!(svg, r#"<path class="line" d="{path}"/>"#);
    for Point { x, y, interval } in points {
        let (x, y) = (across.at(*x), up.at(*y));
        if let Some((low, high)) = interval {
            let (low, high) = (up.at(*low), up.at(*high));
            let _ = write!(
                svg,
                r#"<path class="whisker" d="M{x:.1} {low:.1}V{high:.1}M{0:.1} {low:.1}h6M{0:.1} {high:.1}h6"/>"#,
                x - 3.0
            );
        }
        if *marks {
            let _ = write!(svg, r#"<circle class="mark" cx="{x:.1}" cy="{y:.1}" r="3"/>"#);
        }
    }
    svg.push_str("</g>");
}
