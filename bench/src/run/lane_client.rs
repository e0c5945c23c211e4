//! What a run needs of one lane: clients, counters, shared memory.

use crate::{
    client::{
        call::{CallError, Prepared},
        clients::{Client, Clients},
        inputs::Inputs,
        payload::Payload,
        region::{OUTPUT_BYTES, Region},
        target::Target,
        wire::Wire,
    },
    model::{
        connection::Policy, limits::Limits, machine::BlockMachines, outputs::Output, signature::Signature,
        transport::Transport, variant::Variant,
    },
    run::{clock::RunClock, cpu::CpuSpent},
    server::scrape::Scraper,
};

/// Connections that are opened at the same time, so that many of them over a slow link do not take many round trips and no
/// server's backlog overflows.
const CONNECTS_AT_ONCE: usize = 32;

/// One variant with its clients, kept from cell to cell.
pub struct LaneClient {
    /// The variant.
    pub variant: Variant,
    /// Its lane, with the model for its payload.
    pub target: Target,
    /// Reads the server's counters.
    pub scraper: Scraper,
    pub(super) clients: Vec<Client>,
    pub(super) limits: Limits,
    /// The inputs and outputs of its model.
    pub(super) signature: Signature,
    /// The data of its inputs, if no photographs are sent.
    pub(super) inputs: Option<Inputs>,
    /// Shared memory with the tensors, if they are not in messages.
    pub(super) region: Option<Region>,
    pub(super) clock: RunClock,
    factory: Clients,
}

impl LaneClient {
    /// A variant without connections; `target` names the model for FP32.
    pub fn new(target: &Target, variant: Variant, limits: Limits, clock: RunClock) -> Self {
        let target = Target { model: variant.payload.model(&target.model), ..target.clone() };
        Self {
            variant,
            scraper: Scraper::new(&target, limits),
            factory: Clients::new(&target, variant.connection, limits),
            target,
            clients: Vec::new(),
            signature: Signature::default(),
            inputs: None,
            region: None,
            limits,
            clock,
        }
    }

    /// The traffic of the variant's connections.
    pub fn wire(&self) -> &Wire {
        self.factory.wire()
    }

    /// Makes clients until there are `n`.
    pub(super) fn grow(&mut self, n: usize) {
        while self.clients.len() < n {
            self.clients.push(self.factory.client());
        }
    }

    /// Exactly `n` clients, connected if possible; a failure shows when they send.
    pub(super) async fn workers(&mut self, n: usize) -> &mut [Client] {
        self.grow(n);
        for mut client in self.clients.drain(n..) {
            client.close().await;
        }
        self.open_connections(n).await;
        &mut self.clients
    }

    /// Opens the connections of the first `n` clients, some at a time; a failure shows when they send.
    pub(super) async fn open_connections(&mut self, n: usize) {
        let most = n.min(self.clients.len());
        for clients in self.clients[..most].chunks_mut(CONNECTS_AT_ONCE) {
            futures_util::future::join_all(clients.iter_mut().map(Client::connect)).await;
        }
    }

    /// Sends one request and reads the outputs of its response.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn outputs(&mut self, request: &Prepared) -> Result<Vec<Output>, CallError> {
        self.workers(1).await;
        let [client, ..] = &mut self.clients[..] else {
            return Err(CallError::Transport("no client".into()));
        };
        let reply = client.infer(request).await?;
        let shared = match (&self.region, request.output) {
            (Some(region), Some(placement)) => {
                Some(region.read(placement).map_err(|e| CallError::Malformed(e.to_string()))?)
            }
            _ => None,
        };
        client.outputs(&reply, shared.as_deref(), &self.signature)
    }

    /// Puts the tensors into memory shared with the server, if that is the variant's transport.
    ///
    /// # Errors
    /// A message, if this machine has no shared memory or the server refuses it.
    pub async fn share(&mut self, payload: &Payload) -> Result<(), String> {
        if self.variant.transport != Transport::Shm {
            return Ok(());
        }
        let tensors = payload.tensors(self.variant.payload);
        let region = Region::new(tensors, payload.variants(), payload.largest_batch() * OUTPUT_BYTES)
            .map_err(|error| format!("cannot make shared memory: {error}"))?;
        region.register(&self.target, self.limits).await.map_err(|error| {
            format!("the server refuses shared memory: {error}; start it on this machine with --allow-client-shm")
        })?;
        self.region = Some(region);
        Ok(())
    }

    /// Unregisters the shared memory, if the server answers.
    pub async fn unshare(&mut self) {
        if let Some(region) = self.region.take() {
            let _ = region.unregister(&self.target, self.limits).await;
        }
    }

    /// The state of the server's GPUs now, and what the client's machine did in a block.
    pub(super) async fn machines(&mut self, cpu: Option<CpuSpent>) -> BlockMachines {
        BlockMachines { gpus: self.scraper.gpus().await.states, client_steal: cpu.and_then(|cpu| cpu.steal) }
    }

    /// Connections opened although the policy keeps them.
    pub(super) fn reopened(&self, opened: u64) -> u64 {
        if self.variant.connection == Policy::Fresh { 0 } else { opened }
    }
}
