//! Reads from ONNX Runtime which execution provider runs each node of a loaded model.

use std::{
    collections::BTreeMap,
    ffi::{CStr, c_char},
    ptr,
};

use ort::{AsPointer as _, session::Session};

/// Session option that makes ONNX Runtime record the assignment of nodes to providers.
pub const RECORD_ASSIGNMENT: &str = "session.record_ep_graph_assignment_info";

/// The number of nodes on each provider, largest first. The session must have been built with [`RECORD_ASSIGNMENT`]
/// `1`.
///
/// # Errors
/// When ONNX Runtime has not recorded the assignment.
pub fn nodes_by_provider(session: &Session) -> ort::Result<Vec<(String, usize)>> {
    let api = ort::api();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut subgraphs = ptr::null();
    let mut count = 0;
    // SAFETY: the session is alive, and both out-pointers are valid for writes. The session owns the array and
    // everything that it points to.
    check(unsafe { (api.Session_GetEpGraphAssignmentInfo)(session.ptr(), &mut subgraphs, &mut count) })?;
    for index in 0..count {
        // SAFETY: `index` is within the array of `count` entries that the call above returned.
        let subgraph = unsafe { *subgraphs.add(index) };
        let mut name: *const c_char = ptr::null();
        // SAFETY: the subgraph came from the live session; the out-pointer is valid for writes.
        check(unsafe { (api.EpAssignedSubgraph_GetEpName)(subgraph, &mut name) })?;
        let mut nodes = ptr::null();
        let mut node_count = 0;
        // SAFETY: the subgraph came from the live session; both out-pointers are valid for writes.
        check(unsafe { (api.EpAssignedSubgraph_GetNodes)(subgraph, &mut nodes, &mut node_count) })?;
        if name.is_null() {
            continue;
        }
        // SAFETY: ONNX Runtime returns a NUL-terminated string that lives as long as the session.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
        *counts.entry(name).or_default() += node_count;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, nodes)| std::cmp::Reverse(*nodes));
    Ok(counts)
}

fn check(status: ort::sys::OrtStatusPtr) -> ort::Result<()> {
    // SAFETY: the status comes directly from an API call and is used nowhere else; ort takes ownership of it.
    unsafe { ort::Error::result_from_status(status) }
}
