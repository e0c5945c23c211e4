//! The page of the check, as Markdown: a function of the data alone.

use super::{
    host::Host,
    run::{Lane, Run},
    sanity::{Verdict, judge},
};

/// The results of the check.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    pub(super) arch: String,
    /// Whether the check itself was tested, on the CPU.
    pub(super) without_gpu: bool,
    pub(super) host: Host,
    pub(super) lanes: Vec<Lane>,
    pub(super) starts: Starts,
    pub(super) five_lanes: Run,
    pub(super) in_process: Run,
    pub(super) graphs: Graphs,
}

/// The server's start without engines, and with those of the first start.
#[derive(Clone, Debug, Default)]
pub(super) struct Starts {
    /// Seconds until ready, without engines.
    pub(super) cold_s: f64,
    /// Seconds until ready, with the engines of the first start.
    pub(super) warm_s: f64,
    /// Files in the engine cache after the first start.
    pub(super) engines: Vec<String>,
    pub(super) engines_after_restart: Vec<String>,
}

/// The results with CUDA graphs.
#[derive(Clone, Debug, Default)]
pub(super) struct Graphs {
    pub(super) lanes: Vec<Lane>,
    pub(super) bench: Run,
    /// Graphs that the server recorded.
    pub(super) recorded: usize,
    /// What its log says of shapes without one.
    pub(super) not_recorded: Vec<String>,
}

/// What is wrong with a lane; `None` if nothing is.
fn fault(lane: &Lane, without_gpu: bool) -> Option<&'static str> {
    let runs_on = |beginnings: &[&str]| beginnings.iter().any(|beginning| lane.provider.starts_with(beginning));
    let gives_a_reason = lane.reason.as_ref().is_some_and(|reason| !reason.is_empty());
    let is_first_choice = match lane.name.as_str() {
        _ if without_gpu => false,
        "jpeg" => runs_on(&["CUDA", "libtorch CUDA"]),
        "trt-http" | "trt-grpc" => runs_on(&["Tensorrt", "NvTensorRTRTX"]),
        _ => runs_on(&["CUDA"]),
    };
    if without_gpu && !runs_on(&["CPU", "libtorch CPU"]) {
        Some("not on the CPU")
    } else if !without_gpu && !is_first_choice && !runs_on(&["CUDA"]) {
        Some("not on the GPU")
    } else if !is_first_choice && !gives_a_reason {
        Some("gives no reason for its provider")
    } else if !lane.agrees {
        Some("differs from the CPU")
    } else {
        None
    }
}

impl Page {
    /// Whether nothing is wrong.
    pub(super) fn passes(&self) -> bool {
        self.faults().is_empty()
    }

    /// Everything that is wrong, in words.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (lanes, with) in [(&self.lanes, ""), (&self.graphs.lanes, " with CUDA graphs")] {
            if lanes.is_empty() {
                faults.push(format!("no lane was compared with the CPU{with}"));
            }
            let of_lanes = lanes.iter().filter_map(|lane| Some((lane, fault(lane, self.without_gpu)?)));
            faults.extend(of_lanes.map(|(lane, fault)| format!("{}{with}: {fault}", lane.name)));
        }
        if self.starts.engines != self.starts.engines_after_restart {
            faults.push("the restart did not reuse the engines of the first start".into());
        }
        if self.graphs.recorded == 0 && !self.without_gpu {
            faults.push("no CUDA graph was recorded".into());
        }
        let runs = [
            (&self.five_lanes, "the benchmark of the five lanes"),
            (&self.in_process, "the comparison with runs in process"),
            (&self.graphs.bench, "the benchmark with CUDA graphs"),
        ];
        faults.extend(runs.into_iter().filter(|(run, _)| !run.success).map(|(_, name)| format!("{name} failed")));
        let judged = self.five_lanes.compute().into_iter().map(|it| (judge(&self.host.gpu, &self.arch, &it), it));
        faults.extend(judged.filter_map(|(verdict, compute)| match verdict {
            Verdict::Implausible { least_ms, .. } => Some(format!(
                "{}: {:.3} ms of compute for one image cannot be true, it is below {least_ms} ms",
                compute.lane, compute.ms
            )),
            Verdict::Plausible { .. } | Verdict::Unknown => None,
        }));
        faults
    }

    /// The page.
    pub(super) fn markdown(&self) -> String {
        let mut page = String::new();
        if self.without_gpu {
            page += "**This is not a GPU check.** It was run with `--without-gpu`, which tests the check itself on the CPU.\n\n";
        }
        page += &format!("# GPU check of {}\n\n{}", self.arch, self.verdict());
        page += &format!(
            "\n## What ran where, and how far its outputs are from the CPU's\n\n{}",
            table(&self.lanes, self.without_gpu)
        );
        page += &format!("\n## Start\n\n{}", self.starts.markdown());
        page += &format!("\n## Five lanes\n\n{}", figures(&self.five_lanes));
        page += &format!("\n## Compute, against what others have published\n\n{}", self.compute());
        page += &format!("\n## CUDA graphs\n\n{}", self.graphs.markdown(self.without_gpu));
        page += &format!(
            "\n## The server compared with runs in process, at batch 1 to 32\n\n{}",
            block(&self.in_process.printed)
        );
        page + &format!("\n## For an issue\n\nPaste this, and add the server's log:\n\n{}", block(&self.summary()))
    }

    fn verdict(&self) -> String {
        match &self.faults()[..] {
            [] => "Passes.\n".to_owned(),
            faults => {
                format!("**Does not pass:**\n\n{}", faults.iter().map(|it| format!("- {it}\n")).collect::<String>())
            }
        }
    }

    fn compute(&self) -> String {
        let rows = self.five_lanes.compute().into_iter().map(|compute| {
            let judged = match judge(&self.host.gpu, &self.arch, &compute) {
                Verdict::Plausible { least_ms, source } => format!("plausible: not below {least_ms} ms ({source})"),
                Verdict::Implausible { least_ms, source } => {
                    format!("**measured wrong**: below {least_ms} ms ({source})")
                }
                Verdict::Unknown => "nothing to compare with".to_owned(),
            };
            let precision = compute.precision.as_deref().unwrap_or("as the model");
            format!("| {} | {} | {precision} | {:.3} | {judged} |\n", compute.lane, compute.provider, compute.ms)
        });
        let head = "| lane | provider | precision | ms for one image | |\n|---|---|---|---|---|\n";
        head.to_owned() + &rows.collect::<String>()
    }

    /// What a maintainer needs first.
    fn summary(&self) -> String {
        let Host { gpu, cpu, system, onnxruntime, commit } = &self.host;
        let lane = |lane: &Lane| {
            let reason = lane.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!("{}: {}{reason}\n", lane.name, lane.provider)
        };
        let faults = self.faults();
        let faults = if faults.is_empty() { "nothing".to_owned() } else { faults.join("; ") };
        format!(
            "commit: {commit}\nGPU: {gpu}\nCPU: {cpu}\nsystem: {system}\nONNX Runtime: {onnxruntime}\nmodel: {}\n{}\
             ready after: {:.1} s cold, {:.1} s warm\nCUDA graphs recorded: {}\nwrong: {faults}\n",
            self.arch,
            self.lanes.iter().map(lane).collect::<String>(),
            self.starts.cold_s,
            self.starts.warm_s,
            self.graphs.recorded,
        )
    }
}

impl Starts {
    fn markdown(&self) -> String {
        let (before, after) = (self.engines.len(), self.engines_after_restart.len());
        let verdict = match (self.engines.is_empty(), self.engines == self.engines_after_restart) {
            (_, false) => "The restart did not reuse the engines of the first start",
            (true, true) => "There are no engines: no provider ran that compiles any",
            (false, true) => "The restart reused every engine and built none",
        };
        let files: String = self.engines.iter().map(|file| format!("- `{file}`\n")).collect();
        format!(
            "| start | ready after | engine files |\n|---|---|---|\n| first, without engines | {:.1} s | {before} |\n\
             | second, with engines | {:.1} s | {after} |\n\n{verdict}.\n{}{files}",
            self.cold_s,
            self.warm_s,
            if files.is_empty() { "" } else { "\n" },
        )
    }
}

impl Graphs {
    fn markdown(&self, without_gpu: bool) -> String {
        let lines: String = self.not_recorded.iter().map(|line| format!("- `{line}`\n")).collect();
        let lines = if lines.is_empty() { lines } else { format!("\n{lines}") };
        format!("Recorded: {}.\n\n{}{lines}\n{}", self.recorded, table(&self.lanes, without_gpu), figures(&self.bench))
    }
}

fn table(lanes: &[Lane], without_gpu: bool) -> String {
    let rows = lanes.iter().map(|lane| {
        let number = |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.1e}"));
        format!(
            "| {} | {} | {} | {} | {} | {} | {} |\n",
            lane.name,
            lane.provider,
            lane.precision.as_deref().unwrap_or("as the model"),
            number(lane.difference),
            number(lane.tolerance),
            fault(lane, without_gpu).unwrap_or("ok"),
            lane.reason.as_deref().unwrap_or_default(),
        )
    });
    let head = "| lane | provider | precision | difference | tolerance | verdict | why no other provider |\n|---|---|---|---|---|---|---|\n";
    head.to_owned() + &rows.collect::<String>()
}

/// The tables of latency, throughput and compute that a run printed, one level lower; all of it if it has none.
fn figures(run: &Run) -> String {
    const KEPT: [&str; 3] = ["p50 latency (ms)", "throughput", "Server-side compute"];
    let mut kept = String::new();
    let mut is_kept = false;
    for line in run.printed.lines() {
        let heading = line.strip_prefix("## ");
        is_kept = heading.map_or(is_kept, |heading| KEPT.iter().any(|part| heading.contains(part)));
        if is_kept {
            kept += &format!("{}{line}\n", if heading.is_some() { "#" } else { "" });
        }
    }
    if kept.is_empty() { block(&run.printed) } else { kept.trim_end().to_owned() + "\n" }
}

fn block(text: &str) -> String {
    format!("```\n{}\n```\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lane(name: &str, provider: &str, precision: Option<&str>, reason: Option<&str>) -> Lane {
        Lane {
            name: name.into(),
            provider: provider.into(),
            precision: precision.map(str::to_owned),
            reason: reason.map(str::to_owned),
            difference: Some(2.5e-4),
            tolerance: Some(2e-2),
            agrees: true,
        }
    }

    /// A page with invented figures.
    fn page() -> Page {
        let no_tensorrt = "tensorrt: libnvinfer.so.10: cannot open shared object file";
        let lanes = vec![
            lane("jpeg", "CUDAExecutionProvider", Some("TF32"), None),
            lane("onnx-http", "CUDAExecutionProvider", Some("TF32"), None),
            lane("trt-http", "NvTensorRTRTXExecutionProvider", Some("TF32"), Some(no_tensorrt)),
        ];
        let cell = |lane: &str, ms: f64| json!({"lane": lane, "load": {"kind": "serial", "batch": 1}, "server": {"compute_infer_ms": ms}});
        let info = |lane: &str, provider: &str| json!({"lane": lane, "effective_provider": provider});
        let report = json!({
            "cells": [cell("onnx-http", 1.25), cell("trt-http", 0.5)],
            "lanes": [info("onnx-http", "CUDAExecutionProvider"), info("trt-http", "NvTensorRTRTXExecutionProvider")],
        });
        let run = |printed: &str| Run { printed: printed.into(), success: true, report: report.clone() };
        Page {
            arch: "resnet50".into(),
            without_gpu: false,
            host: Host {
                gpu: "NVIDIA GeForce RTX 4090, compute capability 8.9, 24564 MiB; driver 580.95.05 for CUDA 13.0"
                    .into(),
                cpu: "16 × a processor".into(),
                system: "Linux 6.8".into(),
                onnxruntime: "libonnxruntime.so.1.31.1".into(),
                commit: "0123abc".into(),
            },
            lanes: lanes.clone(),
            starts: Starts {
                cold_s: 12.34,
                warm_s: 5.0,
                engines: vec!["resnet50/engine".into()],
                engines_after_restart: vec!["resnet50/engine".into()],
            },
            five_lanes: run(
                "# Five lanes\n\n## Lanes\n\n## Serial p50 latency (ms)\n\n| Lane | b=1 |\n|---|---:|\n| JPEG HTTP | 3.0 |\n\n## Warnings\n",
            ),
            in_process: run("a table\n"),
            graphs: Graphs {
                lanes: lanes[1..2].to_vec(),
                bench: run("another answer\n"),
                recorded: 5,
                not_recorded: vec!["no CUDA graph for batch 3".into()],
            },
        }
    }

    #[test]
    fn a_page_that_passes() {
        assert!(page().passes());
        insta::assert_snapshot!(page().markdown());
    }

    #[test]
    fn everything_that_is_wrong_is_named_first() {
        let mut page = page();
        page.lanes[0].agrees = false;
        page.lanes[1] = lane("onnx-http", "CPUExecutionProvider", None, Some("cuda: no device"));
        page.lanes[2] = lane("trt-http", "CUDAExecutionProvider", Some("TF32"), None);
        page.graphs = Graphs::default();
        page.starts.engines_after_restart.clear();
        page.in_process.success = false;
        page.five_lanes.report["cells"][0]["server"]["compute_infer_ms"] = json!(0.5);
        assert!(!page.passes());
        insta::assert_snapshot!(page.faults().join("\n"), @"
        jpeg: differs from the CPU
        onnx-http: not on the GPU
        trt-http: gives no reason for its provider
        no lane was compared with the CPU with CUDA graphs
        the restart did not reuse the engines of the first start
        no CUDA graph was recorded
        the comparison with runs in process failed
        the benchmark with CUDA graphs failed
        onnx-http: 0.500 ms of compute for one image cannot be true, it is below 0.9 ms
        ");
    }

    /// Classic TensorRT has no wheel, and TensorRT for RTX does not run on an A100.
    #[test]
    fn the_trt_lane_may_run_on_cuda_if_it_says_why() {
        let reason = Some("tensorrt: libnvinfer.so.10: cannot open shared object file");
        assert_eq!(fault(&lane("trt-http", "CUDAExecutionProvider", Some("TF32"), reason), false), None);
    }

    #[test]
    fn without_a_gpu_every_lane_runs_on_the_cpu_and_says_why() {
        let on_cpu = |reason| fault(&lane("jpeg", "CPUExecutionProvider", None, reason), true);
        assert_eq!(on_cpu(Some("cuda: libcuda.so.1: cannot open")), None);
        assert_eq!(on_cpu(None), Some("gives no reason for its provider"));
        assert_eq!(fault(&lane("jpeg", "CUDAExecutionProvider", None, None), true), Some("not on the CPU"));
    }
}
