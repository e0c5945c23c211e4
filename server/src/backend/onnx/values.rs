//! Tensors to ONNX Runtime's values and back, without copying numbers.

use std::{
    ffi::{c_char, c_void},
    ptr, slice,
};

use bytemuck::{AnyBitPattern, NoUninit, checked};
use bytes::Bytes;
use ort::{
    AsPointer as _,
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::SessionInputValue,
    value::{
        DynTensor, DynTensorValueType, DynValue, DynValueTypeMarker, IntoTensorElementType as _,
        PrimitiveTensorElementType, TensorElementType, TensorRef, TensorRefMut, ValueRefMut, ValueType,
    },
};
use quintet_engine::{DataType, InferError, OutputPlacement, Shape, Tensor};
use quintet_proto::elements;

/// The protocol's data type for an element type; `None` for types that the protocol does not have.
pub(super) fn data_type(element: TensorElementType) -> Option<DataType> {
    Some(match element {
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::Uint8 => DataType::Uint8,
        TensorElementType::Uint16 => DataType::Uint16,
        TensorElementType::Uint32 => DataType::Uint32,
        TensorElementType::Uint64 => DataType::Uint64,
        TensorElementType::Int8 => DataType::Int8,
        TensorElementType::Int16 => DataType::Int16,
        TensorElementType::Int32 => DataType::Int32,
        TensorElementType::Int64 => DataType::Int64,
        TensorElementType::Float16 => DataType::Fp16,
        TensorElementType::Float32 => DataType::Fp32,
        TensorElementType::Float64 => DataType::Fp64,
        TensorElementType::Bfloat16 => DataType::Bf16,
        TensorElementType::String => DataType::Bytes,
        _ => return None,
    })
}

/// Evaluates an expression in which `$T` is the Rust type of a tensor's elements; for BYTES, another expression.
macro_rules! by_type {
    ($data_type:expr, $T:ident => $numbers:expr, $strings:expr) => {
        by_type!(@ $data_type, $T, $numbers, $strings, Bool bool, Uint8 u8, Uint16 u16, Uint32 u32, Uint64 u64, Int8 i8,
            Int16 i16, Int32 i32, Int64 i64, Fp16 half::f16, Bf16 half::bf16, Fp32 f32, Fp64 f64)
    };
    (@ $data_type:expr, $T:ident, $numbers:expr, $strings:expr, $($variant:ident $type:ty),*) => {
        match $data_type {
            $(DataType::$variant => {
                type $T = $type;
                $numbers
            })*
            DataType::Bytes => $strings,
        }
    };
}

/// A value that views the tensor's data in place; only BYTES are copied.
///
/// # Errors
/// When the data cannot be viewed: misaligned, or BOOL bytes other than 0 and 1.
pub(super) fn input(tensor: &Tensor) -> Result<SessionInputValue<'_>, InferError> {
    by_type!(tensor.data_type(), T => view::<T>(tensor), strings(tensor).map(Into::into).map_err(InferError::internal))
}

/// A value over the memory of an output's placement, for ONNX Runtime to write to.
///
/// # Errors
/// When the output has no fixed size.
pub(super) fn placed(output: &OutputPlacement) -> ort::Result<ValueRefMut<'_, DynValueTypeMarker>> {
    let dims: Vec<i64> = output.shape.dims().iter().map(|&dim| dim as i64).collect();
    let cpu = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)?;
    let start = output.memory.start().cast();
    by_type!(
        output.data_type,
        // SAFETY: a placement owns CPU memory that may be written while it lives, which is as long as the value, and
        // the engine has checked that it is large enough for the shape and aligned for the type.
        T => unsafe { TensorRefMut::<T>::from_raw(cpu, start, dims.into()) }.map(ValueRefMut::into_dyn),
        Err(ort::Error::new("BYTES have no fixed size"))
    )
}

/// A tensor in an allocator's memory with unspecified elements.
///
/// # Errors
/// When there is not enough memory, or for BYTES, which have no fixed size.
pub(super) fn unset(allocator: &Allocator, data_type: DataType, shape: &Shape) -> ort::Result<DynTensor> {
    by_type!(
        data_type,
        T => DynTensor::new(allocator, T::into_tensor_element_type(), shape.dims()),
        Err(ort::Error::new("BYTES have no fixed size"))
    )
}

fn view<T>(tensor: &Tensor) -> Result<SessionInputValue<'_>, InferError>
where
    T: checked::CheckedBitPattern + NoUninit + PrimitiveTensorElementType + std::fmt::Debug + 'static,
    T::Bits: AnyBitPattern,
{
    let elements: &[T] = checked::try_cast_slice(tensor.data()).map_err(|error| match error {
        checked::CheckedCastError::InvalidBitPattern => {
            InferError::invalid(format_args!("{} elements must be 0 or 1", tensor.data_type()))
        }
        error => InferError::internal(format_args!("{} data cannot be viewed: {error}", tensor.data_type())),
    })?;
    let view = TensorRef::from_array_view((tensor.shape().dims(), elements)).map_err(InferError::internal)?;
    Ok(view.into())
}

/// BYTES need not be UTF-8 and may have NULs, so ort's string constructors, which pass C strings, cannot be used.
fn strings(tensor: &Tensor) -> ort::Result<DynTensor> {
    let mut value = DynTensor::new(&Allocator::default(), TensorElementType::String, tensor.shape().dims())?;
    for (index, element) in elements::iter(tensor.data()).enumerate() {
        let element = element.map_err(ort::Error::wrap)?;
        let mut buffer: *mut c_char = ptr::null_mut();
        // SAFETY: the value is a live string tensor with one element for each of `data` (Tensor::new
        // has counted them); the out-pointer is valid for writes.
        unsafe {
            ort::Error::result_from_status((ort::api().GetResizedStringTensorElementBuffer)(
                value.ptr_mut(),
                index,
                element.len(),
                &mut buffer,
            ))?;
        }
        if !element.is_empty() {
            // SAFETY: ONNX Runtime has just sized the buffer for `element.len()` bytes.
            unsafe { ptr::copy_nonoverlapping(element.as_ptr(), buffer.cast::<u8>(), element.len()) };
        }
    }
    Ok(value)
}

/// A tensor over an output's memory, without copying it; BYTES are copied, and so is an output in `borrowed` memory,
/// unless it is in its own placement.
///
/// # Errors
/// When the output is not a tensor of one of the protocol's types in memory that the CPU can access.
pub(super) fn output(
    name: &str,
    value: DynValue,
    placement: Option<&OutputPlacement>,
    borrowed: Borrowed<'_>,
) -> Result<Tensor, InferError> {
    let ValueType::Tensor { ty, .. } = value.dtype().clone() else {
        return Err(InferError::internal(format_args!("output '{name}' is not a tensor")));
    };
    let data_type = data_type(ty)
        .ok_or_else(|| InferError::internal(format_args!("output '{name}' has the unsupported type {ty:?}")))?;
    let value = value
        .downcast::<DynTensorValueType>()
        .map_err(|error| InferError::internal(format_args!("output '{name}': {error}")))?;
    if !value.memory_info().is_cpu_accessible() {
        return Err(InferError::internal(format_args!("output '{name}' is not in the CPU's memory")));
    }
    // An output that is also an input is not written to its placement.
    let is_there = |placement: &&OutputPlacement| {
        placement.data_type == data_type
            && (placement.bytes() == 0 || ptr::addr_eq(value.data_ptr(), placement.memory.start()))
    };
    if let Some(placement) = placement.filter(is_there) {
        return placement.tensor();
    }
    let dims: Vec<usize> = value.shape().iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).collect();
    let shape = Shape::new(dims);
    let count = shape.elements().unwrap_or(0);
    let data = match data_type.size() {
        Some(size) => {
            let output = RuntimeOutput { value, len: count * size };
            match borrowed.contains(output.as_ref()) {
                true => Bytes::copy_from_slice(output.as_ref()),
                false => Bytes::from_owner(output),
            }
        }
        None => output_strings(&value, count).map_err(InferError::internal)?,
    };
    Tensor::new(data_type, shape, data).map_err(|error| InferError::internal(format_args!("output '{name}': {error}")))
}

/// Memory that a run borrows, and that others use after it: its inputs, and the placements of its outputs.
///
/// For an output that is also an input of the graph, ONNX Runtime returns the tensor that it was given. Such a value does
/// not own its memory.
#[derive(Clone, Copy)]
pub(super) struct Borrowed<'a> {
    pub(super) inputs: &'a [Option<Tensor>],
    pub(super) placements: &'a [OutputPlacement],
}

impl Borrowed<'_> {
    /// Whether any of `bytes` are borrowed.
    fn contains(self, bytes: &[u8]) -> bool {
        let range = bytes.as_ptr_range();
        let overlaps = |borrowed: &[u8]| {
            let borrowed = borrowed.as_ptr_range();
            range.start < borrowed.end && borrowed.start < range.end
        };
        !bytes.is_empty()
            && (self.inputs.iter().flatten().any(|input| overlaps(input.data()))
                || self.placements.iter().any(|placement| overlaps((*placement.memory).as_ref())))
    }
}

/// An output that stays in ONNX Runtime's memory while a response needs it.
struct RuntimeOutput {
    value: DynTensor,
    len: usize,
}

// SAFETY: the value is only read, through a pointer that never changes, and freed once; ONNX Runtime's
// CPU allocators may be called from any thread. The value owns its memory: `output` copies what the run borrowed.
// It has no Rust owner (`_backing` is for inputs), so nothing else is moved along.
unsafe impl Send for RuntimeOutput {}
// SAFETY: as above: shared access is reading plain numbers.
unsafe impl Sync for RuntimeOutput {}

impl AsRef<[u8]> for RuntimeOutput {
    fn as_ref(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the tensor is on the CPU and has `len` bytes: the product of its dimensions and its
        // element's size. It lives as long as `self`.
        unsafe { slice::from_raw_parts(self.value.data_ptr().cast::<u8>(), self.len) }
    }
}

fn output_strings(value: &DynTensor, count: usize) -> ort::Result<Bytes> {
    let api = ort::api();
    let mut total = 0;
    // SAFETY: the value is a live string tensor; the out-pointer is valid for writes.
    unsafe { ort::Error::result_from_status((api.GetStringTensorDataLength)(value.ptr(), &mut total))? };
    let mut content = vec![0u8; total];
    let mut offsets = vec![0usize; count];
    if count > 0 {
        // SAFETY: `content` has the size that ONNX Runtime has just reported, and `offsets` one entry for each element.
        unsafe {
            ort::Error::result_from_status((api.GetStringTensorContent)(
                value.ptr(),
                content.as_mut_ptr().cast::<c_void>(),
                total,
                offsets.as_mut_ptr(),
                count,
            ))?;
        }
    }
    let ends = offsets.iter().copied().skip(1).chain([total]);
    Ok(elements::encode(offsets.iter().zip(ends).map(|(&from, to)| content.get(from..to).unwrap_or_default())))
}
