//! What the transports of a service share: models, repository, shared memory, traces, readiness.

use std::sync::{Arc, OnceLock};

use quintet_engine::{ErrorKind, InferError, Registry, VersionState};
use tokio_util::sync::CancellationToken;

use crate::{
    SERVER_NAME,
    catalog::Catalog,
    kserve::{
        shared_memory::SharedMemory,
        trace::{TraceSettings, Traces, Update},
    },
    repository::{IndexEntry, Repository, index_of, not_controlled},
};

/// Models that an answer names which are not ready.
const MAX_NAMED: usize = 8;
/// The longest reason of one of them, in characters.
const MAX_REASON: usize = 300;

/// The models that are not ready, each with its reason; empty without any.
fn waiting(registry: &Registry) -> String {
    let waiting = registry.index().into_iter().filter_map(|(name, version, state)| {
        let state = match state {
            VersionState::Ready(_) | VersionState::Unloaded => return None,
            VersionState::Loading => "is loading".to_owned(),
            VersionState::Draining => "is shutting down".to_owned(),
            VersionState::Failed(reason) | VersionState::DeviceLost(reason) => {
                let end = reason.char_indices().nth(MAX_REASON).map(|(end, _)| end);
                format!("failed: {}{}", &reason[..end.unwrap_or(reason.len())], if end.is_some() { "..." } else { "" })
            }
        };
        Some(format!("model '{name}' version {version} {state}"))
    });
    let all: Vec<_> = waiting.collect();
    let named = all[..all.len().min(MAX_NAMED)].join("; ");
    match all.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named}; and {more} more (/v2/repository/index lists all)"),
    }
}

/// A set of models behind one or more listeners.
pub struct Service {
    id: String,
    catalog: Arc<Catalog>,
    shared_memory: SharedMemory,
    traces: Traces,
    draining: CancellationToken,
    repository: OnceLock<Arc<Repository>>,
}

impl Service {
    /// A service of these models, without shared memory and traces.
    pub fn new(catalog: Catalog) -> Self {
        Self {
            id: SERVER_NAME.to_owned(),
            catalog: Arc::new(catalog),
            shared_memory: SharedMemory::new(None),
            traces: Traces::none(),
            draining: CancellationToken::new(),
            repository: OnceLock::new(),
        }
    }

    /// Lets clients register regions of shared memory.
    #[must_use]
    pub fn with_shared_memory(self, shared_memory: SharedMemory) -> Self {
        Self { shared_memory, ..self }
    }

    /// Lets clients trace requests.
    #[must_use]
    pub fn with_traces(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Names the server in its metadata.
    #[must_use]
    pub fn with_id(self, id: &str) -> Self {
        Self { id: id.to_owned(), ..self }
    }

    /// The server's name in `GET /v2` and `ServerMetadata`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The models in service.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The traces of requests.
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// The regions of shared memory.
    pub fn shared_memory(&self) -> &SharedMemory {
        &self.shared_memory
    }

    /// Sets the repository that the models are loaded from. Only the first call has an effect.
    pub fn attach(&self, repository: Arc<Repository>) {
        let _ = self.repository.set(repository);
    }

    /// The repository, for clients that load and unload models.
    ///
    /// # Errors
    /// Triton's refusal if the models do not come from a repository.
    pub fn repository(&self) -> Result<&Arc<Repository>, InferError> {
        self.repository.get().ok_or_else(not_controlled)
    }

    /// The index of the repository, or of the models in service if there is no repository.
    ///
    /// # Errors
    /// As [`Repository::index`].
    pub async fn index(&self, ready_only: bool) -> Result<Vec<IndexEntry>, InferError> {
        let Some(repository) = self.repository.get().cloned() else {
            return Ok(index_of(&self.catalog, ready_only));
        };
        // It reads folders, which would block the event loop.
        tokio::task::spawn_blocking(move || repository.index(ready_only)).await.map_err(InferError::internal)?
    }

    /// Whether the service is ready: it is not shutting down, no GPU failed, and all models are loaded and warm (with a repository
    /// that is not strict: it has tried to load all models).
    pub fn is_ready(&self) -> bool {
        let registry = self.catalog.registry();
        let loaded = match self.repository.get() {
            Some(repository) if !repository.strict_readiness() => repository.has_started(),
            Some(repository) => repository.has_started() && registry.are_all_ready(),
            None => registry.is_ready(),
        };
        loaded && !self.draining.is_cancelled() && self.catalog.gpu_fault().reason().is_none()
    }

    /// Why the service is not ready, if it is not: which models are not, each with its reason.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] with the reason.
    pub fn check_ready(&self) -> Result<(), InferError> {
        if self.is_ready() {
            return Ok(());
        }
        let reason = if self.draining.is_cancelled() {
            "the server is shutting down".to_owned()
        } else if let Some(reason) = self.catalog.gpu_fault().reason() {
            format!("a GPU failed: {reason}")
        } else {
            let models = waiting(self.catalog.registry());
            if models.is_empty() { "models are still to be loaded".to_owned() } else { models }
        };
        Err(InferError::new(ErrorKind::Unavailable, format_args!("not ready: {reason}")))
    }

    /// The protocol extensions in `GET /v2` and `ServerMetadata`.
    pub fn extensions(&self) -> Vec<String> {
        let shared_memory = self.shared_memory.is_allowed().then_some("system_shared_memory");
        let controlled = self.repository.get().is_some_and(|repository| repository.is_controlled());
        let repository = controlled.then_some(["model_repository", "model_repository(unload_dependents)"]);
        ["classification"]
            .into_iter()
            .chain(repository.into_iter().flatten())
            .chain(["schedule_policy", "model_configuration"])
            .chain(shared_memory)
            .chain(["binary_tensor_data", "parameters", "statistics", "trace", "logging"])
            .map(Into::into)
            .collect()
    }

    /// The trace settings of a model or of the server.
    ///
    /// # Errors
    /// [`quintet_engine::ErrorKind::InvalidInput`] for a model that is not in service.
    pub fn trace_settings(&self, model: Option<&str>) -> Result<TraceSettings, InferError> {
        self.update_trace_settings(model, &Update::new())
    }

    /// Changes the trace settings of a model or of the server, and returns them.
    ///
    /// # Errors
    /// As [`Traces::update`], and [`quintet_engine::ErrorKind::InvalidInput`] for a model that is not in service.
    pub fn update_trace_settings(&self, model: Option<&str>, update: &Update) -> Result<TraceSettings, InferError> {
        if let Some(model) = model
            && self.catalog.registry().ready_versions(model).is_empty()
        {
            return Err(InferError::invalid(format_args!("Request for unknown model : {model}")));
        }
        if !update.is_empty() {
            self.traces.update(model, update)?;
        }
        Ok(self.traces.settings(model))
    }

    /// Makes the service not ready; requests are still served.
    pub fn begin_drain(&self) {
        self.draining.cancel();
    }

    /// Cancelled when the service is no longer ready because the server is to end.
    pub fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// Finishes the accepted requests, stops the instances and writes the traces. Blocks.
    pub fn drain(&self) {
        self.begin_drain();
        self.catalog.registry().drain();
        self.flush();
    }

    /// Writes the traces. Blocks.
    pub fn flush(&self) {
        self.traces.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_are_not_ready_are_named_with_their_reasons() {
        let registry = Registry::default();
        assert_eq!(waiting(&registry), "");
        registry.set("a", 1, VersionState::Loading);
        registry.set("b", 2, VersionState::Failed("no file".into()));
        registry.set("c", 1, VersionState::Unloaded);
        assert_eq!(waiting(&registry), "model 'a' version 1 is loading; model 'b' version 2 failed: no file");
        registry.set("b", 2, VersionState::Failed("\u{e9}".repeat(1000)));
        (1..=20).for_each(|version| registry.set("d", version, VersionState::Loading));
        let text = waiting(&registry);
        assert!(text.contains(&format!("{}...;", "\u{e9}".repeat(MAX_REASON))), "{text}");
        assert!(
            text.ends_with("model 'd' version 6 is loading; and 14 more (/v2/repository/index lists all)"),
            "{text}"
        );
    }
}
