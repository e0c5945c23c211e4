//! Ensembles follow their models: a changed step is checked, reported, and accepted again when it fits.

use std::{fs, path::Path, sync::Arc, time::Duration};

use quintet_engine::{ErrorKind, InferError};
use quintet_models::passthrough::write_scaled;
use quintet_server::repository::{IndexEntry, Mode, Overrides, Repository};
use tempfile::TempDir;

use crate::support::{Server, attach, over_http, start};

/// The step's configuration, with rows of `width` numbers.
fn step(width: usize, max_batch_size: usize) -> String {
    format!(
        "max_batch_size: {max_batch_size}
        input {{ name: \"x\" dims: {width} }}
        output {{ name: \"y\" dims: {width} }}"
    )
}

/// An ensemble of one step.
fn ensemble(model: &str, [input, output]: [&str; 2], data_type: &str) -> String {
    format!(
        "max_batch_size: 4
        input {{ name: \"in\" data_type: {data_type} dims: 2 }}
        output {{ name: \"out\" data_type: {data_type} dims: 2 }}
        ensemble_scheduling {{ step {{ model_name: \"{model}\" model_version: -1
          input_map {{ key: \"{input}\" value: \"in\" }} output_map {{ key: \"{output}\" value: \"out\" }} }} }}"
    )
}

fn write(root: &Path, model: &str, config: &str) {
    fs::create_dir_all(root.join(model).join("1")).unwrap();
    fs::write(root.join(model).join("config.pbtxt"), config).unwrap();
}

struct World {
    server: Server,
    repository: Arc<Repository>,
    root: TempDir,
}

impl World {
    /// `scaled`, the ensemble `inner` of it, and the ensemble `outer` of `inner`.
    async fn new(mode: Mode) -> Self {
        let (server, root) = (start().await, tempfile::tempdir().unwrap());
        write_scaled(root.path()).unwrap();
        write(root.path(), "scaled", &step(2, 8));
        write(root.path(), "inner", &ensemble("scaled", ["x", "y"], "TYPE_FP32"));
        write(root.path(), "outer", &ensemble("inner", ["in", "out"], "TYPE_FP32"));
        let repository = attach(&server, root.path(), mode);
        let failed = repository.start(&["scaled", "inner", "outer"].map(str::to_owned)).await;
        assert!(failed.is_empty(), "{failed:?}");
        Self { server, repository, root }
    }

    fn index(&self, model: &str) -> IndexEntry {
        let index = self.repository.index(false).unwrap();
        index.into_iter().find(|entry| entry.name == model).unwrap()
    }

    /// Checks that both ensembles are not ready, the inner one for this reason.
    fn assert_broken(&self, reason: &str) {
        let (inner, outer) = (self.index("inner"), self.index("outer"));
        assert_eq!((inner.state, outer.state), (Some("UNAVAILABLE"), Some("UNAVAILABLE")));
        let found = inner.reason.unwrap();
        assert!(found.contains(reason), "{found}");
        let found = outer.reason.unwrap();
        assert!(
            found.contains("step 'inner': Request for unknown model: 'inner' has no available versions"),
            "{found}"
        );
        assert!(!self.server.service.is_ready());
    }

    async fn load(&self, model: &str) -> Result<(), quintet_engine::InferError> {
        self.repository.load(model, Overrides::default()).await
    }

    /// Checks that both ensembles are ready and answer.
    async fn assert_ready(&self) {
        assert_eq!(["inner", "outer"].map(|model| self.index(model).state), [Some("READY"); 2]);
        let port = self.server.http().await;
        let sent = r#"{"inputs":[{"name":"in","datatype":"FP32","shape":[1,2],"data":[1,3]}]}"#;
        let answer = over_http(port, "POST", "/v2/models/outer/infer", sent).await;
        assert!(answer.ends_with(r#""data":[2.0,6.0]}]}"#), "{answer}");
    }
}

#[tokio::test]
async fn a_reloaded_step_is_used_and_checked_again() {
    let world = World::new(Mode::Explicit).await;
    world.assert_ready().await;
    let cases = [
        (
            step(3, 8),
            "tensor 'in' is FP32 [-1, 2] as the ensemble's input, but FP32 [-1, 3] as input 'x' of step 'scaled'",
        ),
        (step(2, 2), "max_batch_size is 4, but step 'scaled' takes 2"),
    ];
    for (config, reason) in cases {
        write(world.root.path(), "scaled", &config);
        world.load("scaled").await.unwrap();
        world.assert_broken(reason);
        write(world.root.path(), "scaled", &step(2, 8));
        world.load("scaled").await.unwrap();
        world.assert_ready().await;
    }
    // A step with other names and types.
    write(world.root.path(), "scaled", "backend: \"image\" max_batch_size: 8");
    world.load("scaled").await.unwrap();
    world.assert_broken("step 'scaled' has no input 'x'; its inputs are image");
    let names = "backend: \"image\" max_batch_size: 8 input { name: \"x\" } output { name: \"y\" }";
    write(world.root.path(), "scaled", names);
    world.load("scaled").await.unwrap();
    world.assert_broken("FP32 [-1, 2] as the ensemble's input, but BYTES [-1, 1] as input 'x' of step 'scaled'");
    write(world.root.path(), "scaled", &step(2, 8));
    world.load("scaled").await.unwrap();
    world.assert_ready().await;
}

#[tokio::test]
async fn an_unchanged_step_keeps_the_ensemble() {
    let world = World::new(Mode::Explicit).await;
    let before = world.server.model("inner");
    world.load("scaled").await.unwrap();
    assert!(Arc::ptr_eq(&before, &world.server.model("inner")), "the same model, loaded again, fits as before");
    // The load fails: the old model and the ensemble still serve.
    write(world.root.path(), "scaled", &step(0, 8).replace("dims: 0", "dims: [ 2, 2 ]"));
    world.load("scaled").await.unwrap_err();
    assert!(Arc::ptr_eq(&before, &world.server.model("inner")));
    world.assert_ready().await;
}

#[tokio::test]
async fn an_unloaded_step_makes_its_ensembles_unavailable_until_it_is_loaded() {
    let world = World::new(Mode::Explicit).await;
    world.repository.unload("scaled", false).await.unwrap();
    world.assert_broken("step 'scaled': Request for unknown model: 'scaled' has no available versions");
    world.load("scaled").await.unwrap();
    world.assert_ready().await;
    // An ensemble that was unloaded is not loaded with its step.
    world.repository.unload("inner", false).await.unwrap();
    world.load("scaled").await.unwrap();
    assert_eq!(world.index("inner").reason.as_deref(), Some("unloaded"));
}

#[tokio::test]
async fn ensembles_follow_their_models_in_poll_mode() {
    let world = World::new(Mode::Poll(Duration::from_secs(3600))).await;
    write(world.root.path(), "scaled", &step(3, 8));
    world.repository.poll_once().await;
    world.assert_broken("but FP32 [-1, 3] as input 'x' of step 'scaled'");
    write(world.root.path(), "scaled", &format!("# as it was\n{}", step(2, 8)));
    world.repository.poll_once().await;
    world.assert_ready().await;
}

/// An ensemble of one step as the configuration of a load request.
fn over_the_wire(step: &str, [input, output]: [&str; 2]) -> Overrides {
    let tensor = |name: &str| serde_json::json!([{"name": name, "data_type": "TYPE_FP32", "dims": [2]}]);
    let config = serde_json::json!({
        "platform": "ensemble",
        "max_batch_size": 4,
        "input": tensor("x"),
        "output": tensor("y"),
        "ensemble_scheduling": {"step": [{
            "model_name": step, "model_version": -1, "input_map": {input: "x"}, "output_map": {output: "y"},
        }]},
    });
    let mut overrides = Overrides::default();
    overrides.insert("config", config.to_string().into()).unwrap();
    overrides
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_closes_a_ring_of_ensembles_is_refused() {
    let world = World::new(Mode::Explicit).await;
    let load = |name, step, tensors| world.repository.load(name, over_the_wire(step, tensors));
    let refused = |outcome: Result<(), InferError>, ring: &str| {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().ends_with(&format!("it is an ensemble that contains itself: {ring}")), "{error}");
    };
    refused(load("scaled", "scaled", ["x", "y"]).await, "scaled -> scaled");
    // On disk, `plain` is no ensemble: the ring is of what has been loaded.
    write(world.root.path(), "plain", &step(2, 8));
    fs::copy(world.root.path().join("scaled/1/model.onnx"), world.root.path().join("plain/1/model.onnx")).unwrap();
    load("plain", "scaled", ["x", "y"]).await.unwrap();
    refused(load("scaled", "plain", ["x", "y"]).await, "scaled -> plain -> scaled");
    refused(load("scaled", "outer", ["in", "out"]).await, "scaled -> outer -> inner -> scaled");
    for model in ["scaled", "plain", "inner", "outer"] {
        assert_eq!(world.index(model).state, Some("READY"), "{model}");
    }
    let sent = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#;
    let answer = over_http(world.server.http().await, "POST", "/v2/models/plain/infer", sent).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
