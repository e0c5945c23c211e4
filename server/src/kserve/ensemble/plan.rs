//! Checks that the steps of an ensemble fit together, and orders them so that each has its inputs.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use quintet_engine::{InferError, ModelSpec, TensorSpec};
use quintet_proto::inference::model_ensembling;

use crate::kserve::message;

/// One model of an ensemble.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) model: String,
    /// `None` stands for the latest version.
    pub(super) version: Option<u64>,
    /// From the model's input to the ensemble's tensor (`input_map`).
    pub(super) inputs: BTreeMap<String, String>,
    /// From the model's output to the ensemble's tensor (`output_map`).
    pub(super) outputs: BTreeMap<String, String>,
    /// The model that the step was checked against.
    pub(super) checked: Option<Arc<ModelSpec>>,
}

impl Step {
    fn new(step: &model_ensembling::Step) -> Self {
        Self {
            model: step.model_name.clone(),
            version: u64::try_from(step.model_version).ok().filter(|&version| version > 0),
            inputs: step.input_map.clone().into_iter().collect(),
            outputs: step.output_map.clone().into_iter().collect(),
            checked: None,
        }
    }
}

/// A tensor of the ensemble: shape as in metadata, type, and the source for error messages.
type Known = (Vec<i64>, quintet_engine::DataType, String);

/// Checks an ensemble against the models that it is made of, and orders its steps so that each has its inputs. `model`
/// finds a model that is in service.
///
/// # Errors
/// The first mismatch, with its step and tensor.
pub(super) fn plan(
    spec: &ModelSpec,
    steps: &[model_ensembling::Step],
    model: impl Fn(&Step) -> Result<Arc<ModelSpec>, InferError>,
) -> Result<Vec<Step>, String> {
    let mut known: HashMap<String, Known> = HashMap::new();
    for input in spec.inputs() {
        known.insert(input.name.clone(), describe(input, spec.batches(), "the ensemble's input"));
    }
    let mut waiting: Vec<Step> = steps.iter().map(Step::new).collect();
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let mut step = waiting.remove(next_ready(&waiting, &known)?);
        let found = model(&step).map_err(|error| format!("step '{}': {}", step.model, message::for_client(&error)))?;
        check_maps(spec, &step, &found)?;
        check_inputs(spec, &step, &found, &known)?;
        add_outputs(&step, &found, &mut known)?;
        step.checked = Some(found);
        ordered.push(step);
    }
    for output in spec.outputs() {
        let made = known.get(&output.name).ok_or_else(|| {
            format!("output '{}' of the ensemble is not an output of a step: see output_map", output.name)
        })?;
        fit(&output.name, made, &describe(output, spec.batches(), "the ensemble's output"))?;
    }
    Ok(ordered)
}

fn describe(tensor: &TensorSpec, batches: bool, source: &str) -> Known {
    (tensor.announced_shape(batches), tensor.data_type, source.to_owned())
}

/// The index of a step whose inputs are all known.
fn next_ready(waiting: &[Step], known: &HashMap<String, Known>) -> Result<usize, String> {
    let ready = waiting.iter().position(|step| step.inputs.values().all(|tensor| known.contains_key(tensor)));
    ready.ok_or_else(|| {
        let step = &waiting[0];
        let missing = step.inputs.values().find(|tensor| !known.contains_key(*tensor));
        format!(
            "tensor '{}', an input of step '{}', is neither an input of the ensemble nor an output of a step before it",
            missing.map_or("", String::as_str),
            step.model
        )
    })
}

/// Checks that the model accepts the ensemble's largest batch, and has the tensors that the step maps.
fn check_maps(spec: &ModelSpec, step: &Step, found: &ModelSpec) -> Result<(), String> {
    let name = &step.model;
    if spec.batches() && found.policy().max_batch_size < spec.policy().max_batch_size {
        return Err(format!(
            "max_batch_size is {}, but step '{name}' takes {}",
            spec.policy().max_batch_size,
            found.policy().max_batch_size
        ));
    }
    for (what, map, tensors) in [("input", &step.inputs, found.inputs()), ("output", &step.outputs, found.outputs())] {
        if let Some(unknown) = map.keys().find(|key| tensors.iter().all(|tensor| tensor.name != **key)) {
            let known: Vec<_> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
            return Err(format!("step '{name}' has no {what} '{unknown}'; its {what}s are {}", known.join(", ")));
        }
    }
    Ok(())
}

/// Checks that each required input of the model is mapped, and that the mapped ones fit.
fn check_inputs(
    spec: &ModelSpec,
    step: &Step,
    found: &ModelSpec,
    known: &HashMap<String, Known>,
) -> Result<(), String> {
    let name = &step.model;
    for input in found.inputs() {
        let Some(tensor) = step.inputs.get(&input.name) else {
            if input.optional {
                continue;
            }
            return Err(format!("step '{name}' needs input '{}', which its input_map does not name", input.name));
        };
        let given = known.get(tensor).ok_or_else(|| format!("tensor '{tensor}' is not known"))?;
        let wanted = describe(input, found.batches(), &format!("input '{}' of step '{name}'", input.name));
        fit(tensor, given, &wanted)?;
        if !input.optional && spec.inputs().iter().any(|input| input.optional && input.name == *tensor) {
            return Err(format!("tensor '{tensor}' is optional, but {} is not", wanted.2));
        }
    }
    Ok(())
}

/// Adds the outputs of a step to the tensors that later steps can use.
fn add_outputs(step: &Step, found: &ModelSpec, known: &mut HashMap<String, Known>) -> Result<(), String> {
    let name = &step.model;
    for output in found.outputs() {
        let Some(tensor) = step.outputs.get(&output.name) else { continue };
        let made = describe(output, found.batches(), &format!("output '{}' of step '{name}'", output.name));
        if let Some((.., other)) = known.insert(tensor.clone(), made) {
            return Err(format!("tensor '{tensor}' has two sources: {other} and an output of step '{name}'"));
        }
    }
    Ok(())
}

/// Checks that a tensor has the type and shape that its user expects; -1 fits any dimension.
fn fit(tensor: &str, made: &Known, taken: &Known) -> Result<(), String> {
    let same = made.0.len() == taken.0.len() && made.0.iter().zip(&taken.0).all(|(a, b)| a == b || *a < 0 || *b < 0);
    if made.1 == taken.1 && same {
        return Ok(());
    }
    Err(format!(
        "tensor '{tensor}' is {} {:?} as {}, but {} {:?} as {}",
        made.1, made.0, made.2, taken.1, taken.0, taken.2
    ))
}

#[cfg(test)]
mod tests {
    use quintet_engine::{BatchPolicy, DataType, LookupError, NotReady};

    use super::*;

    fn spec(
        name: &str,
        inputs: &[&str],
        outputs: &[&str],
        data_type: DataType,
        max_batch_size: usize,
    ) -> Arc<ModelSpec> {
        let tensors = |names: &[&str]| names.iter().map(|name| TensorSpec::new(*name, data_type, [Some(4)])).collect();
        let policy = BatchPolicy { max_batch_size, ..BatchPolicy::default() };
        Arc::new(ModelSpec::new(name, 1, tensors(inputs), tensors(outputs), policy).unwrap())
    }

    fn step(model: &str, inputs: &[(&str, &str)], outputs: &[(&str, &str)]) -> model_ensembling::Step {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        model_ensembling::Step {
            model_name: model.into(),
            model_version: -1,
            input_map: map(inputs),
            output_map: map(outputs),
            ..Default::default()
        }
    }

    fn planned(steps: &[model_ensembling::Step], max_batch_size: usize) -> Result<Vec<String>, String> {
        let ensemble = spec("e", &["in"], &["out"], DataType::Fp32, max_batch_size);
        let model = |step: &Step| match step.model.as_str() {
            "a" | "b" => Ok(spec(&step.model, &["x"], &["y"], DataType::Fp32, 8)),
            "integers" => Ok(spec("integers", &["x"], &["y"], DataType::Int32, 8)),
            name => {
                Err(Box::new(LookupError { model: name.to_owned(), version: None, reason: NotReady::Unknown }).into())
            }
        };
        plan(&ensemble, steps, model).map(|steps| steps.into_iter().map(|step| step.model).collect())
    }

    #[test]
    fn steps_run_when_they_have_their_inputs() {
        let steps = [step("b", &[("x", "middle")], &[("y", "out")]), step("a", &[("x", "in")], &[("y", "middle")])];
        assert_eq!(planned(&steps, 8).unwrap(), ["a", "b"]);
    }

    #[test]
    fn rejects_steps_that_do_not_fit() {
        let good = || step("a", &[("x", "in")], &[("y", "out")]);
        let wrong = [
            vec![step("nosuch", &[("x", "in")], &[("y", "out")])],
            vec![step("a", &[("x", "nowhere")], &[("y", "out")])],
            vec![step("a", &[], &[("y", "out")])],
            vec![step("a", &[("x", "in"), ("z", "in")], &[("y", "out")])],
            vec![step("a", &[("x", "in")], &[("z", "out")])],
            vec![step("a", &[("x", "in")], &[("y", "other")])],
            vec![good(), step("b", &[("x", "in")], &[("y", "out")])],
            vec![step("integers", &[("x", "in")], &[("y", "out")])],
            vec![step("a", &[("x", "q")], &[("y", "p")]), step("b", &[("x", "p")], &[("y", "q")])],
        ];
        let mut refusals: Vec<_> = wrong.iter().map(|steps| planned(steps, 8).unwrap_err()).collect();
        refusals.push(planned(&[good()], 16).unwrap_err());
        insta::assert_snapshot!(refusals.join("\n"), @r"
        step 'nosuch': Request for unknown model: 'nosuch' is not found
        tensor 'nowhere', an input of step 'a', is neither an input of the ensemble nor an output of a step before it
        step 'a' needs input 'x', which its input_map does not name
        step 'a' has no input 'z'; its inputs are x
        step 'a' has no output 'z'; its outputs are y
        output 'out' of the ensemble is not an output of a step: see output_map
        tensor 'out' has two sources: output 'y' of step 'a' and an output of step 'b'
        tensor 'in' is FP32 [-1, 4] as the ensemble's input, but INT32 [-1, 4] as input 'x' of step 'integers'
        tensor 'q', an input of step 'a', is neither an input of the ensemble nor an output of a step before it
        max_batch_size is 16, but step 'a' takes 8
        ");
    }
}
