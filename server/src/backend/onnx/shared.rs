//! One session for all instances of the process that run the same model in the same way: one copy of its weights.
//!
//! Only sessions on ONNX Runtime's CPU provider are shared, which may run several times at once (`opened`), and only
//! those whose configuration gives them no threads of their own, which would be for one instance each. A session goes with
//! its last instance.

use std::{
    path::Path,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::{
    commit::Built,
    content::Files,
    handle::Handle,
    opened::Opened,
    tuning::{GraphLevel, Tuning},
};

/// What sessions must have in common to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    /// The model's files: not their paths, since the file at a path may change.
    content: blake3::Hash,
    graph_level: GraphLevel,
    parallel: bool,
    memory_pattern: Option<bool>,
}

/// The session of a key. Locked while it is made, so that others who want it wait for it.
type Slot = Arc<Mutex<Weak<Opened>>>;

static SLOTS: Mutex<Vec<(Key, Slot)>> = Mutex::new(Vec::new());

/// A handle of the session for this model on the CPU provider: of one that is in use already, or else of one that `make`
/// makes.
///
/// # Errors
/// Those of `make`. The next caller tries again.
pub(super) fn session(path: &Path, tuning: &Tuning, make: impl FnOnce() -> ort::Result<Built>) -> ort::Result<Handle> {
    // A file that cannot be read is an error of `make`.
    let files = Files::of(path).ok().filter(|files| !files.has_folders() && !tuning.has_own_threads());
    let content = files.as_ref().and_then(|files| files.hash().ok());
    let (Some(files), Some(content)) = (files, content) else { return Ok(Handle::new(make()?)) };
    let Tuning { graph_level, parallel, memory_pattern, .. } = *tuning;
    let slot = slot(Key { content, graph_level, parallel, memory_pattern });
    let mut slot = slot.lock();
    if let Some(shared) = slot.upgrade() {
        return Ok(Handle(shared));
    }
    let made = Handle::new(make()?);
    // If the files changed meanwhile, it may hold what they are now.
    if Files::of(path).is_ok_and(|now| now == files) {
        *slot = Arc::downgrade(&made.0);
    }
    Ok(made)
}

/// The slot for a key. Slots that nothing uses any more are dropped.
fn slot(key: Key) -> Slot {
    let mut slots = SLOTS.lock();
    // Who has a slot may be about to put a session there.
    slots.retain(|(_, slot)| Arc::strong_count(slot) > 1 || slot.lock().strong_count() > 0);
    if let Some((_, slot)) = slots.iter().find(|(known, _)| *known == key) {
        return Arc::clone(slot);
    }
    let slot = Slot::default();
    slots.push((key, Arc::clone(&slot)));
    slot
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf, sync::Barrier, thread};

    use bytes::Bytes;
    use quintet_engine::{DataType, Placement, Shape, Tensor};
    use quintet_models::passthrough::write_scaled;
    use quintet_onnxruntime::ThreadPool;
    use tempfile::TempDir;

    use super::*;
    use crate::backend::onnx::{
        LoadError, LoadOptions, LoadedSession, Provider,
        instance::{OnnxInstance, tests::run},
        load,
    };

    fn loaded(path: &Path, tuning: &Tuning) -> Result<LoadedSession, LoadError> {
        let library = quintet_onnxruntime::load(None, ThreadPool { intra_op_threads: 1, spin: false }).unwrap();
        load(path, &LoadOptions { library, providers: vec![Provider::Cpu], engine_cache: None }, tuning)
    }

    fn same(a: &LoadedSession, b: &LoadedSession) -> bool {
        Arc::ptr_eq(&a.session.0, &b.session.0)
    }

    /// A model of this test's own: `y = x * factor`, with a file next to it that makes its content unique.
    fn model(root: &TempDir, mark: &str) -> PathBuf {
        write_scaled(root.path()).unwrap();
        fs::write(root.path().join("scaled/1/mark"), format!("{mark} {:?}", root.path())).unwrap();
        root.path().join("scaled/1/model.onnx")
    }

    #[test]
    fn equal_models_that_run_in_the_same_way_have_one_session() {
        let root = tempfile::tempdir().unwrap();
        let path = model(&root, "one");
        let default = Tuning::default();
        let [first, again] = [loaded(&path, &default).unwrap(), loaded(&path, &default).unwrap()];
        assert!(same(&first, &again));
        let copy = root.path().join("copy");
        fs::create_dir(&copy).unwrap();
        for name in ["model.onnx", "mark"] {
            fs::copy(path.with_file_name(name), copy.join(name)).unwrap();
        }
        assert!(same(&first, &loaded(&copy.join("model.onnx"), &default).unwrap()), "wherever its files are");
        // What concerns other providers does not matter, and each service reports what ONNX Runtime said of the session.
        let mut of_others = Tuning { device: 1, ..Tuning::default() };
        of_others.tensorrt.prefer_fp16();
        let other = loaded(&path, &of_others).unwrap();
        assert!(same(&first, &other));
        let nodes = |placement: &Placement| placement.nodes.clone();
        assert_eq!(nodes(&other.placement), nodes(&first.placement));
        assert!(!nodes(&first.placement).is_empty());
        let separate = [
            Tuning { graph_level: GraphLevel::Off, ..Tuning::default() },
            Tuning { memory_pattern: Some(false), ..Tuning::default() },
            Tuning { parallel: true, ..Tuning::default() },
            Tuning { intra_op_threads: Some(1), ..Tuning::default() },
        ];
        for tuning in separate {
            assert!(!same(&first, &loaded(&path, &tuning).unwrap()), "{tuning:?}");
        }
        let own = Tuning { intra_op_threads: Some(1), ..Tuning::default() };
        assert!(!same(&loaded(&path, &own).unwrap(), &loaded(&path, &own).unwrap()), "threads of one instance");
        fs::create_dir(path.with_file_name("weights")).unwrap();
        assert!(!same(&first, &loaded(&path, &default).unwrap()), "weights may be in a folder");
    }

    #[test]
    fn a_session_goes_with_its_last_instance_and_a_changed_file_has_a_new_one() {
        let root = tempfile::tempdir().unwrap();
        let (path, default) = (model(&root, "before"), Tuning::default());
        let [first, second] = [loaded(&path, &default).unwrap(), loaded(&path, &default).unwrap()];
        let session = Arc::downgrade(&first.session.0);
        let names = || (vec!["x".to_owned()], vec!["y".to_owned()]);
        let instances = [first, second].map(|loaded| {
            let (inputs, outputs) = names();
            OnnxInstance::new(loaded, inputs, outputs)
        });
        let [one, mut other] = instances;
        // As a reload: the file at the path changes, its size and perhaps its time do not, and the old version still serves.
        model(&root, "after!");
        let new = loaded(&path, &default).unwrap();
        assert!(!Weak::ptr_eq(&session, &Arc::downgrade(&new.session.0)));
        drop(one);
        let x = Tensor::new(DataType::Fp32, Shape::new([1, 1]), Bytes::copy_from_slice(&2f32.to_le_bytes())).unwrap();
        assert!(run(&mut other, &[Some(x)], &[]).is_ok(), "the other instance is still there");
        assert!(session.upgrade().is_some());
        drop(other);
        // Another test may be giving back memory of all sessions at this moment.
        while session.upgrade().is_some() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_load_that_fails_fails_no_later_one() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("model.onnx");
        fs::write(&path, "not a model").unwrap();
        for _ in 0..2 {
            assert!(loaded(&path, &Tuning::default()).is_err());
        }
        // A folder of its own, as its folders would keep it from being shared.
        fs::copy(model(&tempfile::tempdir().unwrap(), "whole"), &path).unwrap();
        let [first, second] = [(); 2].map(|()| loaded(&path, &Tuning::default()).unwrap());
        assert!(same(&first, &second));
    }

    #[test]
    fn loads_at_the_same_time_make_one_session_and_its_runs_do_not_mix() {
        const INSTANCES: usize = 6;
        let root = tempfile::tempdir().unwrap();
        let (path, start) = (model(&root, "many"), Barrier::new(INSTANCES));
        let instance = &|number: usize| {
            start.wait();
            let loaded = loaded(&path, &Tuning::default()).unwrap();
            let session = Arc::downgrade(&loaded.session.0);
            let mut instance = OnnxInstance::new(loaded, vec!["x".into(), "factor".into()], vec!["y".into()]);
            let tensor = |value: f32, rows: usize| {
                let data = Bytes::from(bytemuck::cast_slice(&vec![value; rows]).to_vec());
                Some(Tensor::new(DataType::Fp32, Shape::new([rows, 1]), data).unwrap())
            };
            for round in 1..200usize {
                let (value, factor) = ((number * 1000 + round) as f32, tensor(2.0, 1));
                let rows = 1 + round % 7;
                let answer = run(&mut instance, &[tensor(value, rows), factor], &[]).unwrap();
                assert_eq!(answer, [tensor(value * 2.0, rows)]);
            }
            // Alive until all have theirs.
            start.wait();
            session
        };
        let sessions: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..INSTANCES).map(|number| scope.spawn(move || instance(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(sessions.iter().all(|session| session.ptr_eq(&sessions[0])));
    }
}
