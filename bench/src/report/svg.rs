//! Small plots as inline SVG: lines with intervals, steps, stacked bars. Colours are the page's classes.
//!
//! Drawn for a width of 420 units, so that text stays readable on a telephone.

use std::fmt::Write as _;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 42.0;
/// Height of a bar with its gap.
const BAR: f64 = 34.0;
/// Height of a caption, and of a row of a key.
const ROW: f64 = 18.0;
/// Entries of a key beside each other, and their width.
const KEYS: usize = 2;
const KEY: f64 = 184.0;
/// What `.part.unknown` is filled with.
const HATCH: &str = r#"<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="hatch-ground" width="6" height="6"/><rect class="hatch" width="2.5" height="6"/></pattern></defs>"#;
/// Colours of what is drawn.
const STYLE: &str = include_str!("plots.css");

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

/// How values are laid out along an axis.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From 0, evenly.
    Linear,
    /// By ratio.
    Log,
}

/// An axis.
pub(crate) struct Axis<'a> {
    /// What it shows, with its unit.
    pub label: &'a str,
    /// How.
    pub scale: Scale,
    /// Where marks are wanted; chosen when empty.
    pub ticks: Vec<f64>,
}

/// A point, with its interval upwards and downwards.
pub(crate) struct Point {
    pub x: f64,
    pub y: f64,
    pub interval: Option<(f64, f64)>,
}

/// A line through points.
pub(crate) struct Series {
    /// The page's class for its colour and dashes.
    pub class: String,
    /// What it is.
    pub label: String,
    /// Its points, in order.
    pub points: Vec<Point>,
    /// Whether points are marked.
    pub marks: bool,
}

/// Maps values to the drawing.
struct Mapped {
    scale: Scale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Mapped {
    fn new(scale: Scale, values: impl Iterator<Item = f64>, (from, to): (f64, f64)) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite() && (scale == Scale::Linear || *value > 0.0)) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            return None;
        }
        let (low, high) = match scale {
            Scale::Linear => (low.min(0.0), if high > 0.0 { high * 1.05 } else { 1.0 }),
            Scale::Log => (low / 1.15, high * 1.15),
        };
        Some(Self { scale, low, high, from, to })
    }

    fn share(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
        }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + self.share(value).clamp(0.0, 1.0) * (self.to - self.from)
    }

    fn within(&self, value: f64) -> bool {
        let slack = 1e-9 * self.high.abs();
        (self.low - slack..=self.high + slack).contains(&value)
    }

    /// The values that an axis marks: its own, where something was measured near them, or round ones.
    fn marks(&self, axis: &Axis<'_>) -> Vec<f64> {
        if axis.ticks.is_empty() {
            return self.ticks();
        }
        axis.ticks.iter().copied().filter(|tick| self.within(*tick)).collect()
    }

    /// Round values to mark: 1, 2 and 5 times powers of ten, at most about six.
    fn ticks(&self) -> Vec<f64> {
        if self.scale == Scale::Log && self.high / self.low > 5.0 {
            let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
            let digits: &[f64] = if self.high / self.low > 1e3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            return decades
                .flat_map(|decade| digits.iter().map(move |digit| digit * 10_f64.powi(decade)))
                .filter(|tick| self.within(*tick))
                .collect();
        }
        let rough = (self.high - self.low) / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].iter().map(|m| m * power).find(|step| *step >= rough).unwrap_or(rough);
        let first = (self.low / step).ceil() as i64;
        (first..first + 12).map(|i| i as f64 * step).filter(|tick| self.within(*tick)).collect()
    }
}

/// A number as an axis shows it.
pub(crate) fn short(value: f64) -> String {
    if value.abs() >= 10_000.0 {
        return format!("{:.0}k", value / 1e3);
    }
    let digits = match value.abs() {
        v if v == 0.0 || v >= 10.0 => 0,
        v if v >= 1.0 => 1,
        v if v >= 0.1 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    if digits > 0 { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn open(title: &str, height: f64) -> String {
    let title = escape(title);
    format!(r#"<svg viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{title}"><title>{title}</title>"#)
}

/// Lines over two axes; `None` without a point to draw.
pub(crate) fn plot(title: &str, x: &Axis<'_>, y: &Axis<'_>, series: &[Series]) -> Option<String> {
    Some(open(title, HEIGHT) + &lines(x, y, series)? + "</svg>")
}

/// The same as a file of its own, which has its colours, caption and key in it.
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

/// What [`plot`] draws.
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
    for Series { class, label, points, marks } in series.iter().filter(|series| !series.points.is_empty()) {
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
    Some(svg)
}

/// A piece of a bar.
pub(crate) struct Segment {
    /// The page's class for its colour.
    pub class: String,
    /// What it is, with its value.
    pub label: String,
    /// Its length.
    pub value: f64,
}

/// A bar of pieces laid end to end.
pub(crate) struct Bar {
    /// What it is.
    pub label: String,
    /// What stands behind it.
    pub total: String,
    /// Its pieces, in order.
    pub segments: Vec<Segment>,
}

/// Bars below each other on one scale from 0; `None` without anything to draw.
pub(crate) fn bars(title: &str, unit: &str, bars: &[Bar]) -> Option<String> {
    let length = |bar: &Bar| bar.segments.iter().map(|segment| segment.value.max(0.0)).sum::<f64>();
    let across = Mapped::new(Scale::Linear, bars.iter().map(length), (0.0, WIDTH - RIGHT))?;
    let height = TOP + BAR * bars.len() as f64 + BOTTOM;
    let bottom = height - BOTTOM;
    let mut svg = open(title, height) + HATCH;
    for tick in across.ticks() {
        let at = across.at(tick);
        let anchor = if tick == 0.0 { "start" } else { "mid" };
        let _ = write!(
            svg,
            r#"<path class="grid" d="M{at:.1} {TOP}V{bottom:.1}"/><text class="tick {anchor}" x="{at:.1}" y="{:.1}">{}</text>"#,
            bottom + 15.0,
            short(tick)
        );
    }
    for (i, bar) in bars.iter().enumerate() {
        let y = TOP + BAR * i as f64;
        let _ = write!(
            svg,
            r#"<text class="bar-name" x="2" y="{0:.1}">{1}</text><text class="bar-name end" x="{2:.1}" y="{0:.1}">{3}</text>"#,
            y + 11.0,
            escape(&bar.label),
            WIDTH - RIGHT,
            escape(&bar.total)
        );
        let mut from = 0.0;
        for segment in &bar.segments {
            let to = from + segment.value.max(0.0);
            let (x, width) = (across.at(from), across.at(to) - across.at(from));
            if width > 0.0 {
                let _ = write!(
                    svg,
                    r#"<rect class="{}" x="{x:.2}" y="{:.1}" width="{width:.2}" height="14"><title>{}</title></rect>"#,
                    escape(&segment.class),
                    y + 15.0,
                    escape(&segment.label)
                );
            }
            from = to;
        }
    }
    let _ = write!(
        svg,
        r#"<path class="axis" d="M0 {bottom:.1}H{:.1}"/><text class="name mid" x="{:.1}" y="{:.1}">{}</text></svg>"#,
        WIDTH - RIGHT,
        (WIDTH - RIGHT) / 2.0,
        height - 8.0,
        escape(unit)
    );
    Some(svg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

    fn axis(scale: Scale) -> Axis<'static> {
        Axis { label: "a < b", scale, ticks: Vec::new() }
    }

    fn series(points: Vec<(f64, f64)>) -> Series {
        let points = points.into_iter().map(|(x, y)| Point { x, y, interval: Some((y * 0.9, y * 1.1)) }).collect();
        Series { class: "a\"b".into(), label: "<x>".into(), points, marks: true }
    }

    #[test]
    fn numbers_on_axes_are_short() {
        let shown = [0.0, 0.005, 0.25, 0.5, 1.0, 2.5, 10.0, 5_000.0, 2e4].map(short);
        assert_eq!(shown, ["0", "0.005", "0.25", "0.5", "1", "2.5", "10", "5000", "20k"]);
    }

    #[test]
    fn ticks_are_round() {
        let ticks = |scale, low: f64, high: f64| {
            let mapped = Mapped::new(scale, [low, high].into_iter(), (0.0, 1.0)).unwrap();
            mapped.ticks().into_iter().map(short).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ticks(Scale::Log, 3.0, 400.0), "5 10 20 50 100 200");
        assert_eq!(ticks(Scale::Log, 1.0, 100_000.0), "1 10 100 1000 10k 100k");
        assert_eq!(ticks(Scale::Log, 40.0, 50.0), "35 40 45 50 55");
        assert_eq!(ticks(Scale::Linear, 0.0, 100.0), "0 50 100");
    }

    #[test]
    fn values_that_were_not_measured_are_not_marked() {
        let batches = Axis { ticks: vec![1.0, 8.0, 32.0], ..axis(Scale::Log) };
        let drawn = plot("t", &batches, &axis(Scale::Linear), &[series(vec![(1.0, 3.0), (8.0, 5.0)])]).unwrap();
        assert!(drawn.contains(">8<") && !drawn.contains(">32<"), "{drawn}");
    }

    #[test]
    fn nothing_to_draw_is_no_drawing() {
        assert!(plot("t", &axis(Scale::Log), &axis(Scale::Log), &[series(vec![(0.0, 1.0), (-1.0, 1.0)])]).is_none());
        assert!(plot("t", &axis(Scale::Linear), &axis(Scale::Linear), &[]).is_none());
        assert!(file("t", &axis(Scale::Linear), &axis(Scale::Linear), &[]).is_none());
        assert!(bars("t", "ms", &[]).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Any values draw within the picture, and no text breaks out of its place.
        #[test]
        fn drawings_are_well_formed(points in proptest::collection::vec((1e-6..1e9_f64, 1e-6..1e9_f64), 1..20), log: bool) {
            let scale = if log { Scale::Log } else { Scale::Linear };
            let svg = plot("\"><script>", &axis(scale), &axis(scale), &[series(points)]).unwrap();
            prop_assert!(!svg.contains("<script") && !svg.contains("NaN") && !svg.contains("inf"));
            prop_assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
            for number in svg.split("cy=\"").skip(1).filter_map(|rest| rest.split('"').next()?.parse::<f64>().ok()) {
                prop_assert!((TOP - 0.1..=HEIGHT - BOTTOM + 0.1).contains(&number), "{}", number);
            }
        }
    }
}
