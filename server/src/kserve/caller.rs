//! What the steps of an ensemble know of the request that the ensemble answers.

use super::trace::StepTraces;

tokio::task_local! {
    static CALLER: Caller;
}

/// What an ensemble hands on to its steps of the request that it answers.
#[derive(Clone, Default)]
pub(super) struct Caller {
    /// The client's name for the request; empty if it has none.
    pub(super) id: String,
    /// For the traces of the steps, if the request is traced.
    pub(super) traces: Option<StepTraces>,
}

impl Caller {
    /// The caller of the request that is being answered here.
    pub(super) fn current() -> Self {
        CALLER.try_with(Clone::clone).unwrap_or_default()
    }

    /// Runs `future` as a request of this caller.
    pub(super) fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CALLER.scope(self, future)
    }
}
