//! Finds a cell's values of a metric, block by block. Pure functions.

use crate::model::{
    block::MeasuredBlock,
    cell::{BlockSpan, Cell},
    load::Load,
    metric::Metric,
    samples::Samples,
};

/// Slices of a window; the rate of each slice is one value of its throughput.
const WINDOW_SLICES: usize = 10;

fn rates(load: Load, samples: &Samples, block: &BlockSpan) -> Vec<f64> {
    if block.wall_s <= 0.0 || block.samples == 0 {
        return Vec::new();
    }
    let images = load.batch() as f64;
    if let Some(completed) = block.completed {
        return vec![completed as f64 * images / block.wall_s];
    }
    let range = block.first..block.first + block.samples;
    match (load, samples.start_us.get(range.clone()), samples.latency_us.get(range)) {
        (Load::Concurrent { .. } | Load::Open { .. }, Some(start_us), Some(latency_us)) => {
            let mut counts = [0.0; WINDOW_SLICES];
            for (start, latency) in start_us.iter().zip(latency_us) {
                let at = ((start + latency) / 1e6 - block.start_s) / block.wall_s;
                // In an open loop some requests complete after the window.
                if at <= 1.0 || matches!(load, Load::Concurrent { .. }) {
                    counts[((at * WINDOW_SLICES as f64) as usize).min(WINDOW_SLICES - 1)] += 1.0;
                }
            }
            counts.map(|count| count * images * WINDOW_SLICES as f64 / block.wall_s).to_vec()
        }
        _ => vec![block.samples as f64 * images / block.wall_s],
    }
}

impl Metric {
    /// A cell's values, block by block; `None` if the cell does not have the metric. The throughput of a block is one
    /// value; of a window, one for each slice.
    pub fn values(self, cell: &Cell) -> Option<Vec<Vec<f64>>> {
        cell.blocks.iter().map(|block| self.of_span(cell.load, &cell.samples, block)).collect()
    }

    /// The values of one block; `None` if it does not have the metric.
    pub fn of_block(self, load: Load, block: &MeasuredBlock) -> Option<Vec<f64>> {
        self.of_span(load, &Samples::new(block.recorder.samples()), &BlockSpan::new(block, 0))
    }

    fn of_span(self, load: Load, samples: &Samples, block: &BlockSpan) -> Option<Vec<f64>> {
        let column = match self {
            Self::Latency(_) => &samples.latency_us,
            Self::Part(part) if block.samples > 0 => samples.parts_us.get(&part)?,
            Self::Part(_) => return Some(Vec::new()),
            Self::Throughput => return Some(rates(load, samples, block)),
        };
        let us = column.get(block.first..block.first + block.samples)?;
        Some(us.iter().map(|us| us / 1e3).collect())
    }
}
