//! Options for TensorRT that a model's configuration does not set: the profile and the engine cache.
//!
//! With `trt_dump_ep_context_model` the engine is also saved as an ONNX model (an EP context), which later loads use
//! instead of the model file, so that TensorRT neither parses nor builds. Saved files that do not load are rebuilt.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ort::{
    ep,
    session::{Session, builder::GraphOptimizationLevel},
};

use super::{
    commit::only_cpu,
    loaded::{LoadOptions, tensors},
    options::ProviderOptions,
    profile::Profile,
    tuning::Tuning,
};
use crate::observe::gpu;

/// A model file and how it is tuned for TensorRT.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prepared {
    /// The file to load: the model, or its EP context.
    pub(super) file: PathBuf,
    /// Whether it is the EP context that an earlier session saved.
    is_context: bool,
    pub(super) tuning: Tuning,
}

impl Prepared {
    /// The cached files that caused this error of a session: an EP context and the engine next to it, or the engine
    /// that TensorRT reports as unreadable.
    fn damaged_files(&self, error: &str) -> Vec<PathBuf> {
        let folder = match self.is_context {
            true => self.file.parent(),
            false => self.tuning.tensorrt.get("trt_engine_cache_path").map(Path::new),
        };
        let files = folder.and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
        let engines = files
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "engine"));
        let named = |path: &PathBuf| path.file_name().is_some_and(|name| error.contains(&*name.to_string_lossy()));
        let engines = engines.filter(|path| self.is_context || (error.contains(UNREADABLE_ENGINE) && named(path)));
        self.is_context.then(|| self.file.clone()).into_iter().chain(engines).collect()
    }
}

/// The TensorRT provider's message for an unreadable engine in its cache; the file's path follows.
const UNREADABLE_ENGINE: &str = "could not deserialize engine";

/// Creates a session from the result of `prepare`. If that fails because of damaged cached files, deletes them and
/// tries once more, which rebuilds them.
///
/// # Errors
/// As `prepare` and `session` in the last attempt.
pub(super) fn make<T>(
    prepare: impl Fn() -> ort::Result<Prepared>,
    session: impl Fn(&Prepared) -> ort::Result<T>,
) -> ort::Result<T> {
    let prepared = prepare()?;
    let error = match session(&prepared) {
        Ok(session) => return Ok(session),
        Err(error) => error,
    };
    let damaged = prepared.damaged_files(error.message());
    if damaged.is_empty() {
        return Err(error);
    }
    for file in damaged {
        let error = error.message();
        tracing::warn!(file = %file.display(), error, "a cached TensorRT engine does not load; it is deleted and rebuilt");
        fs::remove_file(&file).map_err(ort::Error::wrap)?;
    }
    session(&prepare()?)
}

/// Completes the tuning with the options that TensorRT needs.
///
/// # Errors
/// When TensorRT is not available, or ONNX Runtime cannot read the model.
pub(super) fn prepare(path: &Path, tuning: &Tuning, options: &LoadOptions) -> ort::Result<Prepared> {
    // First check that TensorRT is available: the rest reads the whole model file twice.
    let provider = ep::TensorRT::default().with_device_id(tuning.device).build().error_on_failure();
    Session::builder(&options.library.environment)?.with_execution_providers([provider])?;

    let mut tuning = tuning.clone();
    let gpu = gpu::name(tuning.device).unwrap_or_else(|| "gpu".to_owned());
    if let Some(context) = cache(path, &mut tuning, options, &gpu) {
        let file = context.file.display();
        tracing::info!(model = %path.display(), %file, "TensorRT loads the saved EP context");
        return Ok(context);
    }
    let expected = tuning.profile.clone();
    profile(path, &mut tuning.tensorrt, &expected, options, &PROFILE)?;
    let file = path.display();
    tracing::info!(%file, options = ?tuning.tensorrt, "TensorRT loads its engine from the cache or builds it, which takes minutes");
    Ok(Prepared { file: path.to_owned(), is_context: false, tuning })
}

/// How a provider takes a profile.
pub(super) struct ProfileOptions {
    /// The options with the least, the best and the largest shapes.
    pub(super) names: [&'static str; 3],
    /// What stands between two inputs.
    pub(super) between: &'static str,
}

const PROFILE: ProfileOptions = ProfileOptions {
    names: ["trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes"],
    between: ",",
};

/// Sets the profile's shapes, unless the configuration gives any.
///
/// # Errors
/// When ONNX Runtime cannot read the model.
pub(super) fn profile(
    path: &Path,
    settings: &mut ProviderOptions,
    expected: &Profile,
    options: &LoadOptions,
    &ProfileOptions { names, between }: &ProfileOptions,
) -> ort::Result<()> {
    if names.into_iter().any(|name| settings.get(name).is_some()) {
        return Ok(());
    }
    // Only names and shapes are needed: reading the file is fastest on the CPU without optimisation.
    let unoptimized = only_cpu(Session::builder(&options.library.environment)?, options.library)?
        .with_optimization_level(GraphOptimizationLevel::Disable)?
        .commit_from_file(path)?;
    let inputs = tensors(path, unoptimized.inputs()).map_err(ort::Error::wrap)?;
    match expected.shapes(&inputs, between) {
        Ok(Some(shapes)) => {
            for (name, shapes) in names.into_iter().zip([shapes.min, shapes.opt, shapes.max]) {
                settings.set_default(name, shapes);
            }
        }
        Ok(None) => {}
        Err(input) => {
            let file = path.display();
            tracing::warn!(%file, input, "no profile for TensorRT, which rebuilds its engine for each new shape: set the input's dims");
        }
    }
    Ok(())
}

/// Sets the folder of engines and timings, unless the configuration does. Returns the EP context of this model, GPU and
/// library, if the configuration asks for one and it exists.
fn cache(path: &Path, tuning: &mut Tuning, options: &LoadOptions, gpu: &str) -> Option<Prepared> {
    let cache = options.engine_cache.as_ref()?;
    let given = |name: &str| tuning.tensorrt.get(name).is_some();
    if given("trt_engine_cache_enable") || given("trt_ep_context_file_path") {
        return None;
    }
    let folder = match cache.model_folder(path, gpu) {
        Ok(folder) => folder,
        Err(error) => {
            let (file, folder) = (path.display(), cache.folder.display());
            tracing::warn!(%file, %folder, %error, "cannot use the engine cache; TensorRT's engines are not cached");
            return None;
        }
    };
    let settings = &mut tuning.tensorrt;
    settings.set_default("trt_engine_cache_enable", "1");
    settings.set_default("trt_timing_cache_enable", "1");
    settings.set_default("trt_timing_cache_path", folder.display().to_string());
    if settings.get(DUMP) != Some("1") {
        settings.set_default("trt_engine_cache_path", folder.display().to_string());
        return None;
    }
    // The engine is next to the context, which names it: ONNX Runtime resolves the cache path relative to the context.
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let file = folder.join(format!("{stem}_ctx.onnx"));
    if file.is_file() {
        let mut tuning = tuning.clone();
        tuning.tensorrt.remove(DUMP);
        tuning.tensorrt.remove("trt_ep_context_embed_mode");
        return Some(Prepared { file, is_context: true, tuning });
    }
    settings.set_default("trt_ep_context_file_path", file.display().to_string());
    None
}

/// The option that saves the engine as an ONNX model.
const DUMP: &str = "trt_dump_ep_context_model";

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use quintet_onnxruntime::ThreadPool;

    use super::{
        super::{Accelerator, EngineCache, Provider, pinned::IDENTITY, session::session},
        *,
    };
    use crate::observe::logging::captured;

    /// A model and a folder for its engines.
    fn repository() -> (tempfile::TempDir, PathBuf, LoadOptions) {
        let root = tempfile::tempdir().unwrap();
        let model = root.path().join("m/1/model.onnx");
        fs::create_dir_all(model.parent().unwrap()).unwrap();
        fs::write(&model, IDENTITY).unwrap();
        let library = quintet_onnxruntime::load(None, ThreadPool { intra_op_threads: 1, spin: false }).unwrap();
        let engine_cache = EngineCache { folder: root.path().join("engines"), library: "1.31.1".to_owned() };
        let options = LoadOptions { library, providers: vec![Provider::Cpu], engine_cache: Some(engine_cache) };
        (root, model, options)
    }

    /// The preparation of the model, without a check that TensorRT is available.
    fn found(model: &Path, options: &LoadOptions) -> Prepared {
        let mut tuning = Tuning::default();
        tuning.tensorrt.set(Accelerator::TensorRt, DUMP, "1").unwrap();
        let context = cache(model, &mut tuning, options, "A100");
        context.unwrap_or(Prepared { file: model.to_owned(), is_context: false, tuning })
    }

    #[test]
    fn rebuilds_a_damaged_ep_context_with_a_warning_that_names_it() {
        let (_root, model, options) = repository();
        let context = PathBuf::from(found(&model, &options).tuning.tensorrt.get("trt_ep_context_file_path").unwrap());
        let engine = context.with_file_name("TensorrtExecutionProvider_0.engine");
        for damage in [&b""[..], b"not a model", &IDENTITY[..40]] {
            fs::write(&context, damage).unwrap();
            fs::write(&engine, "of the damaged context").unwrap();
            // ONNX Runtime itself reads the files, on the CPU.
            let (made, log) = captured(|| {
                make(
                    || Ok(found(&model, &options)),
                    |prepared| {
                        let tuning = Tuning::default();
                        session(&prepared.file, Provider::Cpu, &options, &tuning).map(|_| prepared.file.clone())
                    },
                )
            });
            assert_eq!(made.unwrap(), model);
            assert!(!context.exists() && !engine.exists(), "the next session builds both");
            let warned = |file: &Path| log.matches(&format!("file={} ", file.display())).count();
            assert_eq!((warned(&context), warned(&engine)), (1, 1), "{log}");
        }
        // One that loads is left alone.
        fs::write(&context, IDENTITY).unwrap();
        let made = make(|| Ok(found(&model, &options)), |prepared| Ok(prepared.file.clone()));
        assert_eq!((made.unwrap(), context.exists()), (context, true));
    }

    #[test]
    fn rebuilds_only_the_unreadable_engine_of_a_cache() {
        let (root, model, options) = repository();
        let (bad, good) = (root.path().join("a.engine"), root.path().join("b.engine"));
        [&bad, &good].into_iter().for_each(|file| fs::write(file, "engine").unwrap());
        let mut tuning = Tuning::default();
        let folder = root.path().to_str().unwrap();
        tuning.tensorrt.set(Accelerator::TensorRt, "trt_engine_cache_path", folder).unwrap();
        let prepare = || Ok(Prepared { file: model.clone(), is_context: false, tuning: tuning.clone() });
        let tries = Cell::new(0);
        let fails_with = |error: String| {
            tries.set(0);
            make(prepare, |_| {
                tries.set(tries.get() + 1);
                if tries.get() == 1 { Err(ort::Error::new(error.clone())) } else { Ok(()) }
            })
        };
        // Another failure does not cause a rebuild, which takes minutes.
        let error = fails_with(format!("out of memory while loading {}", bad.display())).unwrap_err();
        assert!(error.message().contains("out of memory") && bad.exists(), "{error}");
        let unreadable = format!("TensorRT EP could not deserialize engine from cache: {}", bad.display());
        let (made, log) = captured(|| fails_with(unreadable));
        made.unwrap();
        assert_eq!((tries.get(), bad.exists(), good.exists()), (2, false, true));
        assert!(log.contains("a.engine") && !log.contains("b.engine"), "{log}");
        drop(options);
    }

    #[test]
    fn saves_an_ep_context_by_model_gpu_and_library_and_loads_it() {
        let root = tempfile::tempdir().unwrap();
        let model = root.path().join("m/1/model.onnx");
        fs::create_dir_all(model.parent().unwrap()).unwrap();
        fs::write(&model, "a").unwrap();
        let engines = root.path().join("engines");
        let library = quintet_onnxruntime::load(None, ThreadPool { intra_op_threads: 1, spin: false }).unwrap();
        let options = LoadOptions {
            library,
            providers: vec![Provider::TensorRt],
            engine_cache: Some(EngineCache { folder: engines.clone(), library: "1.31.1".to_owned() }),
        };
        let tuned = |given: &[(&str, &str)]| {
            let mut tuning = Tuning::default();
            for (name, value) in given {
                tuning.tensorrt.set(Accelerator::TensorRt, name, value).unwrap();
            }
            tuning
        };
        let options_text = |tuning: &Tuning| tuning.tensorrt.to_string().replace(root.path().to_str().unwrap(), "");
        let mut dumped = tuned(&[(DUMP, "true"), ("trt_ep_context_embed_mode", "0")]);
        assert_eq!(cache(&model, &mut dumped, &options, "A100"), None);
        let folder = dumped.tensorrt.get("trt_timing_cache_path").unwrap().to_owned();
        let key = Path::new(&folder).file_name().unwrap().to_str().unwrap();
        assert!(key.ends_with("-A100-1.31.1"), "{key}");
        insta::assert_snapshot!(options_text(&dumped).replace(key, "KEY"), @r"
        trt_dump_ep_context_model=1
        trt_engine_cache_enable=1
        trt_ep_context_embed_mode=0
        trt_ep_context_file_path=/engines/KEY/model_ctx.onnx
        trt_timing_cache_enable=1
        trt_timing_cache_path=/engines/KEY
        ");

        // ONNX Runtime writes this file when it creates the session.
        let context = Path::new(&folder).join("model_ctx.onnx");
        fs::write(&context, "c").unwrap();
        let mut again = tuned(&[(DUMP, "true")]);
        let loaded = cache(&model, &mut again, &options, "A100").unwrap();
        assert_eq!(loaded.file, context);
        insta::assert_snapshot!(options_text(&loaded.tuning).replace(key, "KEY"), @r"
        trt_engine_cache_enable=1
        trt_timing_cache_enable=1
        trt_timing_cache_path=/engines/KEY
        ");

        // Not for another GPU or model, without the option, or if the configuration sets its own path.
        assert_eq!(cache(&model, &mut tuned(&[(DUMP, "true")]), &options, "H100"), None);
        assert_eq!(cache(&model, &mut tuned(&[]), &options, "A100"), None);
        let own = [(DUMP, "true"), ("trt_ep_context_file_path", "/own/c.onnx")];
        assert_eq!(cache(&model, &mut tuned(&own), &options, "A100"), None);
        fs::write(&model, "b").unwrap();
        assert_eq!(cache(&model, &mut tuned(&[(DUMP, "true")]), &options, "A100"), None);
    }
}
