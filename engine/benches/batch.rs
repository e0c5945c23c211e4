//! What the batcher costs each request: accepted, decided about, taken out in a batch, closed.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)] // As in tests.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quintet_engine::{
    BatchPolicy, DataType, InferRequest, OutputSet, QueuePolicy, Shape, Tensor,
    batch::{
        decision::{QueueView, decide},
        scheduler::{Next, Pending, Scheduler},
    },
};
use tokio::sync::oneshot;

const BATCH: usize = 8;

fn policy() -> BatchPolicy {
    BatchPolicy {
        max_batch_size: BATCH,
        dynamic: true,
        max_queue_delay: Duration::from_millis(1),
        queue: QueuePolicy { max_queue_size: 1 << 20, ..QueuePolicy::default() },
        ..BatchPolicy::default()
    }
}

fn request(started: Instant) -> InferRequest {
    InferRequest::new(
        started,
        vec![Some(Tensor::new(DataType::Uint8, Shape::new([1, 4]), Bytes::from_static(&[0; 4])).unwrap())],
        1,
        OutputSet::all(1),
    )
}

/// A queue that stays at one length: for each batch that leaves it, as many requests come.
fn queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    group.throughput(Throughput::Elements(BATCH as u64));
    for waiting in [0, 1_000, 10_000] {
        let now = Instant::now();
        let request = request(now);
        let mut scheduler = Scheduler::new(policy());
        let mut number = 0;
        let mut push = |scheduler: &mut Scheduler| {
            number += 1;
            let reply = oneshot::channel().0;
            scheduler.push(Pending { number, request: request.clone(), queued: now, reply }).unwrap();
        };
        (0..waiting).for_each(|_| push(&mut scheduler));
        group.bench_function(BenchmarkId::from_parameter(waiting), |bencher| {
            bencher.iter(|| {
                (0..BATCH).for_each(|_| push(&mut scheduler));
                let Next::Batch(batch) = scheduler.next(now) else { panic!("a full batch waits") };
                for pending in &batch.requests {
                    scheduler.close(pending.number);
                }
                black_box(batch)
            });
        });
    }
    group.finish();
}

fn decision(criterion: &mut Criterion) {
    let policy = policy();
    let now = Instant::now();
    criterion.bench_function("decide", |bencher| {
        bencher.iter(|| {
            let rows = std::iter::repeat_n(1, black_box(BATCH - 1));
            decide(now, QueueView { rows, others_wait: false, waiting_since: now, more_expected: true }, &policy)
        });
    });
}

criterion_group!(benches, queue, decision);
criterion_main!(benches);
