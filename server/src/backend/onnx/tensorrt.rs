//! What TensorRT is told beyond a model's configuration: the profile and where engines are kept.

use std::path::Path;

use ort::{
    ep,
    session::{Session, builder::GraphOptimizationLevel},
};

use super::{
    session::{LoadOptions, tensors},
    tuning::Tuning,
};
use crate::gpu;

/// The tuning with what TensorRT needs filled in.
///
/// # Errors
/// When there is no TensorRT here, or ONNX Runtime cannot read the model.
pub(super) fn fill_in(path: &Path, tuning: &Tuning, options: &LoadOptions) -> ort::Result<Tuning> {
    // First whether it is there at all: the rest reads the whole model file, twice.
    let provider = ep::TensorRT::default().with_device_id(tuning.device).build().error_on_failure();
    Session::builder(&options.environment)?.with_execution_providers([provider])?;

    let mut tuning = tuning.clone();
    profile(path, &mut tuning, options)?;
    cache(path, &mut tuning, options);
    let file = path.display();
    tracing::info!(%file, options = ?tuning.tensorrt, "TensorRT reads its engine or builds it, which takes minutes");
    Ok(tuning)
}

/// Profile shapes, unless the configuration gives any.
fn profile(path: &Path, tuning: &mut Tuning, options: &LoadOptions) -> ort::Result<()> {
    let given = |end| tuning.tensorrt.get(end).is_some();
    if ["trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes"].into_iter().any(given) {
        return Ok(());
    }
    // Names and shapes are the model file's own; on the CPU and as it is, it is read fastest.
    let unoptimized = Session::builder(&options.environment)?
        .with_optimization_level(GraphOptimizationLevel::Disable)?
        .commit_from_file(path)?;
    let inputs = tensors(path, unoptimized.inputs()).map_err(ort::Error::wrap)?;
    match tuning.profile.shapes(&inputs) {
        Ok(Some(shapes)) => {
            tuning.tensorrt.set_default("trt_profile_min_shapes", shapes.min);
            tuning.tensorrt.set_default("trt_profile_opt_shapes", shapes.opt);
            tuning.tensorrt.set_default("trt_profile_max_shapes", shapes.max);
        }
        Ok(None) => {}
        Err(input) => {
            let file = path.display();
            tracing::warn!(%file, input, "no profile for TensorRT, and an engine at each new shape: give the input's dims");
        }
    }
    Ok(())
}

/// A folder for engines and timings, unless the configuration says whether and where.
fn cache(path: &Path, tuning: &mut Tuning, options: &LoadOptions) {
    let Some(cache) = &options.engine_cache else { return };
    if tuning.tensorrt.get("trt_engine_cache_enable").is_some() {
        return;
    }
    let gpu = gpu::name(tuning.device).unwrap_or_else(|| "gpu".to_owned());
    match cache.folder_of(path, &gpu) {
        Ok(folder) => {
            let folder = folder.display().to_string();
            tuning.tensorrt.set_default("trt_engine_cache_enable", "1");
            tuning.tensorrt.set_default("trt_engine_cache_path", folder.clone());
            tuning.tensorrt.set_default("trt_timing_cache_enable", "1");
            tuning.tensorrt.set_default("trt_timing_cache_path", folder);
        }
        Err(error) => {
            let (file, folder) = (path.display(), cache.folder.display());
            tracing::warn!(%file, %folder, %error, "TensorRT's engines are not kept");
        }
    }
}
