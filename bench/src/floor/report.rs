//! The results of `floor`: ratios to the floor in the same rounds.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{
    analysis::{
        pairing::{Pair, paired},
        stats::median,
    },
    floor::{
        exchange::Window,
        in_process,
        payload::{Payload, Size},
    },
    model::estimate::{Estimate, Statistic},
};

/// All cells of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the model.
    pub model: String,
    /// Number of rounds.
    pub rounds: u16,
    /// One for each payload and number of connections.
    pub cells: Vec<Cell>,
}

/// One payload at one number of connections.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// The payload.
    pub payload: Size,
    /// Bytes of the tensor, or of the JSON with a photograph, in a request.
    pub request_bytes: usize,
    /// Bytes of the tensor, or of the JSON, in a response.
    pub reply_bytes: usize,
    /// Number of connections.
    pub connections: u16,
    /// The lanes; the floor over TCP is the first.
    pub lanes: Vec<Lane>,
}

/// One address of one server.
#[derive(Clone, Debug, Serialize)]
pub struct Lane {
    /// Name of the server and transport.
    pub name: String,
    /// Median of an exchange in µs.
    pub p50_us: f64,
    /// Exchanges per second, of all connections.
    pub per_second: f64,
    /// Median exchange relative to that of the floor over TCP.
    pub latency_ratio: Estimate,
    /// The same without the model's run, if the server reports it; `None` in process.
    pub latency_ratio_without_model: Option<Estimate>,
    /// Median exchange relative to the model's run in process, if that was measured.
    pub latency_ratio_to_in_process: Option<Estimate>,
    /// Exchanges per second relative to the floor over TCP.
    pub rate_ratio: Estimate,
}

impl Cell {
    /// Compares all lanes with the first, round by round. `None` without lanes or rounds.
    pub(super) fn new(
        size: Size,
        payload: &Payload,
        connections: u16,
        lanes: &[(String, Vec<Window>)],
        seed: u64,
    ) -> Option<Self> {
        let (_, floor) = lanes.first()?;
        let in_process = lanes.iter().find(|(name, _)| name == in_process::NAME).map(|(_, windows)| &windows[..]);
        let lane = |(name, windows): &(String, Vec<Window>)| lane(name, windows, floor, in_process, seed);
        let lanes = lanes.iter().map(lane).collect::<Option<_>>()?;
        let (request_bytes, reply_bytes) = (payload.tensor.len(), payload.reply);
        Some(Self { payload: size, request_bytes, reply_bytes, connections, lanes })
    }
}

fn lane(name: &str, windows: &[Window], floor: &[Window], in_process: Option<&[Window]>, seed: u64) -> Option<Lane> {
    let latency_to = |base: &[Window], seconds_of: fn(&Window) -> &Vec<f64>| {
        let blocks: Vec<Pair<'_>> =
            windows.iter().zip(base).map(|(a, b)| (&seconds_of(a)[..], &b.seconds[..])).collect();
        paired(&blocks, Statistic::Median, 1.0, seed)?.ratio
    };
    let latency = |seconds_of| latency_to(floor, seconds_of);
    let rates: Vec<_> = windows.iter().zip(floor).map(|(a, b)| ([a.rate], [b.rate])).collect();
    let rates: Vec<Pair<'_>> = rates.iter().map(|(a, b)| (&a[..], &b[..])).collect();
    let mut seconds: Vec<f64> = windows.iter().flat_map(|window| window.seconds.iter().copied()).collect();
    Some(Lane {
        name: name.to_owned(),
        p50_us: median(&mut seconds)? * 1e6,
        per_second: median(&mut windows.iter().map(|window| window.rate).collect::<Vec<_>>())?,
        latency_ratio: latency(|window| &window.seconds)?,
        latency_ratio_without_model: latency(|window| &window.around_model),
        latency_ratio_to_in_process: in_process.and_then(|base| latency_to(base, |window| &window.seconds)),
        rate_ratio: paired(&rates, Statistic::Mean, 1.0, seed)?.ratio?,
    })
}

impl Report {
    /// Tables in Markdown, one for each cell.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for cell in &self.cells {
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "### {} bytes sent, {} received, {} connections (model {}, {} rounds)\n\n\
                 | Lane | p50 | p50 / floor | p50 without the model's run / floor | p50 / in process | requests per second | rate / floor |\n\
                 |---|---:|---:|---:|---:|---:|---:|",
                cell.request_bytes, cell.reply_bytes, cell.connections, self.model, self.rounds
            );
            for lane in &cell.lanes {
                let [latency, around, in_process, rate] = [
                    Some(lane.latency_ratio),
                    lane.latency_ratio_without_model,
                    lane.latency_ratio_to_in_process,
                    Some(lane.rate_ratio),
                ]
                .map(|estimate| estimate.map_or_else(|| "–".to_owned(), ratio));
                let _ = writeln!(
                    text,
                    "| {} | {:.0} µs | {latency} | {around} | {in_process} | {:.0} | {rate} |",
                    lane.name, lane.p50_us, lane.per_second
                );
            }
            text.push('\n');
        }
        text
    }
}

fn ratio(estimate: Estimate) -> String {
    format!("{:.2} ({:.2} to {:.2})", estimate.value, estimate.low, estimate.high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::payload::Input;

    fn windows(us: f64, model_us: f64) -> Vec<Window> {
        // The machine slows down from round to round, equally for all lanes.
        [1.0, 1.5, 2.0]
            .map(|drift| Window {
                seconds: vec![us * drift / 1e6; 5],
                around_model: vec![(us - model_us) * drift / 1e6; 5],
                rate: 1e6 / us / drift,
            })
            .to_vec()
    }

    #[test]
    fn ratios_compare_the_same_round() {
        let lanes = [
            ("floor tcp".to_owned(), windows(100.0, 0.0)),
            ("s http".to_owned(), windows(200.0, 50.0)),
            ("in process".to_owned(), windows(50.0, 50.0)),
        ];
        let payload = Payload::new(Size::Images(1), &Input::Rows, Some(1000)).unwrap();
        let cell = Cell::new(Size::Images(1), &payload, 8, &lanes, 1).unwrap();
        let report = Report { model: "identity".into(), rounds: 3, cells: vec![cell] };
        insta::assert_snapshot!(report.markdown(), @r"
        ### 602112 bytes sent, 4000 received, 8 connections (model identity, 3 rounds)

        | Lane | p50 | p50 / floor | p50 without the model's run / floor | p50 / in process | requests per second | rate / floor |
        |---|---:|---:|---:|---:|---:|---:|
        | floor tcp | 150 µs | 1.00 (1.00 to 1.00) | 1.00 (1.00 to 1.00) | 2.00 (2.00 to 2.00) | 6667 | 1.00 (1.00 to 1.00) |
        | s http | 300 µs | 2.00 (2.00 to 2.00) | 1.50 (1.50 to 1.50) | 4.00 (4.00 to 4.00) | 3333 | 0.50 (0.50 to 0.50) |
        | in process | 75 µs | 0.50 (0.50 to 0.50) | – | 1.00 (1.00 to 1.00) | 13333 | 2.00 (2.00 to 2.00) |
        ");
    }
}
