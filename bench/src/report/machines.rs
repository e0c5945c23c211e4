//! Tables of the machines: what runs each lane's model, and the GPUs while measuring.

use crate::{
    model::{
        cell::Cell,
        machine::{GpuState, Machine},
        report::{LaneInfo, Report},
        words::list,
    },
    report::table::{NOTHING, Table, label},
};

/// What runs each lane's model, as far as its server says; empty if no server says anything.
pub(crate) fn machines(report: &Report) -> Table {
    let known = report.lanes.iter().filter(|info| info.machine != Machine::default());
    let rows = known.map(|info| (label(info.lane), row(info).to_vec())).collect();
    let columns = ["GPU", "Precision", "CPU threads", "Software", "Instances"];
    Table::new("What runs the model", "Lane", columns.map(str::to_owned).to_vec(), rows)
}

fn row(info: &LaneInfo) -> [String; 5] {
    let LaneInfo { machine: Machine { gpus, software, commit, threads, platform, instances, .. }, precision, .. } =
        info;
    let or_nothing = |text: String| if text.is_empty() { NOTHING.into() } else { text };
    let mut products: Vec<String> = software.iter().map(|(name, version)| format!("{name} {version}")).collect();
    products.extend(commit.as_ref().map(|commit| format!("commit {commit}")));
    if products.is_empty() {
        products.extend(platform.clone());
    }
    [
        or_nothing(list(gpus)),
        or_nothing(precision.clone().unwrap_or_default()),
        threads.map_or(NOTHING.into(), |threads| threads.to_string()),
        or_nothing(list(products)),
        instances.clone().unwrap_or_else(|| NOTHING.into()),
    ]
}

/// The GPUs of each lane's server over all its blocks.
pub(crate) fn gpus(report: &Report) -> Table {
    let mut rows = Vec::new();
    for info in &report.lanes {
        let of_lane = |cell: &&Cell| cell.lane == info.lane;
        let blocks = report.cells.iter().filter(of_lane).flat_map(|cell| &cell.machines);
        let states: Vec<&GpuState> = blocks.flat_map(|block| &block.gpus).collect();
        let mut names: Vec<&str> = states.iter().map(|state| state.gpu.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let of_gpu: Vec<&GpuState> = states.iter().copied().filter(|state| state.gpu == name).collect();
            rows.push((format!("{} {name}", label(info.lane)), summary(&of_gpu).to_vec()));
        }
    }
    let columns = ["use (%)", "SM clock (MHz)", "power (W)", "temperature (°C)", "clocks lowered by"];
    Table::new("GPUs while measuring", "Lane and GPU", columns.map(str::to_owned).to_vec(), rows)
        .note("Lowest and highest reading at the ends of the blocks.")
}

/// Lowest and highest values of a GPU.
fn summary(states: &[&GpuState]) -> [String; 5] {
    let range = |value: &dyn Fn(&GpuState) -> Option<f64>| {
        let values = || states.iter().filter_map(|state| value(state));
        match (values().min_by(f64::total_cmp), values().max_by(f64::total_cmp)) {
            (Some(low), Some(high)) if high - low < 0.5 => format!("{high:.0}"),
            (Some(low), Some(high)) => format!("{low:.0}–{high:.0}"),
            _ => NOTHING.into(),
        }
    };
    let mut reasons: Vec<&String> = states.iter().flat_map(|state| &state.throttled_by).collect();
    reasons.sort();
    reasons.dedup();
    [
        range(&|state| Some(state.utilization? * 100.0)),
        range(&|state| state.sm_clock_mhz),
        range(&|state| state.power_watts),
        range(&|state| state.temperature_celsius),
        if reasons.is_empty() { NOTHING.into() } else { list(reasons) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, model::machine::BlockMachines};

    #[test]
    fn a_gpu_is_shown_with_its_extremes() {
        let mut report = fixture::report();
        assert!(gpus(&report).rows.is_empty() && machines(&report).rows.is_empty());
        let state = |mhz| GpuState { gpu: "GPU-1".into(), sm_clock_mhz: Some(mhz), ..GpuState::default() };
        let block = |mhz| BlockMachines { gpus: vec![state(mhz)], client_steal: None };
        report.cells[1].machines = vec![block(1980.0), block(1410.0)];
        let table = gpus(&report);
        assert_eq!(table.rows[0].0, format!("{} GPU-1", label(report.lanes[1].lane)));
        assert_eq!(table.rows[0].1, [NOTHING, "1410–1980", NOTHING, NOTHING, NOTHING]);
    }

    #[test]
    fn a_lane_is_shown_with_what_runs_it() {
        let mut report = fixture::report();
        report.lanes[1].machine = Machine {
            gpus: vec!["NVIDIA H200".into()],
            software: [("quintet", "0.1.0"), ("onnxruntime", "1.24.1")].map(|(a, b)| (a.into(), b.into())).into(),
            commit: Some("0123abc".into()),
            threads: Some(16),
            ..Machine::default()
        };
        report.lanes[2].machine.platform = Some("tensorrt_plan".into());
        report.lanes[2].machine.instances = Some("2 × KIND_GPU".into());
        let rows: Vec<_> = machines(&report).rows.into_iter().map(|(_, row)| row.join(" | ")).collect();
        assert_eq!(
            rows,
            [
                format!("NVIDIA H200 | {NOTHING} | 16 | onnxruntime 1.24.1, quintet 0.1.0, commit 0123abc | {NOTHING}"),
                format!("{NOTHING} | {NOTHING} | {NOTHING} | tensorrt_plan | 2 × KIND_GPU"),
            ]
        );
    }
}
