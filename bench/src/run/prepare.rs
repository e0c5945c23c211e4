//! Prepares a load on a lane: requests, intended send times, an empty cell.

use std::{sync::Arc, time::Duration};

use crate::{
    client::{
        call::Prepared,
        prepare::{prepare, prepare_inputs},
    },
    model::{
        arrivals::{self, Arrivals, LoadSpec},
        block::{Measured, WarmUp},
        load::Load,
        transport::Transport,
    },
    run::{error::RunError, lane_client::LaneClient, setup::Run, timed::Timed},
};

impl Run<'_> {
    pub(super) fn prepare(&self, client: &LaneClient, batch: usize) -> Result<Arc<[Prepared]>, RunError> {
        let LaneClient { target, variant, signature, region, .. } = client;
        let prepared = match &client.inputs {
            Some(inputs) => prepare_inputs(target, inputs, batch),
            None => prepare((target, signature), variant.payload, &self.payload, batch, region.as_ref()),
        };
        prepared.map(Into::into).map_err(|reason| RunError::Request { lane: variant.lane, reason })
    }

    /// The intended send times of an open loop's window, since the beginning of its ramp; empty for other loads.
    pub(super) fn schedule(&self, load: Load, window: Timed) -> Arc<[Duration]> {
        let Load::Open { arrivals, rate, .. } = load else { return Arc::default() };
        let traces = self.settings.loads.iter().filter_map(|spec| match spec {
            LoadSpec::Replay(trace) => Some(trace),
            _ => None,
        });
        let trace = || traces.into_iter().find(|trace| trace.rate() == rate).map(|trace| Arc::clone(&trace.times));
        let whole = match arrivals {
            Arrivals::Replay => trace().unwrap_or_default(),
            _ => {
                let most = self.settings.limits.max_window_requests;
                let seed = self.settings.seed.wrapping_add(window.repetition);
                arrivals::intended(arrivals, rate, window.end(), most, seed).into()
            }
        };
        window.part_of(&whole).into()
    }

    /// A cell without measurements.
    pub(super) fn empty_cell(client: &LaneClient, load: Load, requests: &[Prepared]) -> Measured {
        let mut variant = client.variant;
        if client.target.endpoint.socket().is_some() && variant.transport == Transport::Tcp {
            variant.transport = Transport::Uds;
        }
        let bytes: usize = requests.iter().map(Prepared::body_bytes).sum();
        Measured {
            variant,
            load,
            request_bytes: bytes / requests.len().max(1),
            warm_up: WarmUp::default(),
            blocks: Vec::new(),
        }
    }
}
