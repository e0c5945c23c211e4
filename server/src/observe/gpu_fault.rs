//! The failure of a GPU after which only a new process can use it.

use std::sync::{Arc, OnceLock};

use metrics::Label;
use tokio_util::sync::CancellationToken;

use super::metrics::{
    Format,
    text::{Family, labels},
};

/// Whether a GPU failed that the process uses; one value for all services of the process, which share CUDA's state.
#[derive(Clone, Default)]
pub struct GpuFault(Arc<State>);

#[derive(Default)]
struct State {
    reason: OnceLock<String>,
    reported: CancellationToken,
}

impl GpuFault {
    /// A run of this model failed for this reason. Only the first call has an effect.
    pub fn report(&self, model: &str, reason: &str) {
        if self.0.reason.set(reason.to_owned()).is_ok() {
            tracing::error!(model, reason, "a GPU failed");
            self.0.reported.cancel();
        }
    }

    /// The reason, if there was a failure.
    pub fn reason(&self) -> Option<&str> {
        self.0.reason.get().map(String::as_str)
    }

    /// Returns the reason as soon as there is a failure.
    pub async fn reported(&self) -> &str {
        self.0.reported.cancelled().await;
        self.reason().unwrap_or_default()
    }

    /// The metric in this format: 0, or 1 with the reason.
    pub fn render(&self, format: Format) -> String {
        let help = "1 after a failure of a GPU after which only a restart of the server helps, with the reason";
        let mut family = Family::new(format, "gauge", ("quintet_gpu_fault", help));
        match self.reason() {
            Some(reason) => family.sample(&labels(vec![Label::new("reason", reason.to_owned())]), 1),
            None => family.sample(&labels(vec![]), 0),
        }
        family.into_text().unwrap_or_default()
    }
}
