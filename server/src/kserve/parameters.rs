//! Reads the parameters of a request for both protocols: classification, priority, timeout, tensors in shared memory.
//!
//! Each protocol implements [`Parameters`] for its own form of parameters, with Triton's error texts for that protocol.

use std::time::Duration;

use quintet_engine::InferError;

use super::{
    call::WantedOutput,
    shared_memory::{self, SharedMemory, SharedRange},
};

/// A parameter that is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number<'a> {
    /// The number of classes that an output is reduced to.
    Classes,
    /// The priority in the queue.
    Priority,
    /// The longest wait in the queue, in microseconds.
    Timeout,
    /// Where this tensor begins in its shared memory region, in bytes.
    Offset(&'a str),
    /// The size of this tensor in its shared memory region, in bytes.
    ByteSize(&'a str),
}

impl Number<'_> {
    /// The parameter's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classes => "classification",
            Self::Priority => "priority",
            Self::Timeout => "timeout",
            Self::Offset(_) => "shared_memory_offset",
            Self::ByteSize(_) => "shared_memory_byte_size",
        }
    }
}

/// The name of the parameter that names a shared memory region.
pub const REGION: &str = "shared_memory_region";

/// The parameters of a request, an input or an output.
pub trait Parameters {
    /// The number, if the parameter is given.
    ///
    /// # Errors
    /// [`quintet_engine::ErrorKind::InvalidInput`] if the parameter is not such a number.
    fn number(&self, number: Number<'_>) -> Result<Option<u64>, InferError>;

    /// The shared memory region of this tensor, if the parameter is given.
    ///
    /// # Errors
    /// [`quintet_engine::ErrorKind::InvalidInput`] if the parameter is not a string.
    fn region(&self, tensor: &str) -> Result<Option<&str>, InferError>;
}

/// The output called `name`, in the form that its parameters ask for.
///
/// # Errors
/// As [`shared_range`].
pub fn wanted_output<'a>(
    name: &'a str,
    parameters: &impl Parameters,
    memory: &SharedMemory,
) -> Result<WantedOutput<'a>, InferError> {
    let classes = parameters.number(Number::Classes)?.filter(|&classes| classes > 0);
    Ok(WantedOutput {
        name,
        classes: classes.map(|classes| usize::try_from(classes).unwrap_or(usize::MAX)),
        shared: shared_range(name, parameters, memory)?,
    })
}

/// The shared memory that a tensor's parameters name; `None` if its data is in the message.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for wrong parameters, and as [`SharedMemory::range`].
pub fn shared_range(
    tensor: &str,
    parameters: &impl Parameters,
    memory: &SharedMemory,
) -> Result<Option<SharedRange>, InferError> {
    let Some(region) = parameters.region(tensor)? else { return Ok(None) };
    let offset = parameters.number(Number::Offset(tensor))?.unwrap_or(0);
    let byte_size = parameters.number(Number::ByteSize(tensor))?.ok_or_else(|| shared_memory::without_size(tensor))?;
    memory.range(region, offset, byte_size).map(Some)
}

/// The priority in the queue (lower runs sooner, 0 is the model's default), and the longest wait there.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for wrong parameters.
pub fn queueing(parameters: &impl Parameters) -> Result<(u32, Option<Duration>), InferError> {
    let priority = parameters.number(Number::Priority)?.unwrap_or(0);
    let timeout = parameters.number(Number::Timeout)?.filter(|&microseconds| microseconds > 0);
    Ok((u32::try_from(priority).unwrap_or(u32::MAX), timeout.map(Duration::from_micros)))
}
