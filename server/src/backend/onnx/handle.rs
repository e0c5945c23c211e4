//! A session as an instance holds it.

use std::{
    ffi::{CStr, CString},
    ops::Deref,
    sync::Arc,
};

use ort::{
    session::{IoBinding, RunOptions, Session, SessionInputValue},
    value::DynValue,
};

use super::{
    commit::Built,
    idle_memory::watch,
    opened::{Activity, Opened},
};

/// A session that one instance runs, one run at a time. Other instances have their own handle: of this session, too, if it
/// may run more than once at the same time (`shared`).
pub(super) struct Handle(pub(super) Arc<Opened>);

impl Handle {
    /// The first handle of a session.
    pub(super) fn new((session, nodes): Built) -> Self {
        let opened = Arc::new(Opened { session, nodes, activity: Activity::default() });
        watch(&opened);
        Self(opened)
    }

    /// The number of the session's nodes on each provider, largest first.
    pub(super) fn nodes(&self) -> &[(String, usize)] {
        &self.0.nodes
    }

    /// Runs the session on these inputs. Returns the outputs in the order of their names.
    ///
    /// # Errors
    /// Those of the run.
    pub(super) fn run(
        &mut self,
        inputs: &[(&CStr, SessionInputValue<'_>)],
        outputs: &[&CStr],
        options: &RunOptions,
    ) -> ort::Result<Vec<DynValue>> {
        // SAFETY: either other handles of the session show that it takes runs from several threads at once, or this borrow
        // of its only handle is exclusive.
        let ran = unsafe { self.0.run(inputs, outputs, options) };
        // Not before: what is given back during the run is not what the run takes.
        self.0.activity.ran();
        ran
    }

    /// Runs the session on bound inputs. Returns the bound outputs in the order in which they were bound.
    ///
    /// # Errors
    /// Those of the run.
    pub(super) fn run_bound(&mut self, binding: &IoBinding, options: &RunOptions) -> ort::Result<Vec<DynValue>> {
        // SAFETY: as in `run`.
        let ran = unsafe { self.0.run_bound(binding, options) };
        self.0.activity.ran();
        ran
    }
}

impl Deref for Handle {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0.session
    }
}

/// The names as ONNX Runtime takes them. It gave them as C strings, so none has a zero in it.
pub(super) fn c_names(names: &[String]) -> Vec<CString> {
    names.iter().map(|name| CString::new(name.as_str()).unwrap_or_default()).collect()
}
