//! The models of an ensemble's steps.

use quintet_proto::inference::{ModelConfig, model_config::SchedulingChoice, model_ensembling::Step};

use crate::catalog::Catalog;

/// The models of an ensemble's steps.
pub(super) fn steps_of(catalog: &Catalog, name: &str) -> Vec<String> {
    catalog.configs(name).iter().flat_map(|config| steps(config)).map(|step| step.model_name.clone()).collect()
}

/// The steps of an ensemble; empty for other models.
pub(super) fn steps(config: &ModelConfig) -> &[Step] {
    match &config.scheduling_choice {
        Some(SchedulingChoice::EnsembleScheduling(ensemble)) => &ensemble.step,
        _ => &[],
    }
}
