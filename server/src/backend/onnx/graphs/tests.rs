//! Tests of graphs on the CPU, where each replay is a plain run.

use std::ptr;

use ort::{
    environment::Environment,
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    sys::OrtValue,
    value::DynValue,
};
use proptest::prelude::*;
use quintet_engine::BufferPool;
use quintet_models::passthrough::write_scaled;

use super::{
    super::instance::{
        OnnxInstance,
        tests::{loaded, loaded_from, run},
    },
    device::{CopyTensors, copy_tensors},
    *,
};
use crate::backend::{
    gpu_work::RECORDING,
    onnx::{LoadedSession, values},
};

/// An instance as on a GPU, except that its graphs are on the CPU.
fn recording(mut session: LoadedSession, inputs: &[&str]) -> OnnxInstance {
    session.is_bound = true;
    session.graphs = Some(on_cpu(copy_on_cpu));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let mut instance = OnnxInstance::new(session, names(inputs), names(&["y"]));
    instance.graphs.as_mut().unwrap().timeout = Duration::from_secs(60);
    instance
}

/// The copy that a device's provider would do.
unsafe fn copy_on_cpu(_: &Environment, from: &[*const OrtValue], to: &mut [*const OrtValue]) -> ort::Result<()> {
    let api = ort::api();
    let start = |tensor: *const OrtValue| {
        let mut start = ptr::null_mut();
        // SAFETY: a live tensor, and a valid out-pointer.
        unsafe { ort::Error::result_from_status((api.GetTensorMutableData)(tensor.cast_mut(), &mut start)) }?;
        Ok::<_, ort::Error>(start.cast::<u8>())
    };
    let bytes = |tensor: *const OrtValue| {
        let mut bytes = 0;
        // SAFETY: as above.
        unsafe { ort::Error::result_from_status((api.GetTensorSizeInBytes)(tensor, &mut bytes)) }?;
        Ok::<_, ort::Error>(bytes)
    };
    assert_eq!(from.len(), to.len());
    for (&from, &to) in from.iter().zip(to.iter()) {
        assert_eq!(bytes(from)?, bytes(to)?);
        // SAFETY: both tensors have this many bytes, and do not overlap.
        unsafe { ptr::copy_nonoverlapping(start(from)?, start(to)?, bytes(to)?) };
    }
    Ok(())
}

fn on_cpu(copy: CopyTensors) -> Device {
    let threads = quintet_onnxruntime::ThreadPool { intra_op_threads: 1, spin: false };
    let library = quintet_onnxruntime::load(None, threads).unwrap();
    let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default).unwrap();
    Device { environment: library.environment.clone(), memory, copy }
}

fn graphs(instance: &OnnxInstance) -> Vec<bool> {
    instance.graphs.as_ref().unwrap().seen.iter().map(|seen| seen.graph.is_some()).collect()
}

pub(in super::super) fn numbers_from(start: f32, length: usize) -> Tensor {
    let numbers: Vec<f32> = (0..length).map(|n| start + n as f32).collect();
    let mut buffer = BufferPool::new(0).take(length * size_of::<f32>());
    buffer.copy_from_slice(bytemuck::cast_slice(&numbers));
    Tensor::new(DataType::Fp32, Shape::new([length]), buffer.freeze()).unwrap()
}

fn answer(instance: &mut OnnxInstance, inputs: &[Option<Tensor>]) -> Option<Tensor> {
    run(instance, inputs, &[]).unwrap().remove(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn replays_give_the_outputs_of_plain_runs(lengths in prop::collection::vec(2usize..6, 1..20)) {
        let _alone = RECORDING.lock();
        let mut instance = recording(loaded(), &["x"]);
        let mut kept = Vec::new();
        for (index, &length) in lengths.iter().enumerate() {
            let x = Some(numbers_from(index as f32, length));
            let y = answer(&mut instance, std::slice::from_ref(&x));
            prop_assert_eq!(&y, &x);
            kept.push((x, y));
        }
        let distinct: std::collections::HashSet<_> = lengths.iter().collect();
        prop_assert_eq!(graphs(&instance), vec![true; distinct.len()]);
        // No later replay overwrites an earlier output.
        for (x, y) in kept {
            prop_assert_eq!(x, y);
        }
    }
}

#[test]
fn a_graph_has_tensors_of_its_own() {
    let _alone = RECORDING.lock();
    let mut instance = recording(loaded(), &["x"]);
    let x = numbers_from(1.0, 3);
    answer(&mut instance, &[Some(x.clone())]);
    let inside = |instance: &OnnxInstance| {
        let graph = instance.graphs.as_ref().unwrap().seen[0].graph.as_ref().unwrap();
        let read = |value: &DynValue| value.try_extract_tensor::<f32>().unwrap().1.to_vec();
        [read(&graph.inputs[0]), read(&graph.outputs[0].0)]
    };
    assert_eq!(inside(&instance), [[1.0, 2.0, 3.0]; 2]);
    answer(&mut instance, &[Some(numbers_from(5.0, 3))]);
    assert_eq!(inside(&instance), [[5.0, 6.0, 7.0]; 2]);
}

#[test]
fn records_nothing_without_a_copy_function() {
    let _alone = RECORDING.lock();
    let device = on_cpu(copy_tensors);
    let value = |tensor: &Tensor| values::unset(&Allocator::default(), tensor.data_type(), tensor.shape()).unwrap();
    let (from, to) = (value(&numbers_from(1.0, 3)).into_dyn(), value(&numbers_from(1.0, 3)).into_dyn());
    let error = device.copy([(&from, &to)].into_iter()).unwrap_err();
    assert_eq!(error.message(), "Data transfer implementation between source and destination device was not found.");
    let mut instance = recording(loaded(), &["x"]);
    instance.graphs.as_mut().unwrap().device = device;
    let x = numbers_from(1.0, 3);
    assert_eq!(answer(&mut instance, &[Some(x.clone())]), Some(x));
    assert_eq!(graphs(&instance), [false]);
}

#[test]
fn uses_plain_runs_for_batches_that_cannot_be_recorded() {
    let _alone = RECORDING.lock();
    let mut instance = recording(loaded(), &["x"]);
    // Probes without elements are equal.
    for length in [0, 1, 0] {
        let x = numbers_from(3.0, length);
        assert_eq!(answer(&mut instance, &[Some(x.clone())]), Some(x));
    }
    assert_eq!(graphs(&instance), [false, true]);

    let mut instance = recording(loaded(), &["x"]);
    for length in 1..MAX_GRAPHS + 10 {
        let x = numbers_from(3.0, length);
        assert_eq!(answer(&mut instance, &[Some(x.clone())]), Some(x));
    }
    assert_eq!(graphs(&instance), [true; MAX_GRAPHS]);
}

#[test]
fn uses_plain_runs_if_an_input_is_left_out() {
    let _alone = RECORDING.lock();
    let root = tempfile::tempdir().unwrap();
    write_scaled(root.path()).unwrap();
    let mut instance = recording(loaded_from(&root.path().join("scaled/1/model.onnx")), &["x", "factor"]);
    let tensor = |numbers: [f32; 2]| {
        let mut buffer = BufferPool::new(0).take(8);
        buffer.copy_from_slice(bytemuck::cast_slice(&numbers));
        Tensor::new(DataType::Fp32, Shape::new([2, 1]), buffer.freeze()).unwrap()
    };
    let factor = quintet_models::passthrough::DEFAULT_FACTOR;
    for _ in 0..2 {
        assert_eq!(answer(&mut instance, &[Some(tensor([1.0, 2.0])), None]), Some(tensor([factor, 2.0 * factor])));
    }
    assert_eq!(graphs(&instance), [false; 0]);
    for factor in [2.0, 5.0] {
        let inputs = [Some(tensor([1.0, 2.0])), Some(tensor([factor; 2]))];
        assert_eq!(answer(&mut instance, &inputs), Some(tensor([factor, 2.0 * factor])));
    }
    assert_eq!(graphs(&instance), [true]);
}

#[test]
fn a_recording_waits_until_no_other_work_runs() {
    let _alone = RECORDING.lock();
    let mut instance = recording(loaded(), &["x"]);
    instance.graphs.as_mut().unwrap().timeout = Duration::ZERO;
    let x = numbers_from(1.0, 3);
    let (begun, is_begun) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || {
        let _work = gpu_work::shared();
        begun.send(()).unwrap();
        let _ = ended.recv();
    });
    is_begun.recv().unwrap();
    let asked = Instant::now();
    assert_eq!(answer(&mut instance, &[Some(x.clone())]), Some(x.clone()));
    assert_eq!(graphs(&instance), [false; 0]);
    assert!(instance.graphs.as_ref().unwrap().not_before >= asked + RETRY_INTERVAL);
    drop(end);
    other.join().unwrap();
    instance.graphs.as_mut().unwrap().timeout = Duration::from_secs(60);
    // Far in the future, so that a slow machine does not reach it.
    instance.graphs.as_mut().unwrap().not_before += Duration::from_secs(3600);
    assert_eq!(answer(&mut instance, &[Some(x.clone())]), Some(x.clone()));
    assert_eq!(graphs(&instance), [false; 0], "not at once");
    instance.graphs.as_mut().unwrap().not_before = Instant::now();
    assert_eq!(answer(&mut instance, &[Some(x.clone())]), Some(x));
    assert_eq!(graphs(&instance), [true]);
}
