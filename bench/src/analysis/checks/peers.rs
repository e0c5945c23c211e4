//! Rules about peers: like is to be compared with like.

use std::collections::BTreeMap;

use super::rule::{Evidence, Finding, Rule};
use crate::model::{machine::CONVOLUTION_SEARCH, report::LaneInfo, warning::Severity};

/// ONNX Runtime in releases of Triton, by the page of compatibility in Triton's documentation.
const ONNXRUNTIME_OF_TRITON: [(&str, &str); 9] = [
    ("2.63", "1.23.2"),
    ("2.64", "1.23.2"),
    ("2.65", "1.23.2"),
    ("2.66", "1.24.1"),
    ("2.67", "1.24.2"),
    ("2.68", "1.24.4"),
    ("2.69", "1.24.4"),
    ("2.70", "1.24.4"),
    ("2.71", "1.27.0"),
];

/// TensorRT in the release of Triton that the deployment pins, by the same page's versions of NVIDIA's containers of that month.
const TENSORRT_OF_TRITON: [(&str, &str); 1] = [("2.64", "10.14.1")];

/// A peer runs the model with other settings.
pub const SETTINGS_DIFFER: Rule = Rule {
    code: "settings-differ",
    severity: Severity::Warning,
    meaning: "A lane and the same lane of a peer run the model with different settings or versions.",
    remedy: "Set them alike in both servers' config.pbtxt, or name the difference beside every figure.",
    imported: None,
    find: settings_differ,
};

fn settings_differ(evidence: &Evidence) -> Vec<Finding> {
    let infos = evidence.report.map_or(&[][..], |report| &report.lanes);
    let own = |info: &LaneInfo| infos.iter().find(|own| own.lane.peer.is_none() && own.lane.kind == info.lane.kind);
    let pairs = infos.iter().filter(|info| info.lane.peer.is_some()).filter_map(|peer| Some((own(peer)?, peer)));
    let findings = pairs.filter_map(|(own, peer)| {
        let found = differences(own, peer);
        let message = format!("{} and {} run the model differently: {}", own.lane, peer.lane, found.join("; "));
        (!found.is_empty()).then_some(Finding { lanes: vec![own.lane, peer.lane], message })
    });
    findings.collect()
}

/// What both servers say, differently.
fn differences(own: &LaneInfo, peer: &LaneInfo) -> Vec<String> {
    let (ours, theirs) = (known(own), known(peer));
    let both = ours.iter().filter_map(|(name, ours)| Some((name, ours, theirs.get(name)?)));
    let mut found: Vec<_> = both.filter(|(_, a, b)| a != b).map(|(name, a, b)| format!("{name} {a} and {b}")).collect();
    found.extend([own, peer].into_iter().filter_map(lost_precision));
    found
}

/// A precision that TensorRT may not have been asked for: from version 11 on its networks are strongly typed, and the flag has no
/// effect (NVIDIA's guide to the migration from 10 to 11).
fn lost_precision(info: &LaneInfo) -> Option<String> {
    const OPTION: &str = "tensorrt: precision_mode";
    let asked = info.machine.settings.get(OPTION).filter(|precision| *precision != "FP32")?;
    let version = known(info).remove("tensorrt");
    let major = version.as_ref().and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    match major {
        Some(..11) => None,
        Some(11..) => Some(format!("{} asks for {asked}, which TensorRT 11 and later ignore", info.lane)),
        None => Some(format!(
            "{} asks for {asked}, which TensorRT 11 and later ignore, and does not state its version",
            info.lane
        )),
    }
}

/// What a lane's server says of speed, or is known to do if it says nothing.
fn known(info: &LaneInfo) -> BTreeMap<&str, String> {
    let machine = &info.machine;
    let mut known: BTreeMap<&str, String> =
        machine.settings.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let threads = machine.threads.map(|threads| ("intra_op_thread_count", threads.to_string()));
    known.extend(threads.filter(|_| !machine.settings.contains_key("intra_op_thread_count")));
    let versions = ["onnxruntime", "tensorrt"];
    known.extend(versions.into_iter().filter_map(|name| Some((name, machine.software.get(name)?.clone()))));
    let provider = info.effective_provider.as_deref().or_else(|| provider_of_triton(info));
    if let Some(release) = info.server.as_deref().and_then(triton_release) {
        let of = |table: &[(&str, &str)]| table.iter().find(|(it, _)| *it == release).map(|(_, it)| (*it).to_owned());
        known.extend(of(&ONNXRUNTIME_OF_TRITON).filter(|_| is_onnx(info)).map(|version| ("onnxruntime", version)));
        known.extend(
            of(&TENSORRT_OF_TRITON).filter(|_| provider == Some(TENSORRT)).map(|version| ("tensorrt", version)),
        );
    }
    if provider == Some(CUDA) {
        // The default of Triton's ONNX Runtime backend (its README), and that of quintet-server.
        let default = match info.server.as_deref() {
            Some(server) if triton_release(server).is_some() => Some("EXHAUSTIVE"),
            Some(server) if server.starts_with("quintet") => Some("HEURISTIC"),
            _ => None,
        };
        if let Some(default) = default {
            known.entry(CONVOLUTION_SEARCH).or_insert_with(|| default.to_owned());
        }
    } else {
        known.remove(CONVOLUTION_SEARCH);
    }
    known.extend(provider.map(|provider| ("provider", provider.to_owned())));
    known
}

const CUDA: &str = "CUDAExecutionProvider";
const TENSORRT: &str = "TensorrtExecutionProvider";

fn is_onnx(info: &LaneInfo) -> bool {
    info.machine.platform.as_deref().is_some_and(|platform| platform.starts_with("onnxruntime"))
}

/// `2.64` of `triton 2.64.0`.
fn triton_release(server: &str) -> Option<&str> {
    let version = server.strip_prefix("triton ")?;
    version.match_indices('.').nth(1).map(|(at, _)| &version[..at])
}

/// The provider that a configuration asks Triton's ONNX Runtime backend for; Triton does not say which one it got.
fn provider_of_triton(info: &LaneInfo) -> Option<&'static str> {
    let settings = &info.machine.settings;
    if !is_onnx(info) {
        return None;
    }
    match settings.get("instance kind")?.as_str() {
        "KIND_CPU" => Some("CPUExecutionProvider"),
        "KIND_GPU" if settings.keys().any(|name| name.starts_with("tensorrt: ")) => Some(TENSORRT),
        "KIND_GPU" => Some(CUDA),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture,
        model::{lane::Lane, machine::Machine, report::Report},
    };

    /// The fixture's onnx-http lane with these settings, and the same lane of Triton with those.
    fn found(ours: &[(&str, &str)], theirs: &[(&str, &str)], change: impl FnOnce(&mut [LaneInfo; 2])) -> Vec<String> {
        let mut report: Report = fixture::report();
        let settings = |settings: &[(&str, &str)]| -> BTreeMap<_, _> {
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let own = report.lanes.iter().find(|info| info.lane == Lane::ONNX_HTTP).unwrap().clone();
        let own = LaneInfo {
            server: Some("quintet-server 0.1.0".into()),
            effective_provider: Some(CUDA.into()),
            machine: Machine { settings: settings(ours), ..Machine::default() },
            ..own
        };
        let platform = Some("onnxruntime_onnx".to_owned());
        let peer = LaneInfo {
            lane: Lane::ONNX_HTTP.of("triton".parse().unwrap()),
            server: Some("triton 2.64.0".into()),
            effective_provider: None,
            machine: Machine { settings: settings(theirs), platform, ..Machine::default() },
            ..own.clone()
        };
        let mut lanes = [own, peer];
        change(&mut lanes);
        report.lanes = lanes.into();
        let summary = crate::analysis::summary::Summary::from_report("", &report);
        let evidence = Evidence { summary: &summary, report: Some(&report) };
        settings_differ(&evidence).into_iter().map(|finding| finding.message).collect()
    }

    const GPU: (&str, &str) = ("instance kind", "KIND_GPU");

    #[test]
    fn servers_with_the_same_settings_are_alike() {
        let same = [GPU, ("instances", "1"), (CONVOLUTION_SEARCH, "HEURISTIC"), ("max_batch_size", "32")];
        assert_eq!(found(&same, &same, |_| {}), Vec::<String>::new());
    }

    #[test]
    fn what_differs_is_named_with_both_values() {
        let ours = [("instances", "1"), ("dynamic_batching", "delay 0 µs"), ("max_batch_size", "32")];
        let theirs =
            [GPU, ("instances", "2"), ("dynamic_batching", "delay 0 µs, preferred sizes 32"), ("max_batch_size", "32")];
        let software = |lanes: &mut [LaneInfo; 2]| {
            lanes[0].machine.software.insert("onnxruntime".into(), "1.31.1".into());
        };
        insta::assert_snapshot!(found(&ours, &theirs, software).join("\n"), @"onnx-http and triton/onnx-http run the model differently: cudnn_conv_algo_search HEURISTIC and EXHAUSTIVE; dynamic_batching delay 0 µs and delay 0 µs, preferred sizes 32; instances 1 and 2; onnxruntime 1.31.1 and 1.23.2");
    }

    #[test]
    fn a_peer_on_the_cpu_is_named() {
        let theirs = [("instance kind", "KIND_CPU"), ("instances", "2")];
        insta::assert_snapshot!(found(&[("instances", "1")], &theirs, |_| {}).join("\n"), @"onnx-http and triton/onnx-http run the model differently: instances 1 and 2; provider CUDAExecutionProvider and CPUExecutionProvider");
    }

    /// In its release of TensorRT 10 the precision counts; of others the version is not known.
    #[test]
    fn a_precision_that_tensorrt_may_ignore_is_named() {
        let theirs = [GPU, ("tensorrt: precision_mode", "FP16")];
        let on = |server: &str| {
            let server = server.to_owned();
            move |lanes: &mut [LaneInfo; 2]| {
                lanes[0].effective_provider = Some(TENSORRT.into());
                lanes[1].server = Some(server);
            }
        };
        assert_eq!(found(&[], &theirs, on("triton 2.64.0")), Vec::<String>::new());
        insta::assert_snapshot!(found(&[], &theirs, on("triton 2.73.0")).join("\n"), @"onnx-http and triton/onnx-http run the model differently: triton/onnx-http asks for FP16, which TensorRT 11 and later ignore, and does not state its version");
    }
}
