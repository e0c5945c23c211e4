//! Rounds of connections with faults. After each round nothing may be left of it.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use quintet_server::service::Service;
use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::{
    backend::{ECHO, MEMORY, SCRIPTED, UNRELIABLE, Unreliable, service},
    client::{Client, Outcome, Protocol, connect},
    process::{pause, resident_bytes, threads},
    stream::Faulty,
};

/// Rounds before memory is measured for the first time.
const WARM_UP_ROUNDS: u64 = 30;
/// What resident memory may grow by afterwards.
const MAX_GROWTH_BYTES: usize = 64 << 20;
/// When a round hangs.
const HANGS: Duration = Duration::from_secs(60);

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_on_a_working_connection_gets_its_own_answer() {
    silence_scripted_panics();
    // The disk that traces are written to is full.
    let (service, unreliable) = service(Path::new("/dev/full"));
    let duration = Duration::from_secs(number("QUINTET_FAULT_SECONDS", 2));
    let (began, mut seed) = (Instant::now(), number("QUINTET_FAULT_SEED", 1));
    let (mut rounds, mut answers, mut before) = (0, [0_u64; 4], None);
    while began.elapsed() < duration || rounds <= WARM_UP_ROUNDS {
        let round = tokio::spawn(round(Arc::clone(&service), unreliable.clone(), seed));
        let Ok(Ok(outcomes)) = tokio::time::timeout(HANGS, round).await else {
            panic!("failed or hangs: QUINTET_FAULT_SEED={seed}");
        };
        outcomes.into_iter().for_each(|outcome| answers[outcome as usize] += 1);
        (rounds, seed) = (rounds + 1, seed + 1);
        if rounds == WARM_UP_ROUNDS {
            before = Some((threads(), resident_bytes()));
        }
    }
    let (threads_before, bytes_before) = before.unwrap();
    assert_eq!(threads(), threads_before, "a thread has ended, or is left");
    let bytes = resident_bytes();
    assert!(bytes < bytes_before + MAX_GROWTH_BYTES, "memory grew from {bytes_before} to {bytes} in {rounds} rounds");
    let [answered, failed, refused, broken] = answers;
    println!(
        "{rounds} rounds: {answered} requests answered, {failed} failed as scripted, {refused} without memory, \
         {broken} on connections that broke; memory {} to {} MiB",
        bytes_before >> 20,
        bytes >> 20
    );
}

/// One round: several connections at once, then a look at what they have left behind.
async fn round(service: Arc<Service>, unreliable: Unreliable, seed: u64) -> Vec<Outcome> {
    let mut rng = StdRng::seed_from_u64(seed);
    unreliable.seed(rng.next_u64());
    let budget = service.catalog().pool().budget();
    let mut others = budget.charge();
    let is_short_of_memory = rng.random_bool(0.3);
    if is_short_of_memory {
        // The part that is kept for one body at a time is left, and up to 256 KiB.
        others.force(MEMORY.bytes - MEMORY.largest_body - rng.random_range(0..256 << 10));
    }
    let pausing = rng.random_bool(0.02).then(|| pause(Duration::from_millis(rng.random_range(1..500))));
    let connections = (0..rng.random_range(2..8))
        .map(|_| tokio::spawn(connection(Arc::clone(&service), is_short_of_memory, rng.next_u64())));
    let outcomes: Vec<_> = join_all(connections).await.into_iter().flat_map(Result::unwrap).collect();
    assert!(is_short_of_memory || !outcomes.contains(&Outcome::Refused), "there was memory");
    drop(others);
    if let Some(mut pausing) = pausing {
        assert!(pausing.wait().unwrap().success());
    }
    for name in [ECHO, UNRELIABLE] {
        let model = service.catalog().registry().resolve(name, None).unwrap();
        // Requests whose clients have left may still run.
        while model.pending_requests() + model.running_requests() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    // Answers that their clients did not take are released with their connections.
    while budget.used() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(service.is_ready());
    for protocol in [Protocol::Plain, Protocol::Chunked, Protocol::Grpc] {
        let (client, serving) = connect(&service, protocol, |wire| Faulty::new(wire, seed, None), 4096).await;
        let mut client = client.unwrap();
        assert_eq!(client.infer(ECHO, &seed.to_le_bytes()).await, Outcome::Answered, "{protocol:?}");
        // Its instances still answer.
        let mut tries = 0;
        while client.infer(UNRELIABLE, &seed.to_le_bytes()).await != Outcome::Answered {
            tries += 1;
            assert!(tries < 100, "the unreliable model does not answer any more");
        }
        drop(client);
        serving.await.unwrap();
    }
    outcomes
}

/// One connection: several requests, one after the other or at once; some are given up.
async fn connection(service: Arc<Service>, is_short_of_memory: bool, seed: u64) -> Vec<Outcome> {
    let mut rng = StdRng::seed_from_u64(seed);
    let protocol = *[Protocol::Plain, Protocol::Chunked, Protocol::Grpc].choose(&mut rng).unwrap();
    let breaks = rng.random_bool(0.4).then(|| *[10, 100, 1000].choose(&mut rng).unwrap());
    let faults = rng.next_u64();
    let buffer_bytes = *[64, 1000, 65_536].choose(&mut rng).unwrap();
    let wire = |wire| Faulty::new(wire, faults, breaks);
    let (client, serving) = connect(&service, protocol, wire, buffer_bytes).await;
    let mut outcomes = Vec::new();
    if let Some(client) = client {
        outcomes = requests(client, rng).await;
        // A refusal before the end of a body over HTTP/1.1 may reach the client as a connection that is closed.
        let may_break = breaks.is_some() || (is_short_of_memory && protocol != Protocol::Grpc);
        assert!(may_break || !outcomes.contains(&Outcome::Broken), "a working connection broke");
    }
    // The client is gone, so the server's end must end, too.
    serving.await.unwrap();
    outcomes
}

/// Requests on one connection. One that is given up has no outcome; over HTTP/1.1 it is the last one.
async fn requests(mut client: Client, mut rng: StdRng) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for _ in 0..rng.random_range(1..6) {
        let patience = rng.random_bool(0.1).then(|| Duration::from_micros(rng.random_range(0..4000)));
        let sent: Vec<_> = (0..rng.random_range(1..6)).map(|_| (model(&mut rng), row(&mut rng))).collect();
        if client.share().is_none() {
            let (model, row) = &sent[0];
            match limited(patience, client.infer(model, row)).await {
                Some(outcome) => outcomes.push(outcome),
                None => return outcomes,
            }
            continue;
        }
        let shared = sent.iter().filter_map(|(model, row)| Some((client.share()?, model, row)));
        let all =
            shared.map(|(mut client, model, row)| async move { limited(patience, client.infer(model, row)).await });
        outcomes.extend(join_all(all).await.into_iter().flatten());
    }
    outcomes
}

async fn limited(patience: Option<Duration>, request: impl Future<Output = Outcome>) -> Option<Outcome> {
    match patience {
        None => Some(request.await),
        Some(patience) => tokio::time::timeout(patience, request).await.ok(),
    }
}

fn model(rng: &mut StdRng) -> &'static str {
    if rng.random() { ECHO } else { UNRELIABLE }
}

/// A row that no other request has.
fn row(rng: &mut StdRng) -> Vec<u8> {
    let mut row = vec![0; *[8, 8, 100, 3000, 100_000].choose(rng).unwrap()];
    rng.fill_bytes(&mut row);
    row
}

/// Scripted panics would fill the output.
fn silence_scripted_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload().downcast_ref::<&str>().copied();
        let text = text.or_else(|| info.payload().downcast_ref::<String>().map(String::as_str));
        if !text.is_some_and(|text| text.contains(SCRIPTED)) {
            report(info);
        }
    }));
}
