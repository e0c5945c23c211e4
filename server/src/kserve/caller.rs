//! What an ensemble passes to its steps about the client's request: id and traces.

use super::trace::StepTraces;

tokio::task_local! {
    static CALLER: Caller;
}

/// The client's request, as the steps of an ensemble see it.
#[derive(Clone, Default)]
pub(super) struct Caller {
    /// The client's id for the request; empty if it has none.
    pub(super) id: String,
    /// For the traces of the steps, if the request is traced.
    pub(super) traces: Option<StepTraces>,
}

impl Caller {
    /// The caller of the request that the current task answers.
    pub(super) fn current() -> Self {
        CALLER.try_with(Clone::clone).unwrap_or_default()
    }

    /// Runs `future` as a request of this caller.
    pub(super) fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CALLER.scope(self, future)
    }
}
