//! Benchmarks decoding and preprocessing of photographs.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, path::Path};

use criterion::{Criterion, criterion_group, criterion_main};
use quintet_preprocess::{DEFAULT_MAX_PIXELS, ELEMENTS, to_pixels, to_tensor};

fn pipeline(criterion: &mut Criterion) {
    let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../photos");
    for name in ["astronaut.jpg", "coffee.jpg", "coffee-224.jpg", "rocket.jpg"] {
        let encoded = fs::read(photos.join(name)).unwrap();
        let (mut pixels, mut tensor) = (vec![0; ELEMENTS], vec![0.0; ELEMENTS]);
        let mut group = criterion.benchmark_group(name);
        group.bench_function("decode and resize", |bencher| {
            bencher.iter(|| to_pixels(&encoded, DEFAULT_MAX_PIXELS, &mut pixels).unwrap());
        });
        group.bench_function("decode, resize and normalise", |bencher| {
            bencher.iter(|| to_tensor(&encoded, DEFAULT_MAX_PIXELS, &mut tensor).unwrap());
        });
        group.finish();
    }
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
