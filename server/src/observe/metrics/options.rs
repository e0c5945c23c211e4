//! Settings of the metrics, as in Triton's `--metrics-config`.

use crate::observe::device_metrics::DeviceOptions;

/// Settings of a service's metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsOptions {
    /// The metrics of the machine.
    pub devices: DeviceOptions,
    /// Whether to report the cumulative `nv_inference_*_duration_us`.
    pub counter_latencies: bool,
    /// Whether to report the summaries `nv_inference_*_summary_us`.
    pub summary_latencies: bool,
    /// Quantiles of the summaries, each between 0 and 1.
    pub summary_quantiles: Vec<f64>,
    /// Whether to report the histograms `nv_inference_*_duration_histogram_us`.
    pub phase_histograms: bool,
    /// Whether to report the histogram `nv_inference_first_response_histogram_ms`.
    pub first_response_histogram: bool,
}

impl Default for MetricsOptions {
    /// Triton's defaults, and the histograms of phases, which Triton does not have: their cost does not show.
    fn default() -> Self {
        Self {
            devices: DeviceOptions::default(),
            counter_latencies: true,
            summary_latencies: false,
            summary_quantiles: vec![0.5, 0.9, 0.95, 0.99, 0.999],
            phase_histograms: true,
            first_response_histogram: false,
        }
    }
}

impl MetricsOptions {
    /// Maximum number of quantiles of a summary.
    const MAX_QUANTILES: usize = 32;

    /// Sets one `KEY=VALUE`. The error of a quantile (`0.99:0.001`), which sets its precision in Triton, is accepted
    /// and ignored: here all quantiles are within 1 %.
    ///
    /// # Errors
    /// For an unknown key or an invalid value.
    pub fn set(&mut self, setting: &str) -> Result<(), String> {
        let (key, value) = setting.split_once('=').ok_or("use KEY=VALUE")?;
        let switch = || value.parse().map_err(|_| format!("{key} must be true or false, not '{value}'"));
        match key {
            "counter_latencies" => self.counter_latencies = switch()?,
            "summary_latencies" => self.summary_latencies = switch()?,
            "histogram_latencies" => {
                let on = switch()?;
                (self.phase_histograms, self.first_response_histogram) = (on, on);
            }
            "summary_quantiles" => self.summary_quantiles = quantiles(value)?,
            _ => {
                return Err(format!(
                    "unknown setting '{key}'; use counter_latencies, summary_latencies, summary_quantiles or \
                     histogram_latencies"
                ));
            }
        }
        Ok(())
    }
}

fn quantiles(value: &str) -> Result<Vec<f64>, String> {
    let quantiles: Vec<f64> =
        value
            .split(',')
            .map(|pair| {
                let quantile = pair.split_once(':').map_or(pair, |(quantile, _)| quantile);
                quantile.trim().parse().ok().filter(|quantile| (0.0..=1.0).contains(quantile)).ok_or_else(|| {
                    format!("summary_quantiles: '{pair}' is not QUANTILE:ERROR with a quantile from 0 to 1")
                })
            })
            .collect::<Result<_, _>>()?;
    if quantiles.len() > MetricsOptions::MAX_QUANTILES {
        return Err(format!("summary_quantiles: at most {} quantiles are supported", MetricsOptions::MAX_QUANTILES));
    }
    Ok(quantiles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_tritons_settings() {
        let mut options = MetricsOptions::default();
        for setting in ["counter_latencies=false", "summary_latencies=true", "summary_quantiles=0.5:0.05,0.999:0.001"] {
            options.set(setting).unwrap();
        }
        assert!(!options.counter_latencies && options.summary_latencies);
        assert!(options.phase_histograms && !options.first_response_histogram);
        options.set("histogram_latencies=false").unwrap();
        assert!(!options.phase_histograms && !options.first_response_histogram);
        options.set("histogram_latencies=true").unwrap();
        assert!(options.phase_histograms && options.first_response_histogram);
        assert_eq!(options.summary_quantiles, [0.5, 0.999]);
        let refusal = |setting: &str| MetricsOptions::default().set(setting).unwrap_err();
        insta::assert_snapshot!(
            ["summary_latencies", "summary_latencies=maybe", "latencies=true", "summary_quantiles=1.5:0.1"].map(refusal).join("\n"),
            @r"
        use KEY=VALUE
        summary_latencies must be true or false, not 'maybe'
        unknown setting 'latencies'; use counter_latencies, summary_latencies, summary_quantiles or histogram_latencies
        summary_quantiles: '1.5:0.1' is not QUANTILE:ERROR with a quantile from 0 to 1
        "
        );
    }
}
