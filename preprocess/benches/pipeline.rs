//! Benchmarks decoding and preprocessing of photographs.

#![allow(clippy::unwrap_used, missing_docs)]

mod photo;

use std::{fs, path::Path};

use criterion::{BenchmarkGroup, Criterion, SamplingMode, criterion_group, criterion_main, measurement::WallTime};
use quintet_preprocess::{DEFAULT_MAX_PIXELS, ELEMENTS, JpegDecode, Layout, Levels, Recipe, to_pixels, to_tensor};

fn photograph(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../photos").join(name)).unwrap()
}

fn pipeline(criterion: &mut Criterion) {
    for name in ["astronaut.jpg", "coffee.jpg", "coffee-224.jpg", "rocket.jpg"] {
        let encoded = photograph(name);
        let (mut pixels, mut tensor) = (vec![0; ELEMENTS], vec![0.0; ELEMENTS]);
        let mut group = criterion.benchmark_group(name);
        group.bench_function("decode and resize", |bencher| {
            bencher.iter(|| to_pixels(&encoded, DEFAULT_MAX_PIXELS, &mut pixels).unwrap());
        });
        group.bench_function("decode, resize and normalise", |bencher| {
            bencher.iter(|| to_tensor(&encoded, DEFAULT_MAX_PIXELS, &mut tensor).unwrap());
        });
        scaled(&mut group, &encoded);
        group.finish();
    }
}

/// A photograph of 12 megapixels, exact and at a reduced size.
fn large(criterion: &mut Criterion) {
    let encoded = photo::enlarge(&photograph("coffee.jpg"), 4032, 3024);
    let mut tensor = vec![0.0; ELEMENTS];
    let mut group = criterion.benchmark_group("12 megapixels");
    group.sampling_mode(SamplingMode::Flat);
    group.bench_function("decode, resize and normalise", |bencher| {
        bencher.iter(|| to_tensor(&encoded, DEFAULT_MAX_PIXELS, &mut tensor).unwrap());
    });
    scaled(&mut group, &encoded);
    group.finish();
}

fn scaled(group: &mut BenchmarkGroup<'_, WallTime>, encoded: &[u8]) {
    let recipe = Recipe { layout: Layout::Chw, jpeg_decode: JpegDecode::Scaled, ..Recipe::TORCHVISION };
    let mut tensor = vec![0.0; ELEMENTS];
    group.bench_function("decode at a reduced size, resize and normalise", |bencher| {
        bencher.iter(|| recipe.to_f32(&Levels::IMAGENET, encoded, DEFAULT_MAX_PIXELS, &mut tensor).unwrap());
    });
}

criterion_group!(benches, pipeline, large);
criterion_main!(benches);
