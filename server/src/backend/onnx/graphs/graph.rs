//! One CUDA graph: recorded, checked against plain runs, and replayed.

use std::time::Instant;

use anyhow::ensure;
use ort::{
    memory::Allocator,
    session::{IoBinding, RunOptions, SessionInputValue},
    value::{DynTensor, DynValue},
};
use quintet_engine::{Cancel, DataType, InferError, OutputSet, RunRequest, RunTimings, Shape, Tensor};

use super::{
    check::{check, probe},
    device::Device,
};
use crate::backend::{
    onnx::{
        handle::{Handle, c_names},
        outputs::Run,
        run_options::{graph_options, run_options},
        values::{self, Borrowed},
    },
    run_error,
};

/// A graph recorded for inputs of one shape.
pub(in super::super) struct Graph {
    options: RunOptions,
    binding: IoBinding,
    pub(super) inputs: Vec<DynValue>,
    /// Each output with its type and shape.
    pub(super) outputs: Vec<(DynValue, DataType, Shape)>,
}

// SAFETY: ort withholds `Send` from tensors because they may be views of foreign memory. These own their memory, which
// ONNX Runtime's allocators free on any thread. One thread at a time owns the graph.
unsafe impl Send for Graph {}

impl Graph {
    /// Records a graph and checks its replays. The caller holds the exclusive lock for GPU work.
    pub(super) fn record(
        id: usize,
        session: &mut Handle,
        (inputs, outputs): (&[String], &[String]),
        shapes: &[(DataType, Shape)],
        (device, allocator): (&Device, &Allocator),
    ) -> anyhow::Result<Self> {
        let probe = |is_marked: bool| -> anyhow::Result<Vec<Tensor>> {
            shapes.iter().map(|(data_type, shape)| probe(*data_type, shape, is_marked)).collect()
        };
        let probes = [probe(false)?, probe(true)?];
        let run = |session: &mut Handle, probe: &[Tensor]| run(session, (inputs, outputs), probe);
        let expected = [run(session, &probes[0])?, run(session, &probes[1])?];
        let options = graph_options(id)?;
        let mut graph = Self { options, binding: session.create_binding()?, inputs: vec![], outputs: vec![] };
        for (name, (data_type, shape)) in inputs.iter().zip(shapes) {
            let tensor = values::unset(allocator, *data_type, shape)?;
            graph.binding.bind_input(name, &tensor)?;
            graph.inputs.push(tensor.into_dyn());
        }
        for (name, tensor) in outputs.iter().zip(&expected[0]) {
            let (data_type, shape) = (tensor.data_type(), tensor.shape().clone());
            let mut tensor = values::unset(allocator, data_type, &shape)?;
            graph.binding.bind_output(name, &mut tensor)?;
            graph.outputs.push((tensor.into_dyn(), data_type, shape));
        }
        check(&probes, &expected, |probe| {
            let given: Vec<_> = probe.iter().cloned().map(Some).collect();
            let cancel = Cancel::new(1);
            let all = OutputSet::all(outputs.len());
            let request = RunRequest { inputs: &given, outputs: all, placements: &[], cancel: &cancel };
            let run = Run { output_names: outputs, request };
            Ok(graph.replay(session, device, run, &mut RunTimings::default())?)
        })?;
        Ok(graph)
    }

    /// Replays the graph. Returns one entry for each output of the instance, `None` if it was not requested.
    pub(in super::super) fn replay(
        &mut self,
        session: &mut Handle,
        device: &Device,
        run: Run<'_>,
        timings: &mut RunTimings,
    ) -> Result<Vec<Option<Tensor>>, InferError> {
        let started = Instant::now();
        let given: Vec<SessionInputValue<'_>> =
            run.request.inputs.iter().flatten().map(values::input).collect::<Result<_, InferError>>()?;
        let pairs = given.iter().map(|value| &**value).zip(&self.inputs);
        device.copy(pairs).map_err(run_error)?;
        timings.copy_in = started.elapsed();
        let started = Instant::now();
        drop(session.run_bound(&self.binding, &self.options).map_err(run_error)?);
        timings.infer = started.elapsed();
        let started = Instant::now();
        let outputs = self.copy_outputs(device, run);
        timings.copy_out = started.elapsed();
        outputs
    }

    fn copy_outputs(&self, device: &Device, run: Run<'_>) -> Result<Vec<Option<Tensor>>, InferError> {
        let made = self.outputs.iter().enumerate().map(|(index, (_, data_type, shape))| {
            let made =
                run.request.outputs.contains(index).then(|| values::unset(&Allocator::default(), *data_type, shape));
            Ok(made.transpose()?.map(DynTensor::into_dyn))
        });
        let made = made.collect::<ort::Result<Vec<_>>>().map_err(InferError::internal)?;
        let pairs = self.outputs.iter().zip(&made).filter_map(|((from, ..), to)| Some((from, to.as_ref()?)));
        device.copy(pairs).map_err(run_error)?;
        let named = run.output_names.iter().zip(made);
        // The copies belong to this run alone.
        let borrowed = Borrowed { inputs: &[], placements: &[] };
        named.map(|(name, made)| made.map(|value| values::output(name, value, None, borrowed)).transpose()).collect()
    }
}

/// A plain run, without a graph.
fn run(
    session: &mut Handle,
    (inputs, outputs): (&[String], &[String]),
    given: &[Tensor],
) -> anyhow::Result<Vec<Tensor>> {
    let options = run_options()?;
    let (inputs, c_outputs) = (c_names(inputs), c_names(outputs));
    let values = inputs.iter().zip(given).map(|(name, tensor)| Ok((name.as_c_str(), values::input(tensor)?)));
    let values = values.collect::<Result<Vec<_>, InferError>>()?;
    let requested: Vec<_> = c_outputs.iter().map(|name| name.as_c_str()).collect();
    let results = session.run(&values, &requested, &options)?;
    let given: Vec<_> = given.iter().cloned().map(Some).collect();
    let borrowed = Borrowed { inputs: &given, placements: &[] };
    let tensors = outputs.iter().zip(results).map(|(name, value)| {
        let tensor = values::output(name, value, None, borrowed)?;
        ensure!(tensor.data_type().size().is_some(), "output '{name}' has no fixed size");
        Ok(tensor)
    });
    tensors.collect()
}
