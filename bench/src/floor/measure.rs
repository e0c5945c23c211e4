//! Measures the cells of `floor`: one window for each lane in each round.

use anyhow::Context as _;
use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use crate::floor::{
    args::FloorArgs,
    exchange::{Exchange, Sizes, Window, window},
    grpc::Grpc,
    http::Http,
    in_process::{self, InProcess},
    payload::{Input, Payload, Size},
    raw::{Floor, Raw},
    report::{Cell, Report},
    target::{FLOOR, Protocol, Route},
};

/// Measures every cell and prints a line to stderr after each. Blocks.
///
/// # Errors
/// When a target cannot be reached or refuses a request.
pub fn run(args: &FloorArgs) -> anyhow::Result<Report> {
    let folder = tempfile::tempdir().context("cannot make a folder for a socket")?;
    let floor = Floor::start(folder.path())?;
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let mut cells = Vec::new();
    for &size in &args.payload {
        let payload = payload(size, args)?;
        for &connections in &args.concurrency {
            let mut lanes = lanes(args, &floor, &payload, connections)?;
            rounds(&mut lanes, args, &mut rng)?;
            let measured = lanes.into_iter().map(|lane| (lane.name, lane.windows)).collect::<Vec<_>>();
            let cell =
                Cell::new(size, &payload, connections, &measured, args.seed).context("no window was measured")?;
            eprintln!("payload {size}, {connections} connections: done");
            cells.push(cell);
        }
    }
    Ok(Report { model: args.model.clone(), rounds: args.rounds, cells })
}

fn payload(size: Size, args: &FloorArgs) -> anyhow::Result<Payload> {
    if size != Size::Photo {
        let input = args.images.clone().map_or(Input::Rows, Input::Images);
        return Payload::new(size, &input, args.reply_elements.map(|n| n as usize));
    }
    let photo = args.photo.as_deref().context("the payload photo needs --photo FILE")?;
    let mut routes = args.target.iter().flat_map(|target| &target.routes);
    let jpeg = routes.find(|route| route.protocol == Protocol::Jpeg).map(|route| &route.address);
    let mut payload = Payload::photo(photo)?;
    let lane = jpeg.context("the payload photo needs a target with jpeg://HOST:PORT")?;
    payload.reply = Http::jpeg(lane, &payload)?.answer_bytes().context("the jpeg lane")?;
    Ok(payload)
}

/// A lane with its open connections and its windows so far.
struct Open {
    name: String,
    connections: Vec<Box<dyn Exchange>>,
    windows: Vec<Window>,
}

/// Opens all lanes: the floor first, then the targets.
fn lanes(args: &FloorArgs, floor: &Floor, payload: &Payload, connections: u16) -> anyhow::Result<Vec<Open>> {
    let sizes = Sizes { request: payload.tensor.len(), reply: payload.reply };
    let open = |name: String, connect: &dyn Fn() -> anyhow::Result<Box<dyn Exchange>>| {
        let opened = (0..connections).map(|_| connect()).collect::<anyhow::Result<_>>();
        opened.with_context(|| name.clone()).map(|connections| Open { name, connections, windows: Vec::new() })
    };
    let mut lanes = Vec::new();
    for (name, address) in [("tcp", &floor.tcp), ("uds", &floor.unix)] {
        lanes.push(open(format!("{FLOOR} {name}"), &|| Ok(Box::new(Raw::connect(address, sizes)?)))?);
    }
    for target in &args.target {
        for route in target.routes.iter().filter(|route| (route.protocol == Protocol::Jpeg) == payload.photo.is_some())
        {
            lanes.push(open(format!("{} {route}", target.name), &|| connect(route, args, payload))?);
        }
    }
    // Several programs, each with a session, are not comparable with one server.
    if let Some(command) = args.in_process.as_ref().filter(|_| connections == 1) {
        lanes.push(open(in_process::NAME.into(), &|| Ok(Box::new(InProcess::start(command, payload)?)))?);
    }
    Ok(lanes)
}

fn connect(route: &Route, args: &FloorArgs, payload: &Payload) -> anyhow::Result<Box<dyn Exchange>> {
    let (address, model) = (&route.address, args.model.as_str());
    Ok(match route.protocol {
        Protocol::Http => Box::new(Http::connect(address, model, payload)?),
        Protocol::SharedMemory => Box::new(Http::with_shared_memory(address, model, payload, &args.output)?),
        Protocol::Grpc => Box::new(Grpc::connect(address, model, payload)?),
        Protocol::Jpeg => Box::new(Http::jpeg(address, payload)?),
    })
}

/// Runs a warm-up round and the measured rounds.
fn rounds(lanes: &mut [Open], args: &FloorArgs, rng: &mut ChaCha8Rng) -> anyhow::Result<()> {
    let mut order: Vec<usize> = (0..lanes.len()).collect();
    for round in 0..=args.rounds {
        order.shuffle(rng);
        for &index in &order {
            let Open { name, connections, windows } = &mut lanes[index];
            let done = window(connections, args.window).with_context(|| name.clone())?;
            if round > 0 {
                windows.push(done);
            }
        }
    }
    Ok(())
}
