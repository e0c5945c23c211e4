//! The last stage of a load: starts and warms a model.

use std::time::Instant;

use quintet_engine::{BufferPool, Instance, Model, ModelSpec, Sample};

use crate::kserve::ensemble::Ensemble;

/// The instances or the ensemble of a model.
pub(super) enum Runner {
    /// Instances, each with its own thread.
    Instances(Vec<Box<dyn Instance>>),
    /// The steps of an ensemble.
    Ensemble(Box<Ensemble>),
}

impl Runner {
    /// Starts a model, and warms its instances with `samples`. Its load started at `started`.
    ///
    /// # Errors
    /// When an instance fails its warm-up.
    pub(super) fn start(
        self,
        spec: ModelSpec,
        samples: Vec<Sample>,
        pool: BufferPool,
        started: Instant,
    ) -> anyhow::Result<Model> {
        Ok(match self {
            Self::Instances(instances) => Model::start(spec, instances, samples, pool, started.elapsed())?,
            Self::Ensemble(ensemble) => Model::compose(spec, ensemble, Ensemble::placement(), pool, started.elapsed()),
        })
    }
}
