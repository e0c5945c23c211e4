//! A session with what was read from it when it was made, its runs, and whether it runs.
//!
//! ort's own runs borrow a session exclusively, because not every provider's session may run twice at once. On ONNX
//! Runtime's CPU provider it may: `Run` takes the session as constant, kernels keep no state, and the arena and the memory
//! patterns have locks (`OrtApi::Run` in `onnxruntime_c_api.h`, `InferenceSession::Run`). So the calls are made here.

use std::{
    ffi::{CStr, c_char},
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicU8, Ordering::Relaxed},
};

use ort::{
    AsPointer as _,
    memory::Allocator,
    session::{IoBinding, RunOptions, Session, SessionInputValue},
    value::DynValue,
};

/// A session, with what was read from it when it was made.
pub(super) struct Opened {
    pub(super) session: Session,
    /// The number of its nodes on each provider, largest first.
    pub(super) nodes: Vec<(String, usize)>,
    /// Whether it has run lately.
    pub(super) activity: Activity,
}

impl Opened {
    /// Runs the session on these inputs. Returns the outputs in the order of their names.
    ///
    /// # Errors
    /// Those of the run.
    ///
    /// # Safety
    /// The session is on the CPU provider, or nothing else runs it.
    pub(super) unsafe fn run(
        &self,
        inputs: &[(&CStr, SessionInputValue<'_>)],
        outputs: &[&CStr],
        options: &RunOptions,
    ) -> ort::Result<Vec<DynValue>> {
        let input_names: Vec<*const c_char> = inputs.iter().map(|(name, _)| name.as_ptr()).collect();
        let values: Vec<_> = inputs.iter().map(|(_, value)| value.ptr()).collect();
        let output_names: Vec<*const c_char> = outputs.iter().map(|name| name.as_ptr()).collect();
        let mut results = vec![ptr::null_mut(); outputs.len()];
        // SAFETY: session, options, names and values are borrowed for the call; the lists have the lengths that are given;
        // the caller guarantees that the session takes the run.
        unsafe {
            let status = (ort::api().Run)(
                self.session.ptr().cast_mut(),
                options.ptr(),
                input_names.as_ptr(),
                values.as_ptr(),
                values.len(),
                output_names.as_ptr(),
                output_names.len(),
                results.as_mut_ptr(),
            );
            ort::Error::result_from_status(status)?;
        }
        results.into_iter().map(|result| self.output(result)).collect()
    }

    /// Runs the session on bound inputs. Returns the bound outputs in the order in which they were bound.
    ///
    /// # Errors
    /// Those of the run.
    ///
    /// # Safety
    /// As of [`run`](Self::run); the binding is of this session.
    pub(super) unsafe fn run_bound(&self, binding: &IoBinding, options: &RunOptions) -> ort::Result<Vec<DynValue>> {
        let (allocator, mut results, mut count) = (Allocator::default(), ptr::null_mut(), 0);
        // SAFETY: as in `run`; the binding is borrowed, too, and the out-pointers are valid for writes.
        unsafe {
            let api = ort::api();
            let status = (api.RunWithBinding)(self.session.ptr().cast_mut(), options.ptr(), binding.ptr());
            ort::Error::result_from_status(status)?;
            let status =
                (api.GetBoundOutputValues)(binding.ptr(), allocator.ptr().cast_mut(), &mut results, &mut count);
            ort::Error::result_from_status(status)?;
        }
        if results.is_null() {
            return Ok(Vec::new());
        }
        // SAFETY: ONNX Runtime has just returned an array of `count` values.
        let values: Vec<_> = unsafe { slice::from_raw_parts(results, count) }.to_vec();
        // SAFETY: the array is the allocator's, and nothing else frees it. The values are not part of it.
        unsafe { allocator.free(results) };
        values.into_iter().map(|result| self.output(result)).collect()
    }

    /// The value that a run returned. It keeps its own memory alive.
    fn output(&self, result: *mut ort::sys::OrtValue) -> ort::Result<DynValue> {
        let result = NonNull::new(result).ok_or_else(|| ort::Error::new("the run gave no value for an output"))?;
        // SAFETY: ONNX Runtime has just returned this value, of which nothing else has a pointer.
        Ok(unsafe { DynValue::from_ptr(result, Some(self.session.allocator())) })
    }
}

/// Whether a session has run lately.
#[derive(Debug, Default)]
pub(super) struct Activity(AtomicU8);

/// Its unused memory is given back, and it has not run since.
const RELEASED: u8 = 0;
/// It has not run since the last look.
const IDLE: u8 = 1;
const RAN: u8 = 2;

impl Activity {
    /// Says that the session has run.
    pub(super) fn ran(&self) {
        self.0.store(RAN, Relaxed);
    }

    /// Looks at it again. Returns whether its memory is to be given back now: it has run, but not since the last look.
    pub(super) fn is_over(&self) -> bool {
        let step = |from, to| self.0.compare_exchange(from, to, Relaxed, Relaxed).is_ok();
        !step(RAN, IDLE) && step(IDLE, RELEASED)
    }

    /// As [`is_over`](Self::is_over), however lately it ran.
    pub(super) fn end(&self) -> bool {
        self.0.swap(RELEASED, Relaxed) != RELEASED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_for_each_time_without_runs() {
        let activity = Activity::default();
        assert!(!activity.is_over(), "it has not run");
        activity.ran();
        assert_eq!([activity.is_over(), activity.is_over(), activity.is_over()], [false, true, false]);
        activity.ran();
        assert!(!activity.is_over());
        activity.ran();
        assert_eq!([activity.is_over(), activity.is_over()], [false, true]);
        activity.ran();
        assert_eq!([activity.end(), activity.end(), activity.is_over()], [true, false, false]);
    }
}
