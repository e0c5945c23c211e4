//! Draws stacked bars.

use std::fmt::Write as _;

use crate::report::svg::{
    frame::{BOTTOM, RIGHT, TOP, WIDTH, escape, open},
    scale::{Mapped, Scale, short},
};

/// Height of a bar with its gap.
const BAR: f64 = 34.0;

/// The pattern that fills `.part.unknown`.
const HATCH: &str = r#"<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="hatch-ground" width="6" height="6"/><rect class="hatch" width="2.5" height="6"/></pattern></defs>"#;

/// A piece of a bar.
pub(crate) struct Segment {
    /// The CSS class for its colour.
    pub class: String,
    /// Its name and value.
    pub label: String,
    /// Its length.
    pub value: f64,
}

/// A bar of pieces laid end to end.
pub(crate) struct Bar {
    /// Its name.
    pub label: String,
    /// The text at its end.
    pub total: String,
    /// Its pieces, in order.
    pub segments: Vec<Segment>,
}

/// Draws bars below each other on one scale from 0; `None` if there is nothing to draw.
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
