use proptest::prelude::*;

use super::*;
use crate::model::part::Location;
use crate::model::sample::Marks;

/// Marks at these times, in µs.
fn marks([connected, encoded, sent, first_byte, last_byte, decoded]: [u64; 6]) -> Marks {
    let at = Duration::from_micros;
    Marks {
        connected: at(connected),
        tls: None,
        round_trip: None,
        encoded: at(encoded),
        sent: at(sent),
        first_byte: at(first_byte),
        last_byte: at(last_byte),
        decoded: at(decoded),
    }
}

fn sample(times: [u64; 6], stages: Option<[u32; 8]>) -> Sample {
    let marks = marks(times);
    Sample { start: Duration::ZERO, latency: marks.decoded, lag: Duration::ZERO, marks, stages: stages.map(StageTimes) }
}

fn waterfall(samples: &[Sample], blocks: &[Counters]) -> Waterfall {
    Waterfall::new(&Samples::new(samples), &[], blocks, 1).unwrap()
}

fn shown(waterfall: &Waterfall) -> String {
    let text = |time: &PartTime| {
        format!("{}={}", time.part.name(), time.ms.map_or("?".into(), |ms| format!("{:.2}", ms.value)))
    };
    waterfall.parts.iter().map(text).collect::<Vec<_>>().join(" ")
}

#[test]
fn stage_times_are_parsed() {
    let value = "receive;dur=0.081, parse;dur=0.004, queue;dur=0.041, gather;dur=0, copy_in;dur=0.1, infer;dur=18.25, copy_out;dur=1, encode;dur=0.02";
    assert_eq!(StageTimes::parse(value), Some(StageTimes([81, 4, 41, 0, 100, 18_250, 1_000, 20])));
    // Another order, other metrics and parameters, as the syntax allows.
    let mixed = "cache;desc=\"hit\", encode;desc=x;dur=0.02,copy_out;dur=1,infer;dur=18.25,copy_in;dur=0.1,gather;dur=0,queue;dur=0.041,parse;dur=0.004,receive;dur=0.081";
    assert_eq!(StageTimes::parse(mixed), StageTimes::parse(value));
    assert_eq!(StageTimes::parse("infer;dur=18.25"), None, "a missing stage is not zero");
    assert_eq!(StageTimes::parse(&value.replace("18.25", "-1")), None);
}

#[test]
fn parts_with_stage_times_add_up() {
    // 300 µs of sending, 200 of which the server reads; 1,000 µs in the server.
    let samples = [sample([10, 20, 320, 1_520, 1_600, 1_610], Some([200, 50, 0, 0, 0, 700, 0, 50]))];
    let w = waterfall(&samples, &[]);
    insta::assert_snapshot!(shown(&w), @"connect=0.01 client_encode=0.01 send=0.10 network=0.40 receive=0.20 parse=0.05 queue=0.00 gather=0.00 copy_in=0.00 infer=0.70 copy_out=0.00 encode=0.05 download=0.08 client_decode=0.01");
    assert!(w.adds_up() && w.gap.abs() < 1e-9 && w.source == Source::StageTimes);
    assert!((w.at(Location::Server).unwrap() - 1.0).abs() < 1e-9);
}

/// A proxy or the server held the request for 300 µs outside its stages: that is no time on the wire.
#[test]
fn time_that_the_server_does_not_stamp_is_not_the_network() {
    let mut held = sample([10, 20, 320, 1_520, 1_600, 1_610], Some([200, 50, 0, 0, 0, 700, 0, 50]));
    held.marks.round_trip = Some(Duration::from_micros(100));
    let w = waterfall(&[held], &[]);
    assert_eq!((w.ms(Part::Network), w.ms(Part::Unaccounted)), (Some(0.1), Some(0.3)));
    assert!(w.gap.abs() < 1e-9);
    held.marks.round_trip = Some(Duration::from_millis(5));
    let w = waterfall(&[held], &[]);
    assert_eq!((w.ms(Part::Network), w.ms(Part::Unaccounted)), (Some(0.4), Some(0.0)));
    held.marks.round_trip = None;
    assert_eq!(waterfall(&[held], &[]).ms(Part::Unaccounted), None, "without a round trip nothing is known");
}

/// With TLS the handshake is a separate part and is not counted in `connect` too.
#[test]
fn the_tls_handshake_is_a_separate_part() {
    let mut plain = sample([100, 110, 120, 900, 950, 960], None);
    let plainly = waterfall(&[plain], &[]);
    assert_eq!((plainly.ms(Part::Connect), plainly.ms(Part::Tls)), (Some(0.1), None));
    assert!(plainly.parts.iter().all(|time| time.part != Part::Tls), "the part is absent, not unknown");
    plain.marks.tls = Some(Duration::from_micros(60));
    let secure = waterfall(&[plain], &[]);
    assert_eq!((secure.ms(Part::Connect), secure.ms(Part::Tls)), (Some(0.04), Some(0.06)));
    assert!(secure.adds_up() && secure.gap.abs() < 1e-9);
    assert_eq!(secure.sum_ms, plainly.sum_ms);
}

/// The client was delayed after its last byte was sent: the server's work does not count as sending.
#[test]
fn sending_that_overlaps_the_server_is_not_counted_twice() {
    let samples = [sample([0, 0, 900, 1_000, 1_000, 1_000], Some([100, 0, 0, 0, 0, 700, 0, 0]))];
    let w = waterfall(&samples, &[]);
    assert_eq!((w.ms(Part::Send), w.ms(Part::Network)), (Some(0.2), Some(0.0)));
    assert!(w.gap.abs() < 1e-9);
}

#[test]
fn stock_triton_leaves_the_rest_unknown() {
    let counters = |n: u64| Counters {
        requests: n,
        queue_us: n * 100,
        compute_input_us: n * 10,
        compute_infer_us: n * 600,
        compute_output_us: n * 20,
        ..Counters::default()
    };
    let w = waterfall(&[sample([10, 20, 320, 1_520, 1_600, 1_610], None); 4], &[counters(3), counters(1)]);
    insta::assert_snapshot!(shown(&w), @"connect=0.01 client_encode=0.01 send=0.30 network=? receive=? parse=? queue=0.10 gather=? copy_in=0.01 infer=0.60 copy_out=0.02 encode=? unknown=0.47 download=0.08 client_decode=0.01");
    assert_eq!((w.source, w.at(Location::Server)), (Source::Counters, None));
    let unknown: Vec<_> = w.unknown().map(Part::name).collect();
    assert_eq!(unknown, ["network", "receive", "parse", "gather", "encode"]);
    assert!(w.gap.abs() < 1e-9);
}

#[test]
fn without_server_times_the_servers_parts_are_unknown() {
    let w = waterfall(&[sample([10, 20, 320, 1_520, 1_600, 1_610], None)], &[Counters::default()]);
    assert_eq!((w.source, w.ms(Part::Unknown), w.ms(Part::Infer)), (Source::Client, Some(1.2), None));
}

#[test]
fn one_response_without_stage_times_makes_all_unknown() {
    let with = sample([0, 0, 10, 1_000, 1_000, 1_000], Some([10; 8]));
    let without = sample([0, 0, 10, 1_000, 1_000, 1_000], None);
    assert_eq!(waterfall(&[with, without], &[]).source, Source::Client);
}

#[test]
fn a_server_that_reports_more_than_the_latency_does_not_add_up() {
    let w = waterfall(&[sample([0, 0, 10, 1_000, 1_000, 1_000], Some([10, 0, 0, 0, 0, 1_500, 0, 0]))], &[]);
    assert_eq!(w.ms(Part::Network), Some(0.0));
    assert!(!w.adds_up() && (w.gap - 0.51).abs() < 1e-9, "{}", w.gap);
    let counters = Counters { requests: 1, compute_infer_us: 2_000, ..Counters::default() };
    let w = waterfall(&[sample([0, 0, 10, 1_000, 1_000, 1_000], None)], &[counters]);
    assert!(!w.adds_up() && w.ms(Part::Unknown) == Some(0.0));
}

/// Time that the client spends outside its marks is missing from the sum.
#[test]
fn time_outside_of_the_marks_is_a_gap() {
    let mut late = sample([0, 0, 10, 900, 950, 1_000], None);
    late.latency = Duration::from_micros(1_250);
    let w = waterfall(&[late], &[]);
    assert!((w.gap + 0.2).abs() < 1e-9 && !w.adds_up());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever the marks, parts that fit add up exactly, and none is negative.
    #[test]
    fn parts_add_up(steps in proptest::collection::vec(proptest::array::uniform6(0_u64..5_000), 1..8),
                    shares in proptest::collection::vec(proptest::array::uniform8(0_u32..100), 8), told: bool) {
        let samples: Vec<Sample> = steps.iter().zip(&shares).map(|(steps, shares)| {
            let mut at = 0;
            let times = steps.map(|step| { at += step; at });
            // Stages that fit between the request's last byte and the answer's first, sending included.
            let room = (times[3] - times[1]) as f64;
            let sum: u32 = shares.iter().sum::<u32>().max(1);
            let stages = shares.map(|share| (room * f64::from(share) / f64::from(sum) * 0.5).floor() as u32);
            sample(times, told.then_some(stages))
        }).collect();
        prop_assume!(samples.iter().all(|s| s.latency > Duration::ZERO));
        let columns = columns(&samples);
        for (part, column) in &columns {
            prop_assert!(*part == Part::Network || column.iter().all(|us| *us >= 0.0), "{}", part.name());
        }
        for i in 0..samples.len() {
            let sum: f64 = columns.values().map(|column| column[i]).sum();
            prop_assert!((sum - samples[i].latency.as_nanos() as f64 / 1e3).abs() < 1e-6);
        }
    }

    #[test]
    fn any_header_parses_without_panic(value: String) {
        let _ = StageTimes::parse(&value);
    }

    #[test]
    fn the_servers_header_is_parsed(us in proptest::array::uniform8(0_u32..100_000_000)) {
        let value: Vec<_> = Part::STAGES.iter().zip(us)
            .map(|(stage, us)| format!("{};dur={:.3}", stage.name(), f64::from(us) / 1e3))
            .collect();
        prop_assert_eq!(StageTimes::parse(&value.join(", ")), Some(StageTimes(us)));
    }
}
