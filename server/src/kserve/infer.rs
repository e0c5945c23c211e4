//! Runs a call: admission, queue, model, classification, shared memory.

use std::{sync::Arc, time::Instant};

use quintet_engine::{InferError, InferRequest, InferResponse, Model, ModelSpec, OutputMemory, Tensor};
use tokio::time::timeout_at;

use super::{
    call::{Answer, AnsweredOutput, Call, WantedOutput},
    caller::Caller,
    classify, images,
    trace::Trace,
};
use crate::catalog::Catalog;

/// Carries out a call of a model of `catalog` and records its course in its trace, if it has one.
///
/// # Errors
/// Those of decoding images, admission, queue and backend. Failures are counted in the model's statistics.
pub async fn infer(
    catalog: &Catalog,
    model: Arc<Model>,
    call: Call<'_>,
    mut trace: Option<&mut Trace>,
) -> Result<Answer, InferError> {
    if let Some(trace) = &mut trace {
        trace.started(call.id);
    }
    let outcome = carry_out(catalog, model, call, trace.as_deref_mut()).await;
    if let Some(trace) = trace {
        trace.ended();
    }
    outcome
}

async fn carry_out(
    catalog: &Catalog,
    model: Arc<Model>,
    mut call: Call<'_>,
    mut trace: Option<&mut Trace>,
) -> Result<Answer, InferError> {
    let spec = Arc::clone(model.spec());
    if images::are_in(&call, &spec) {
        let prepared = images::prepare(catalog, &model, &mut call).await;
        prepared.inspect_err(|error| model.refused(error.kind()))?;
    }
    let named = call.outputs.iter().map(|output| output.name);
    let admitted = spec
        .admit(call.id, call.inputs)
        .and_then(|inputs| Ok((inputs, spec.select_outputs(call.id, named)?)))
        .map_err(InferError::from);
    let ((inputs, rows), outputs) = admitted.inspect_err(|error| model.refused(error.kind()))?;
    let queued = Instant::now();
    if let Some(trace) = &mut trace {
        let named = spec.inputs().iter().zip(&inputs);
        trace.queued(named.filter_map(|(input, tensor)| Some((input.name.as_str(), tensor.as_ref()?))));
    }
    let request = InferRequest {
        started: call.started,
        inputs,
        rows,
        outputs,
        output_memory: output_memory(&spec, &call.outputs),
        priority: call.priority,
        deadline: call.timeout.and_then(|timeout| queued.checked_add(timeout)),
        client_deadline: call.deadline,
        timings: call.timings,
    };
    let run = run(&model, request, call.id, trace.as_deref_mut());
    let response = match call.deadline {
        // A timeout drops the run, which cancels the request.
        Some(deadline) => timeout_at(deadline.into(), run).await.unwrap_or(Err(InferError::DeadlineExceeded))?,
        None => run.await?,
    };
    if let Some(trace) = trace {
        // An ensemble does not compute: its steps do.
        if !model.is_composite() {
            trace.ran(queued, &response.timings);
        }
        let outputs = response.outputs.iter();
        let named = outputs.filter_map(|(index, tensor)| Some((spec.outputs().get(*index)?.name.as_str(), tensor)));
        trace.answered(named);
    }
    let outputs = answered_outputs(&spec, response.outputs, &call.outputs)?;
    Ok(Answer { model, outputs, timings: response.timings })
}

/// Runs a request. The steps of an ensemble get its id and its trace.
async fn run(
    model: &Model,
    request: InferRequest,
    id: &str,
    trace: Option<&mut Trace>,
) -> Result<InferResponse, InferError> {
    let run = model.infer(request);
    if !model.is_composite() {
        return run.await;
    }
    let caller = Caller { id: id.to_owned(), traces: trace.map(Trace::steps) };
    caller.scope(run).await
}

/// The outputs as the request wants them: classified, written to shared memory, sorted by name.
fn answered_outputs(
    spec: &ModelSpec,
    tensors: Vec<(usize, Tensor)>,
    requested: &[WantedOutput<'_>],
) -> Result<Vec<AnsweredOutput>, InferError> {
    let mut outputs = Vec::with_capacity(tensors.len());
    for (index, tensor) in tensors {
        let Some(output) = spec.outputs().get(index) else { continue };
        let wanted = requested.iter().find(|wanted| wanted.name == output.name);
        let tensor = match wanted.and_then(|output| output.classes) {
            Some(classes) => classify::top(&tensor, spec.batches(), classes, output.labels.as_deref())?,
            None => tensor,
        };
        let shared = wanted.and_then(|output| output.shared.clone());
        if let Some(range) = &shared {
            range.write(&output.name, tensor.data())?;
        }
        outputs.push(AnsweredOutput { name: output.name.clone(), tensor, shared });
    }
    outputs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(outputs)
}

/// The shared memory that the model itself may write outputs to. Left out are outputs that are classified, and regions
/// that overlap another one: the output could overwrite an input.
fn output_memory(spec: &ModelSpec, wanted: &[WantedOutput<'_>]) -> Vec<(usize, Arc<dyn OutputMemory>)> {
    let memory = |wanted: &WantedOutput<'_>| {
        let range = wanted.shared.clone().filter(|range| range.is_alone() && wanted.classes.is_none())?;
        let index = spec.outputs().iter().position(|output| output.name == wanted.name)?;
        Some((index, Arc::new(range) as Arc<dyn OutputMemory>))
    };
    wanted.iter().filter_map(memory).collect()
}
