//! Measures what the client itself costs: the requests of a run, to servers on loopback without a model.
//!
//! The time is that of the client, of loopback and of reading the request: the part of a latency that no server of this
//! machine can go below with this client. The server's share of it cannot be told apart, so it is stated and never
//! subtracted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    analysis::stats::bootstrap,
    client::{
        call::{CallError, Prepared},
        clients::{Client, Clients},
        endpoint::Endpoint,
        target::Target,
    },
    model::{
        cell::Cell,
        connection::Policy,
        encoding::Encoding,
        estimate::{Estimate, Statistic},
        lane::Lane,
        limits::Limits,
        protocol::Protocol,
        transport::Transport,
        variant::Variant,
    },
    run::{
        error::RunError,
        lane_client::LaneClient,
        null_server::{NullServer, Wire},
        plan::Plan,
        setup::Run,
    },
};

/// Fewest rounds, and the time that they take if they are short. In each round every kind of request has a block.
const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_secs(1);
/// Measured requests of a block. One more before them ends the idle time of its connection.
const REQUESTS: usize = 4;

/// The largest HTTP/2 frame that Quintet's server takes. A server that takes less costs the client more.
pub const SUITE_FRAME_BYTES: u32 = 1 << 20;

/// A kind of request whose cost is measured.
pub struct Kind {
    /// A lane with its protocol.
    pub lane: Lane,
    /// The largest HTTP/2 frame that the server takes, in bytes; not used over HTTP/1.1.
    pub max_frame_bytes: u32,
    /// The requests, which are sent in turns.
    pub requests: Arc<[Prepared]>,
}

/// What a kind of request costs: the latencies of its blocks, in ms. Block i of one kind ran next to block i of the others.
pub type Blocks = Vec<Vec<f64>>;

/// Measures kinds of requests in turns, for about a second.
///
/// # Errors
/// When a server cannot be started, or a request fails.
pub async fn client_costs(kinds: &[Kind]) -> anyhow::Result<Vec<Blocks>> {
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    for Kind { lane, max_frame_bytes, .. } in kinds {
        let grpc = Protocol::of(*lane) == Protocol::KserveGrpc;
        let server = NullServer::start(if grpc { Wire::Http2(*max_frame_bytes) } else { Wire::Http1 }).await?;
        let endpoint: Endpoint = server.address.to_string().parse()?;
        let target = Target { lane: *lane, metrics: endpoint.clone(), endpoint, model: "null".into() };
        clients.push((Clients::new(&target, Policy::Reused, Limits::default()).client(), Blocks::new()));
        servers.push(server);
    }
    let started = Instant::now();
    for round in 0.. {
        if round >= ROUNDS && started.elapsed() >= TIME {
            break;
        }
        for ((client, blocks), kind) in clients.iter_mut().zip(kinds) {
            let block = block(client, &kind.requests).await;
            blocks.push(block.with_context(|| format!("a request of {} to a server without a model", kind.lane))?);
        }
    }
    Ok(clients.into_iter().map(|(_, blocks)| blocks).collect())
}

async fn block(client: &mut Client, requests: &[Prepared]) -> Result<Vec<f64>, CallError> {
    let mut ms = Vec::with_capacity(REQUESTS);
    for (number, request) in requests.iter().cycle().take(REQUESTS + 1).enumerate() {
        let sent = Instant::now();
        client.infer(request).await?;
        let latency = sent.elapsed();
        if number > 0 {
            ms.push(latency.as_secs_f64() * 1e3);
        }
    }
    Ok(ms)
}

/// What makes requests cost the client the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    protocol: Protocol,
    payload: Encoding,
    in_memory: bool,
    batch: usize,
}

impl Form {
    fn new(lane: Lane, payload: Encoding, transport: Transport, batch: usize) -> Self {
        Self { protocol: Protocol::of(lane), payload, in_memory: transport == Transport::Shm, batch }
    }
}

/// The costs of a run's requests.
#[derive(Default)]
pub(super) struct Costs(Vec<(Form, Estimate)>);

impl Costs {
    /// The cost of a cell's requests, in ms.
    pub(super) fn of(&self, cell: &Cell) -> Option<Estimate> {
        let form = Form::new(cell.lane, cell.payload?, cell.transport, cell.load.batch());
        self.0.iter().find(|(measured, _)| *measured == form).map(|(_, cost)| *cost)
    }
}

impl Run<'_> {
    /// Measures what each form of request of the plan costs the client; without a server on loopback nothing is known.
    pub(super) async fn client_costs(&self, plan: &Plan, clients: &[LaneClient]) -> Result<Costs, RunError> {
        let mut forms: Vec<Form> = Vec::new();
        let mut kinds = Vec::new();
        for client in clients {
            let Variant { lane, payload, transport, .. } = client.variant;
            let loads = plan.stages.iter().map(|stage| stage.load);
            for form in loads.map(|load| Form::new(lane, payload, transport, load.batch())) {
                if !forms.contains(&form) {
                    forms.push(form);
                    let (max_frame_bytes, requests) = (SUITE_FRAME_BYTES, self.prepare(client, form.batch)?);
                    kinds.push(Kind { lane, max_frame_bytes, requests });
                }
            }
        }
        self.progress.say("measuring what the client itself costs");
        let measured = tokio::select! {
            () = self.stop.soon.cancelled() => return Ok(Costs::default()),
            measured = client_costs(&kinds) => measured,
        };
        let measured = match measured {
            Ok(measured) => measured,
            Err(error) => {
                self.progress.say(&format!("the cost of the client is not known: {error:#}"));
                return Ok(Costs::default());
            }
        };
        let estimate = |blocks: &Blocks| bootstrap(&blocks.concat(), Statistic::Median, self.settings.seed);
        Ok(Costs(
            forms.into_iter().zip(&measured).filter_map(|(form, blocks)| Some((form, estimate(blocks)?))).collect(),
        ))
    }
}
