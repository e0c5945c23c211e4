//! Draws small plots as inline SVG: lines with intervals, steps, stacked bars. Colours are CSS classes of the page.
//!
//! The width is 420 units, so that text stays readable on a phone.

pub mod bars;
pub mod frame;
pub mod lines;
pub mod scale;

#[cfg(test)]
mod tests {
    use crate::report::svg::{
        bars::bars,
        frame::{BOTTOM, HEIGHT, TOP},
        lines::{Point, Series, file, plot},
        scale::{Axis, Mapped, Scale, short},
    };
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
    fn without_values_there_is_no_drawing() {
        assert!(plot("t", &axis(Scale::Log), &axis(Scale::Log), &[series(vec![(0.0, 1.0), (-1.0, 1.0)])]).is_none());
        assert!(plot("t", &axis(Scale::Linear), &axis(Scale::Linear), &[]).is_none());
        assert!(file("t", &axis(Scale::Linear), &axis(Scale::Linear), &[]).is_none());
        assert!(bars("t", "ms", &[]).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Any values are drawn within the picture, and all text is escaped.
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
