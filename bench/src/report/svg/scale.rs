//! Maps values to coordinates along an axis.

/// How values are laid out along an axis.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Linear, from 0.
    Linear,
    /// Logarithmic.
    Log,
}

/// An axis.
pub(crate) struct Axis<'a> {
    /// What it shows, with its unit.
    pub label: &'a str,
    /// Its scale.
    pub scale: Scale,
    /// The values to mark; round values if empty.
    pub ticks: Vec<f64>,
}

/// Maps values to the drawing.
pub(crate) struct Mapped {
    scale: Scale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Mapped {
    pub(crate) fn new(scale: Scale, values: impl Iterator<Item = f64>, (from, to): (f64, f64)) -> Option<Self> {
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

    pub(crate) fn share(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
        }
    }

    pub(crate) fn at(&self, value: f64) -> f64 {
        self.from + self.share(value).clamp(0.0, 1.0) * (self.to - self.from)
    }

    pub(crate) fn within(&self, value: f64) -> bool {
        let slack = 1e-9 * self.high.abs();
        (self.low - slack..=self.high + slack).contains(&value)
    }

    /// The values to mark on an axis: its own values that lie on the scale, or round ones.
    pub(crate) fn marks(&self, axis: &Axis<'_>) -> Vec<f64> {
        if axis.ticks.is_empty() {
            return self.ticks();
        }
        axis.ticks.iter().copied().filter(|tick| self.within(*tick)).collect()
    }

    /// Round values to mark: 1, 2 and 5 times powers of ten, at most about six.
    pub(crate) fn ticks(&self) -> Vec<f64> {
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

/// A number as the text of an axis.
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
