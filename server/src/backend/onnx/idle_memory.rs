//! Memory that loads and runs leave behind, given back to the system.
//!
//! A session's arena keeps what its largest batch needed, and the C library keeps what reading a model file needed: for
//! ResNet-50 each is more than the weights. Runs that follow take memory again, which costs them page faults, so it is
//! given back only after a load and after a time without runs.

use std::{
    ffi::CString,
    sync::{Arc, Weak},
};

use ort::{
    memory::Allocator,
    session::{RunOptions, SessionInputValue},
    value::ValueType,
};
use parking_lot::Mutex;
use quintet_engine::Shape;

use super::{opened::Opened, provider::Provider, values};

/// The sessions of the process.
static SESSIONS: Mutex<Vec<Weak<Opened>>> = Mutex::new(Vec::new());

/// From now on the session's memory is given back, too, if it runs on ONNX Runtime's CPU provider alone.
pub(super) fn watch(session: &Arc<Opened>) {
    let is_cpu = |(provider, _): &(String, usize)| provider == Provider::Cpu.name();
    if session.nodes.is_empty() || !session.nodes.iter().all(is_cpu) {
        return;
    }
    let mut sessions = SESSIONS.lock();
    sessions.retain(|known| known.strong_count() > 0);
    sessions.push(Arc::downgrade(session));
}

/// Gives back the unused memory of all sessions and of the C library: after a load, since reading the file and warming up use
/// more than serving does, and after an unload.
pub fn release_now() {
    let over: Vec<_> = sessions().into_iter().filter(|session| session.activity.end()).collect();
    release(&over);
}

/// Gives back the unused memory of the sessions that have run, but not since the last call.
pub fn release_idle() {
    let over: Vec<_> = sessions().into_iter().filter(|session| session.activity.is_over()).collect();
    if !over.is_empty() {
        release(&over);
    }
}

fn release(over: &[Arc<Opened>]) {
    let shrunk = over.iter().filter(|session| shrink(session)).count();
    trim();
    tracing::debug!(sessions = over.len(), shrunk, "unused memory is given back");
}

fn sessions() -> Vec<Arc<Opened>> {
    SESSIONS.lock().iter().filter_map(Weak::upgrade).collect()
}

/// ONNX Runtime's run option that frees the unused parts of these arenas after the run, and its value for the CPU's.
const SHRINK: (&str, &str) = ("memory.enable_memory_arena_shrinkage", "cpu:0");

/// Frees the unused parts of a session's arena. ONNX Runtime does that only after a run: this one is stopped before its first
/// operator. Returns whether it did.
fn shrink(opened: &Opened) -> bool {
    let stopped = stopped_run(opened);
    stopped.inspect_err(|error| tracing::debug!(error = error.message(), "cannot shrink a session's arena")).is_ok()
}

fn stopped_run(opened: &Opened) -> ort::Result<()> {
    let mut options = RunOptions::new()?;
    options.set(SHRINK.0, SHRINK.1)?;
    options.terminate()?;
    let session = &opened.session;
    // The smallest inputs that the session accepts; nothing reads them.
    let inputs = session.inputs().iter().map(|input| {
        let ValueType::Tensor { ty, shape, .. } = input.dtype() else {
            return Err(ort::Error::new("an input is not a tensor"));
        };
        let data_type = values::data_type(*ty).ok_or_else(|| ort::Error::new("an input has an unknown type"))?;
        let dims: Vec<_> = shape.iter().map(|&dim| usize::try_from(dim).unwrap_or(1)).collect();
        let name = CString::new(input.name()).map_err(ort::Error::wrap)?;
        Ok((name, values::unset(&Allocator::default(), data_type, &Shape::new(dims))?.into_dyn()))
    });
    let inputs = inputs.collect::<ort::Result<Vec<_>>>()?;
    let inputs: Vec<_> = inputs.iter().map(|(name, value)| (name.as_c_str(), SessionInputValue::from(value))).collect();
    let output = session.outputs().first().map(|output| CString::new(output.name())).transpose();
    let output = output.map_err(ort::Error::wrap)?.unwrap_or_default();
    // SAFETY: the session is on the CPU provider, as `watch` checks.
    match unsafe { opened.run(&inputs, &[output.as_c_str()], &options) } {
        Err(error) if !error.message().contains("terminate flag") => Err(error),
        _ => Ok(()),
    }
}

/// Makes the C library give back all memory that is free.
fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes any number, and works under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quintet_engine::{DataType, Tensor};

    use super::*;
    use crate::backend::onnx::instance::{
        OnnxInstance,
        tests::{loaded, run},
    };

    #[test]
    fn a_session_runs_while_and_after_its_memory_is_given_back() {
        let session = loaded();
        let opened = Arc::clone(&session.session.0);
        let mut instance = OnnxInstance::new(session, vec!["x".into()], vec!["y".into()]);
        let x = Some(Tensor::new(DataType::Fp32, Shape::new([4096]), Bytes::from(vec![0; 4 * 4096])).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert!(shrink(&opened), "ONNX Runtime can do it");
                }
                release_now();
            });
            for _ in 0..50 {
                assert_eq!(run(&mut instance, std::slice::from_ref(&x), &[]).unwrap(), std::slice::from_ref(&x));
            }
        });
        assert_eq!(run(&mut instance, std::slice::from_ref(&x), &[]).unwrap(), [x]);
    }
}
