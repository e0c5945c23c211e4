//! Rules about the machines: GPUs whose clocks change, and a client whose CPU time or clock is not its own.

use super::rule::{Evidence, Finding, Rule, per_lane};
use crate::model::{cell::Cell, machine::GpuState, warning::Severity, words::list};

/// A clock that is lower than the highest of its cell by more than this share has changed.
const CLOCK_CHANGE: f64 = 0.05;
/// Warming by more than this within a cell is reported, in °C.
const WARMING: f64 = 10.0;
/// Share of the client's CPU time that may be stolen.
const STEAL: f64 = 0.01;

/// The clock of a GPU changed within a cell.
pub const GPU_CLOCK: Rule = Rule {
    code: "gpu-clock-changed",
    severity: Severity::Warning,
    meaning: "The clock of a GPU changed by more than 5 % between the blocks of a cell.",
    remedy: "Lock it for the run: nvidia-smi --lock-gpu-clocks=MHZ (and --reset-gpu-clocks after it).",
    imported: None,
    find: |evidence| {
        of_gpus(evidence, "a GPU's clock changed", |gpu, states| {
            let (low, high) = extremes(states, |state| state.sm_clock_mhz)?;
            (low < high * (1.0 - CLOCK_CHANGE)).then(|| format!("{gpu}: {low:.0} to {high:.0} MHz"))
        })
    },
};

/// A GPU lowered its clocks.
pub const GPU_THROTTLED: Rule = Rule {
    code: "gpu-throttled",
    severity: Severity::Warning,
    meaning: "A GPU lowered its clocks because of its power, temperature or hardware.",
    remedy: "Give it cooling or power, or lock a clock that it can hold: nvidia-smi --lock-gpu-clocks=MHZ.",
    imported: None,
    find: |evidence| {
        of_gpus(evidence, "a GPU lowered its clocks", |gpu, states| {
            let mut reasons: Vec<&String> = states.iter().flat_map(|state| &state.throttled_by).collect();
            reasons.sort();
            reasons.dedup();
            (!reasons.is_empty()).then(|| format!("{gpu}: {}", list(reasons)))
        })
    },
};

/// A GPU warmed up within a cell.
pub const GPU_WARMED: Rule = Rule {
    code: "gpu-temperature-changed",
    severity: Severity::Note,
    meaning: "The temperature of a GPU changed by more than 10 °C between the blocks of a cell.",
    remedy: "Warm up for longer (--warmup, --ramp), so that all blocks are measured on a warm GPU.",
    imported: None,
    find: |evidence| {
        of_gpus(evidence, "a GPU's temperature changed", |gpu, states| {
            let (low, high) = extremes(states, |state| state.temperature_celsius)?;
            (high - low > WARMING).then(|| format!("{gpu}: {low:.0} to {high:.0} °C"))
        })
    },
};

/// The hypervisor ran other guests instead of the client.
pub const CLIENT_STEAL: Rule = Rule {
    code: "client-steal",
    severity: Severity::Warning,
    meaning: "The hypervisor gave more than 1 % of the client's CPU time to other guests.",
    remedy: "Run the client on a machine or on CPUs of its own (pin it with taskset): the latency includes those pauses.",
    imported: None,
    find: |evidence| {
        let most = |cell: &Cell| cell.machines.iter().filter_map(|block| block.client_steal).max_by(f64::total_cmp);
        let found = evidence.cells().iter().filter_map(|cell| {
            let share = most(cell).filter(|&share| share > STEAL)?;
            Some((cell.lane, cell.load, format!("up to {:.1} %", share * 100.0)))
        });
        per_lane("CPU time of the client went to other guests of its hypervisor", found)
    },
};

/// The client's clocks follow its load.
pub const CLIENT_GOVERNOR: Rule = Rule {
    code: "client-governor",
    severity: Severity::Note,
    meaning: "The clocks of the client's CPUs follow their load.",
    remedy: "Keep them high for the run, cpupower frequency-set --governor performance, and pin the client with taskset.",
    imported: None,
    find: |evidence| {
        let environment = evidence.report.map(|report| &report.environment);
        let governor = environment.and_then(|environment| environment.governor.as_deref());
        let Some(governor) = governor.filter(|governor| *governor != "performance") else { return Vec::new() };
        let turbo = environment.and_then(|environment| environment.turbo).unwrap_or(false);
        let turbo = if turbo { ", and turbo is on" } else { "" };
        let message = format!("the governor of the client's CPUs is {governor}{turbo}: their clocks follow the load");
        vec![Finding { lanes: Vec::new(), message }]
    },
};

/// One finding for each lane whose cells have something to say about a GPU's states, block by block.
fn of_gpus(evidence: &Evidence, message: &str, say: impl Fn(&str, &[&GpuState]) -> Option<String>) -> Vec<Finding> {
    let found = evidence.cells().iter().flat_map(|cell| {
        let all = || cell.machines.iter().flat_map(|block| &block.gpus);
        let mut names: Vec<&str> = all().map(|state| state.gpu.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let said = names.into_iter().filter_map(|name| {
            let states: Vec<&GpuState> = all().filter(|state| state.gpu == name).collect();
            Some((cell.lane, cell.load, say(name, &states)?))
        });
        said.collect::<Vec<_>>()
    });
    per_lane(message, found)
}

/// The lowest and the highest of the known values.
fn extremes(states: &[&GpuState], value: impl Fn(&GpuState) -> Option<f64>) -> Option<(f64, f64)> {
    let values = || states.iter().filter_map(|state| value(state));
    Some((values().min_by(f64::total_cmp)?, values().max_by(f64::total_cmp)?))
}
