//! The repository methods: the index, load and unload.

use std::sync::Arc;

use quintet_engine::{ErrorKind, InferError};
use quintet_proto::inference::{
    RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
    model_repository_parameter::ParameterChoice, repository_index_response::ModelIndex,
};

use crate::{
    repository::{FILE_PREFIX, IndexEntry, Overrides},
    service::Service,
};

/// `RepositoryIndex`.
pub(super) async fn index(
    service: &Arc<Service>,
    request: RepositoryIndexRequest,
) -> Result<RepositoryIndexResponse, InferError> {
    refuse_repository_name(&request.repository_name)?;
    let entry = |entry: IndexEntry| ModelIndex {
        name: entry.name,
        version: entry.version.unwrap_or_default(),
        state: entry.state.unwrap_or_default().to_owned(),
        reason: entry.reason.unwrap_or_default(),
    };
    let index = service.index(request.ready).await?;
    Ok(RepositoryIndexResponse { models: index.into_iter().map(entry).collect() })
}

/// `RepositoryModelLoad`.
pub(super) async fn load(service: &Arc<Service>, request: RepositoryModelLoadRequest) -> Result<(), InferError> {
    refuse_repository_name(&request.repository_name)?;
    let mut overrides = Overrides::default();
    for (name, value) in request.parameters {
        let content = match (name.starts_with(FILE_PREFIX), value.parameter_choice) {
            (true, Some(ParameterChoice::BytesParam(content))) => content,
            (true, _) => return Err(wrong_type("load", &name, "bytes_param")),
            (false, Some(ParameterChoice::StringParam(text))) => text.into(),
            (false, _) => return Err(wrong_type("load", &name, "string_param")),
        };
        overrides.insert(&name, content)?;
    }
    let repository = service.repository()?;
    repository.load(&request.model_name, overrides).await
}

/// `RepositoryModelUnload`.
pub(super) async fn unload(service: &Arc<Service>, request: RepositoryModelUnloadRequest) -> Result<(), InferError> {
    refuse_repository_name(&request.repository_name)?;
    let dependents = match request.parameters.get("unload_dependents").map(|value| &value.parameter_choice) {
        None => false,
        Some(Some(ParameterChoice::BoolParam(dependents))) => *dependents,
        Some(_) => return Err(wrong_type("unload", "unload_dependents", "bool_param")),
    };
    let repository = service.repository()?;
    repository.unload(&request.model_name, dependents).await
}

fn wrong_type(method: &str, parameter: &str, expected: &str) -> InferError {
    InferError::invalid(format_args!("invalid value type for {method} parameter '{parameter}', expected {expected}."))
}

/// As Triton: the field exists, but is not supported.
fn refuse_repository_name(name: &str) -> Result<(), InferError> {
    if name.is_empty() {
        return Ok(());
    }
    Err(InferError::new(ErrorKind::Unsupported, "'repository_name' specification is not supported"))
}
