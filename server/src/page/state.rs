//! What the routes of the page share.

use std::{path::PathBuf, sync::Arc};

use super::{asker::Asker, lane::Lane};
use crate::service::Service;

/// The state of the page.
pub(super) struct Page {
    pub(super) lanes: Vec<Lane>,
    pub(super) asker: Asker,
    /// The folder with the runs of the benchmark.
    pub(super) results: PathBuf,
}

impl Page {
    /// The services behind the lanes, each once.
    pub(super) fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        let is_first = |at: &usize| {
            let service = &self.lanes[*at].service;
            self.lanes[..*at].iter().all(|lane| !Arc::ptr_eq(&lane.service, service))
        };
        (0..self.lanes.len()).filter(is_first).map(|at| &self.lanes[at].service)
    }
}
