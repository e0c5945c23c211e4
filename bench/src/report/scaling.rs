//! Writes which resource ends the scaling of each lane, and the evidence.

use std::fmt::Write as _;

use crate::{
    analysis::scaling::{End, Evidence, Place, Resource, Scaling},
    model::load::Load,
    report::table::{label, milliseconds},
};

/// A run and what ends the scaling of its lanes.
pub struct Explained<'a> {
    /// The name of its file or folder.
    pub name: &'a str,
    /// The lanes.
    pub scalings: Vec<Scaling<'a>>,
}

/// A section for each lane of each run, then what more instances brought.
pub fn text(runs: &[Explained<'_>]) -> String {
    let mut text = String::new();
    for Explained { name, scalings } in runs {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "# What ends the scaling: {name}");
        if scalings.is_empty() {
            text += "\nNothing to explain: no lane was measured under two loads of one kind. Measure more of them, for \
                     example with --concurrency 1,4,16.\n";
        }
        for scaling in scalings {
            text.push('\n');
            text += &section(scaling);
        }
    }
    let compared = by_instances(runs);
    if !compared.is_empty() {
        text += "\n# More instances\n\n";
        text += &compared;
    }
    text
}

fn name(resource: Option<Resource>) -> &'static str {
    match resource {
        Some(Resource::Gpu) => "GPU",
        Some(Resource::Cpu) => "CPU",
        Some(Resource::Device) => "GPU or CPU (the server does not state its provider)",
        Some(Resource::Link) => "link",
        Some(Resource::Queue) => "queue",
        Some(Resource::Client) => "client",
        None => "unknown",
    }
}

fn section(scaling: &Scaling<'_>) -> String {
    let Scaling { cell, steps, end, .. } = scaling;
    let variant = cell.payload.map_or(String::new(), |payload| format!(", {payload}"));
    let head = match end {
        End::NotReached(_) => "not reached".to_owned(),
        _ => name(end.resource()).to_owned(),
    };
    let lane = format!("{}, {}", label(cell.lane), kind(cell.load));
    let mut text = format!("## {lane} ({}{variant}, {}): {head}\n\n", cell.connection, cell.transport);
    for line in [verdict(*end), scales(scaling)] {
        let _ = writeln!(text, "- {line}");
    }
    for line in steps.last().into_iter().flat_map(|last| evidence(scaling, last)) {
        let _ = writeln!(text, "- {line}");
    }
    text
}

/// What the loads of a lane have in common.
fn kind(load: Load) -> String {
    let kind = match load {
        Load::Open { arrivals, .. } => arrivals.to_string(),
        Load::Serial { .. } | Load::Concurrent { .. } => "concurrent".into(),
    };
    if load.batch() > 1 { format!("{kind} b={}", load.batch()) } else { kind }
}

/// What ends the scaling, in a sentence.
fn verdict(end: End) -> String {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    match end {
        End::NotReached(None) => "Throughput still rises at the highest load: measure higher loads.".into(),
        End::NotReached(busiest) => format!(
            "Throughput still rises at the highest load: measure higher loads. The busiest so far: {}.",
            name(busiest)
        ),
        End::Busy(resource @ (Resource::Gpu | Resource::Cpu | Resource::Device), share) => format!(
            "The {} is the busiest: the model runs for {} of the time. More instances help only if it has capacity left.",
            name(Some(resource)),
            percent(share)
        ),
        End::Busy(resource, share) => {
            format!("The {} is the busiest resource, for {} of the time.", name(Some(resource)), percent(share))
        }
        End::Instances => {
            "All instances are busy while the GPU is not: requests queue for an instance. Add instances.".into()
        }
        End::WorkersIdle => {
            "The client's workers spend time between requests: the client is too slow for this load.".into()
        }
        End::Waits(resource, place, share) => format!(
            "No resource is known to be busy, but {} of the latency that more load added is {}: {}.",
            percent(share),
            at(place),
            match (resource, place) {
                (None, _) => "the client, or the network".into(),
                (Some(Resource::Queue), _) => "too few instances, or a batcher that waits".into(),
                (resource, _) => format!("the {}", name(resource)),
            }
        ),
        End::Unknown => "Nothing that was measured shows it: no resource is known to be busy.".into(),
    }
}

fn at(place: Place) -> &'static str {
    match place {
        Place::Queue => "in the queue",
        Place::Model => "in the model",
        Place::Server => "elsewhere in the server",
        Place::Outside => "outside the server",
    }
}

/// How throughput follows the load.
fn scales(scaling: &Scaling<'_>) -> String {
    let steps: Vec<_> = scaling.steps.iter().map(|step| format!("{:.1} at {}", step.images_per_s, step.load)).collect();
    let nearly = scaling.ends_at().map_or(String::new(), |step| format!("; nearly the peak from {} on", step.load));
    format!("Throughput (img/s): {}{nearly}.", steps.join(", "))
}

/// The evidence at the highest load.
fn evidence(scaling: &Scaling<'_>, last: &Evidence) -> Vec<String> {
    let ms = milliseconds;
    let mut lines = vec![format!(
        "Little's law at {}: {:.1} requests/s × {} ms = {:.1} in flight{}.",
        last.load,
        last.requests_per_s,
        ms(last.latency_ms),
        last.in_flight(),
        last.places_ms.map_or(" (the server's counters are missing)".into(), |places| {
            let places = Place::ALL
                .into_iter()
                .zip(places)
                .map(|(place, ms)| format!("{:.1} {}", last.requests_per_s * ms / 1e3, at(place)));
            format!(": {}", places.collect::<Vec<_>>().join(", "))
        })
    )];
    if let (Some((per_s, run_ms)), Some(busy)) = (last.runs, last.busy_instances()) {
        let provider = scaling.info.and_then(|info| info.effective_provider.as_deref()).unwrap_or("unknown provider");
        let of = match (last.instances, last.instances_busy()) {
            (Some(n), Some(share)) => format!(" of {n} ({:.0} %)", share * 100.0),
            _ => " (their number is unknown: give it with --instances)".into(),
        };
        lines.push(format!("Instances: {per_s:.1} runs/s × {} ms = {busy:.2} busy{of}; {provider}.", ms(run_ms)));
    }
    if let Some(gpu) = last.gpu {
        lines.push(format!("GPU: busy for {:.0} % of the time.", gpu * 100.0));
    }
    if let [Some(all), Some(thread)] = last.client {
        let kept = last.kept_in_flight.map_or(String::new(), |share| {
            format!("; its workers had a request in flight for {:.0} % of the time", share * 100.0)
        });
        lines.push(format!(
            "Client: {:.0} % of its cores, its busiest thread {:.0} % of one{kept}.",
            all * 100.0,
            thread * 100.0
        ));
    }
    for (direction, link) in ["up", "down"].into_iter().zip(last.link) {
        let Some((bits, rate)) = link else { continue };
        let (bits, rate) = (bits / 1e6, rate / 1e6);
        lines.push(format!("Link {direction}: {bits:.1} of {rate:.1} Mbit/s ({:.0} %).", bits / rate * 100.0));
    }
    lines
}

/// For lanes that several runs measured with different numbers of instances: whether more of them helped.
fn by_instances(runs: &[Explained<'_>]) -> String {
    let mut text = String::new();
    for (i, few) in runs.iter().enumerate() {
        for many in &runs[i + 1..] {
            for (a, b) in few.scalings.iter().flat_map(|a| many.scalings.iter().map(move |b| (a, b))) {
                text += &gain(a, b, [few.name, many.name]).unwrap_or_default();
            }
        }
    }
    text
}

/// What more instances brought between two runs of one lane; `None` if their numbers are equal or unknown.
fn gain(a: &Scaling<'_>, b: &Scaling<'_>, names: [&str; 2]) -> Option<String> {
    let same = (a.cell.lane, a.cell.payload, a.cell.transport, a.cell.load.batch())
        == (b.cell.lane, b.cell.payload, b.cell.transport, b.cell.load.batch());
    let of = |scaling: &Scaling<'_>| scaling.steps.last().and_then(|step| step.instances);
    let [(few, low, from), (many, high, to)] = match (of(a)?, of(b)?) {
        (x, y) if x < y => [(x, a.peak(), names[0]), (y, b.peak(), names[1])],
        (x, y) => [(y, b.peak(), names[1]), (x, a.peak(), names[0])],
    };
    if !same || few == many {
        return None;
    }
    let scaled = (high / low).ln() / (f64::from(many) / f64::from(few)).ln();
    let verdict = if scaled > 0.5 {
        "more instances help: with fewer, the queue for an instance ended the scaling"
    } else {
        "more instances do not help much: what they share ends the scaling"
    };
    Some(format!(
        "- {}: {few} to {many} instances ({from}, {to}): {low:.1} to {high:.1} img/s; {verdict}.\n",
        label(a.cell.lane)
    ))
}
