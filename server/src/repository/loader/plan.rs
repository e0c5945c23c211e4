//! The first two stages of a load, for every backend: plan, then open.

use std::sync::Arc;

use quintet_engine::TensorSpec;

use super::{builtin::BuiltinPlan, file_plan::FilePlan, model_file::ModelFile, options::Loader, start::Runner};
use crate::{
    catalog::Catalog,
    repository::{backend::Backend, error::ConfigError, source::ModelSource, spec::SpecDetails},
};

/// How to load a model, from its configuration. Nothing is opened yet.
pub(super) enum Plan {
    File(Arc<FilePlan>),
    Builtin(Box<BuiltinPlan>),
}

impl Plan {
    /// The plan for a model.
    ///
    /// # Errors
    /// When its configuration contradicts itself.
    pub(super) fn new(source: &ModelSource, loader: &Loader) -> Result<Self, ConfigError> {
        if Backend::of(&source.config).needs_file() {
            return Ok(Self::File(Arc::new(FilePlan::new(source.clone(), loader.clone())?)));
        }
        Ok(Self::Builtin(Box::new(BuiltinPlan::new(source.clone())?)))
    }

    /// Whether there is a model file to open.
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Opens the model file, once.
    ///
    /// # Errors
    /// When no backend can read it.
    pub(super) fn open(self) -> anyhow::Result<Opened> {
        Ok(match self {
            Self::File(plan) => Opened::File { first: Box::new(plan.open(0)?), plan },
            Self::Builtin(plan) => Opened::Builtin(plan),
        })
    }
}

/// A model whose tensors are known.
pub(super) enum Opened {
    File { first: Box<ModelFile>, plan: Arc<FilePlan> },
    Builtin(Box<BuiltinPlan>),
}

impl Opened {
    /// The model on disk, with the configuration completed by its backend.
    pub(super) fn source(&self) -> &ModelSource {
        match self {
            Self::File { plan, .. } => plan.source(),
            Self::Builtin(plan) => plan.source(),
        }
    }

    /// Its inputs and outputs, with the batch dimension.
    pub(super) fn tensors(&self) -> (&[TensorSpec], &[TensorSpec]) {
        match self {
            Self::File { first, .. } => (first.inputs(), first.outputs()),
            Self::Builtin(plan) => plan.tensors(),
        }
    }

    /// Updates `details` to the devices that a model file really runs on.
    pub(super) fn settle(&self, details: &mut SpecDetails, catalog: &Catalog) {
        if let Self::File { first, plan } = self {
            plan.settle(details, &first.placement(), catalog);
        }
    }

    /// All instances of the model, or the ensemble.
    ///
    /// # Errors
    /// When an instance cannot be opened, or an ensemble does not fit its steps.
    pub(super) fn into_runner(self, details: &SpecDetails, catalog: &Arc<Catalog>) -> anyhow::Result<Runner> {
        match self {
            Self::File { first, plan } => plan.open_all(*first, details).map(Runner::Instances),
            Self::Builtin(plan) => plan.into_runner(details, catalog),
        }
    }
}
