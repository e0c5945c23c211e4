//! Measures the cells: the lanes' windows, round by round.

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

/// Measures every cell; one line for each goes to stderr when it is done. Blocks.
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
            let cell = Cell::new(size, &payload, connections, &measured, args.seed).context("no window")?;
            eprintln!("payload {size}, {connections} at once: done");
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
    let ways = args.target.iter().flat_map(|target| &target.ways);
    let jpeg = ways.filter(|way| way.protocol == Protocol::Jpeg).map(|way| &way.address).next();
    let mut payload = Payload::photo(photo)?;
    let lane = jpeg.context("the payload photo needs a target with jpeg://HOST:PORT")?;
    payload.reply = Http::jpeg(lane, &payload)?.answer_bytes().context("the jpeg lane")?;
    Ok(payload)
}

/// A lane's open connections, and what they did so far.
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
        for way in target.ways.iter().filter(|way| (way.protocol == Protocol::Jpeg) == payload.photo.is_some()) {
            lanes.push(open(format!("{} {way}", target.name), &|| connect(way, args, payload))?);
        }
    }
    // A program with a session for each connection would say nothing of one server.
    if let Some(command) = args.in_process.as_ref().filter(|_| connections == 1) {
        lanes.push(open(in_process::NAME.into(), &|| Ok(Box::new(InProcess::start(command, payload)?)))?);
    }
    Ok(lanes)
}

fn connect(way: &Route, args: &FloorArgs, payload: &Payload) -> anyhow::Result<Box<dyn Exchange>> {
    let (address, model) = (&way.address, args.model.as_str());
    Ok(match way.protocol {
        Protocol::Http => Box::new(Http::connect(address, model, payload)?),
        Protocol::SharedMemory => Box::new(Http::with_shared_memory(address, model, payload, &args.output)?),
        Protocol::Grpc => Box::new(Grpc::connect(address, model, payload)?),
        Protocol::Jpeg => Box::new(Http::jpeg(address, payload)?),
    })
}

/// One round to warm up, and those that count.
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
