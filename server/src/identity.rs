//! The server's name, version and commit, and what runs a model, as every protocol states them.

use quintet_engine::Placement;
use quintet_proto::{GPU, SOFTWARE, THREADS, WEIGHTS};

/// Name of the server, also in `GET /v2` and `ServerMetadata` unless they have another (`--id`).
pub const SERVER_NAME: &str = "quintet";

/// Version of the server.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from; empty if it is not known.
pub(crate) const COMMIT: &str = env!("QUINTET_COMMIT");

/// The headers, or gRPC metadata, of a model's metadata that say what it is and what runs it: GPU, threads, the source of
/// its weights, and the software with its versions. They are headers because the bodies are exactly Triton's.
pub(crate) fn origin(placement: &Placement) -> impl Iterator<Item = (&'static str, String)> {
    let commit = if COMMIT.is_empty() { String::new() } else { format!("+{COMMIT}") };
    let libraries = placement.software.iter().map(|(name, version)| format!(" {name}/{version}"));
    let software = format!("{SERVER_NAME}/{VERSION}{commit}{}", libraries.collect::<String>());
    let threads = placement.threads.map(|threads| threads.to_string());
    let known = [(GPU, placement.gpu.clone()), (THREADS, threads), (WEIGHTS, placement.weights.clone())];
    known.into_iter().filter_map(|(name, value)| Some((name, value?))).chain([(SOFTWARE, software)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_names_what_runs_it() {
        let placement = Placement {
            gpu: Some("NVIDIA H200".into()),
            threads: Some(16),
            weights: Some("seed 0".into()),
            software: vec![("onnxruntime".into(), "1.24.1".into()), ("cuda".into(), "12.8".into())],
            ..Placement::default()
        };
        let headers: Vec<_> = origin(&placement).collect();
        assert_eq!(headers[..2], [(GPU, "NVIDIA H200".to_owned()), (THREADS, "16".to_owned())]);
        assert_eq!(headers[2], (WEIGHTS, "seed 0".to_owned()));
        let software: Vec<_> = headers[3].1.split(' ').collect();
        assert!(software[0].starts_with(&format!("quintet/{VERSION}")), "{software:?}");
        assert_eq!(software[1..], ["onnxruntime/1.24.1", "cuda/12.8"]);
        assert_eq!(origin(&Placement::default()).count(), 1, "nothing is invented");
    }
}
