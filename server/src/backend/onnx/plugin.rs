//! Sessions on a provider from a library of its own: the device, the options, and what the provider compiled before.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

use quintet_engine::Device;
use quintet_onnxruntime::{ListedDevice, Loaded, one_line};

use super::{
    commit::{Built, commit},
    loaded::LoadOptions,
    option_table::{EP_CONTEXT, OPENVINO_CACHE, OPENVINO_DEVICE, OPENVINO_PRECISION},
    options::ProviderOptions,
    provider::{Plugin, Provider},
    tensorrt::{ProfileOptions, profile},
    tuning::Tuning,
};
use crate::backend::gpu_work;

/// The options of OpenVINO that are properties, by the names of both. The plug-in reads them from `load_config`.
const PROPERTIES: [(&str, &str); 5] = [
    (OPENVINO_CACHE, "CACHE_DIR"),
    ("num_of_threads", "INFERENCE_NUM_THREADS"),
    ("num_streams", "NUM_STREAMS"),
    ("performance_hint", "PERFORMANCE_HINT"),
    (OPENVINO_PRECISION, "INFERENCE_PRECISION_HINT"),
];

/// The profile of TensorRT-RTX.
const PROFILE: ProfileOptions =
    ProfileOptions { names: ["nv_profile_min_shapes", "nv_profile_opt_shapes", "nv_profile_max_shapes"], between: ";" };

/// Held while an EP context is looked for and made: services of one process share the folder.
static COMPILING: Mutex<()> = Mutex::new(());

/// The device that a provider's session runs on.
///
/// # Errors
/// Why there is none, in one line.
fn listed(plugin: Plugin, library: &'static Loaded, tuning: &Tuning) -> Result<ListedDevice, String> {
    let provider = Provider::Plugin(plugin);
    let mut devices = library.devices().into_iter().filter(|device| device.provider == provider.name());
    let kind = match plugin {
        Plugin::OpenVino => tuning.openvino.get(OPENVINO_DEVICE).unwrap_or("CPU"),
        Plugin::TensorRtRtx => "GPU",
        Plugin::Other(_) => "device",
    };
    let found = match plugin {
        Plugin::OpenVino => devices.find(|device| device.kind == kind),
        Plugin::TensorRtRtx | Plugin::Other(_) => devices.nth(usize::try_from(tuning.device).unwrap_or(0)),
    };
    found.ok_or_else(|| {
        let libraries = library.plugins();
        match libraries.into_iter().find(|(name, _)| *name == provider.to_string()) {
            Some((_, Err(reason))) => reason,
            Some((_, Ok(()))) => format!("its library takes no {kind} of this machine"),
            None => match plugin {
                Plugin::Other(_) => "no library of --ep-library has a device for it".to_owned(),
                _ => format!("no library is registered: --ep-library {provider}=PATH"),
            },
        }
    })
}

/// The device that a provider's session runs on, as it is reported.
pub(super) fn device(plugin: Plugin, library: &'static Loaded, tuning: &Tuning) -> Option<Device> {
    let ListedDevice { kind, vendor, name, .. } = listed(plugin, library, tuning).ok()?;
    Some(Device { kind: kind.to_owned(), name: if name.is_empty() { vendor } else { name } })
}

/// The precision of a provider's computation if it is lower than the model's own. NVIDIA's builder takes TF32 for FP32, and the
/// TensorRT-RTX provider has no option for it.
pub(super) fn precision(plugin: Plugin, tuning: &Tuning) -> Option<&'static str> {
    match plugin {
        Plugin::TensorRtRtx => Some("TF32"),
        Plugin::OpenVino => tuning.openvino.precision(),
        Plugin::Other(_) => None,
    }
}

/// A session on the provider, from its saved EP context if the options ask for one and it loads.
///
/// # Errors
/// Why the provider does not work, or cannot run the model.
pub(super) fn build(path: &Path, plugin: Plugin, options: &LoadOptions, tuning: &Tuning) -> ort::Result<Built> {
    let device = listed(plugin, options.library, tuning).map_err(ort::Error::new)?;
    let mut settings = match plugin {
        Plugin::TensorRtRtx => tuning.tensorrt_rtx.clone(),
        Plugin::OpenVino => tuning.openvino.clone(),
        Plugin::Other(_) => ProviderOptions::default(),
    };
    match plugin {
        Plugin::TensorRtRtx => profile(path, &mut settings, &tuning.profile, options, &PROFILE)?,
        Plugin::OpenVino => {
            if let Some(threads) = tuning.intra_op_threads {
                settings.set_default("num_of_threads", threads.to_string());
            }
        }
        Plugin::Other(_) => {}
    }
    let opening = Opening { plugin, library: options.library, tuning };
    let session = |file: &Path, settings: &ProviderOptions, save: Option<&Path>| opening.open(file, settings, save);
    let wants_context = settings.get(EP_CONTEXT) == Some("1");
    settings.remove(EP_CONTEXT);
    let Some(folder) = cache_folder(path, plugin, &device, options) else {
        return session(path, &settings, None);
    };
    match plugin {
        // With a saved context there is nothing else to cache.
        Plugin::OpenVino if !wants_context => settings.set_default(OPENVINO_CACHE, folder.display().to_string()),
        Plugin::TensorRtRtx => settings.set_default("nv_runtime_cache_path", folder.display().to_string()),
        _ => {}
    }
    if !wants_context {
        return session(path, &settings, None);
    }
    let _alone = COMPILING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let context = folder.join(format!("{}_ctx.onnx", path.file_stem().unwrap_or_default().to_string_lossy()));
    if context.is_file() {
        match session(&context, &settings, None) {
            Ok(built) => {
                tracing::info!(model = %path.display(), file = %context.display(), "loaded from the saved EP context");
                return Ok(built);
            }
            Err(error) => {
                let (file, error) = (context.display(), one_line(error.message()));
                tracing::warn!(%file, error, "a saved EP context does not load; it is deleted and rebuilt");
                remove_context(&context);
            }
        }
    }
    session(path, &settings, Some(&context))
}

/// What the sessions of one provider have in common.
struct Opening<'a> {
    plugin: Plugin,
    library: &'static Loaded,
    tuning: &'a Tuning,
}

impl Opening<'_> {
    /// A session on the file; its EP context is saved to `save`.
    fn open(&self, file: &Path, settings: &ProviderOptions, save: Option<&Path>) -> ort::Result<Built> {
        let &Self { plugin, library, tuning } = self;
        let device = listed(plugin, library, tuning).map_err(ort::Error::new)?;
        let _work = (device.kind != "CPU").then(gpu_work::shared);
        let provider = Provider::Plugin(plugin);
        let given = given(plugin, device.kind, settings);
        let given: Vec<_> =
            given.into_iter().map(|(name, value)| (format!("{}.{name}", provider.name()), value)).collect();
        let mut builder = tuning.builder(library)?.with_devices([device.device], Some(&given))?;
        if let Some(save) = save {
            let save = save.to_str().ok_or_else(|| ort::Error::new("the engine cache's path is not UTF-8"))?;
            builder =
                builder.with_config_entry("ep.context_enable", "1")?.with_config_entry("ep.context_file_path", save)?;
        }
        commit(builder, file, provider)
    }
}

/// The options as the provider takes them.
fn given(plugin: Plugin, kind: &str, settings: &ProviderOptions) -> Vec<(&'static str, String)> {
    if plugin != Plugin::OpenVino {
        return settings.iter().map(|(name, value)| (name, value.to_owned())).collect();
    }
    let property = |(own, name): &(&str, &str)| {
        let value = settings.get(own)?;
        let value = if *own == OPENVINO_PRECISION { value.to_lowercase().replace("fp", "f") } else { value.to_owned() };
        Some(((*name).to_owned(), value.into()))
    };
    let properties: serde_json::Map<String, serde_json::Value> = PROPERTIES.iter().filter_map(property).collect();
    let load_config = serde_json::json!({ kind: properties }).to_string();
    let shapes = settings.get("reshape_input").map(|shapes| ("reshape_input", shapes.to_owned()));
    [("load_config", load_config)].into_iter().chain(shapes).collect()
}

/// The folder of what the provider compiles for this model and device; `None` without an engine cache.
fn cache_folder(path: &Path, plugin: Plugin, device: &ListedDevice, options: &LoadOptions) -> Option<PathBuf> {
    let cache = options.engine_cache.as_ref()?;
    let name = if device.name.is_empty() { &device.vendor } else { &device.name };
    let key = format!("{} {} {} {name}", Provider::Plugin(plugin), device.version, device.kind);
    cache
        .model_folder(path, &key)
        .inspect_err(|error| {
            let (file, folder) = (path.display(), cache.folder.display());
            tracing::warn!(%file, %folder, %error, "cannot use the engine cache; what the provider compiles is not cached");
        })
        .ok()
}

/// Deletes an EP context and the files that the provider put beside it.
fn remove_context(context: &Path) {
    let (Some(folder), Some(stem)) = (context.parent(), context.file_stem()) else { return };
    let stem = stem.to_string_lossy();
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&*stem))
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(file = %path.display(), %error, "cannot delete a file of an EP context");
        }
    }
}

#[cfg(test)]
mod tests {
    use quintet_onnxruntime::ThreadPool;

    use super::{super::Accelerator, *};

    #[test]
    fn openvinos_options_are_properties_of_its_device() {
        let mut settings = ProviderOptions::openvino();
        settings.set(Accelerator::OpenVino, "num_of_threads", "2").unwrap();
        settings.set(Accelerator::OpenVino, "reshape_input", "x[1..4,3]").unwrap();
        settings.set(Accelerator::OpenVino, "cache_dir", "/a \"b\"").unwrap();
        let given = given(Plugin::OpenVino, "CPU", &settings);
        insta::assert_debug_snapshot!(given, @r#"
        [
            (
                "load_config",
                "{\"CPU\":{\"CACHE_DIR\":\"/a \\\"b\\\"\",\"INFERENCE_NUM_THREADS\":\"2\",\"INFERENCE_PRECISION_HINT\":\"f32\"}}",
            ),
            (
                "reshape_input",
                "x[1..4,3]",
            ),
        ]
        "#);
    }

    #[test]
    fn says_why_a_provider_has_no_device() {
        let library = quintet_onnxruntime::load(None, ThreadPool { intra_op_threads: 1, spin: false }).unwrap();
        let why = |plugin| listed(plugin, library, &Tuning::default()).err().unwrap();
        assert_eq!(why(Plugin::OpenVino), "no library is registered: --ep-library openvino=PATH");
        assert_eq!(why(Plugin::Other("XExecutionProvider")), "no library of --ep-library has a device for it");
        assert_eq!(why(Plugin::TensorRtRtx), "no library is registered: --ep-library tensorrt-rtx=PATH");
    }

    #[test]
    fn removes_a_context_with_its_files_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let names = ["model_ctx.onnx", "model_ctx_OpenVINOExecutionProvider.bin", "model.onnx", "1.blob"];
        names.iter().for_each(|name| fs::write(file(name), "x").unwrap());
        remove_context(&file(names[0]));
        assert_eq!(names.map(|name| file(name).exists()), [false, false, true, true]);
    }
}
