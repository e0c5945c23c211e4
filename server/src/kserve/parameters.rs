//! What the parameters of a request ask for, read once for all protocols: classification, priority, timeout, and
//! tensors in shared memory.
//!
//! A protocol implements [`Parameters`] for its own form of them, with its own words for a wrong one.

use std::time::Duration;

use quintet_engine::InferError;

use super::{
    call::WantedOutput,
    shared_memory::{self, SharedMemory, SharedRange},
};

/// A number among the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number<'a> {
    /// How many classes an output is reduced to.
    Classes,
    /// The priority in the queue.
    Priority,
    /// How long to wait in the queue, in microseconds.
    Timeout,
    /// Where in its shared memory region this tensor begins, in bytes.
    Offset(&'a str),
    /// The bytes that this tensor has in its shared memory region.
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
    /// [`quintet_engine::ErrorKind::InvalidInput`] in the protocol's words where the parameter is no such number.
    fn number(&self, number: Number<'_>) -> Result<Option<u64>, InferError>;

    /// The shared memory region of this tensor, if the parameter is given.
    ///
    /// # Errors
    /// [`quintet_engine::ErrorKind::InvalidInput`] in the protocol's words where the parameter is no string.
    fn region(&self, tensor: &str) -> Result<Option<&str>, InferError>;
}

/// The output called `name`, as its parameters want it.
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

/// Priority in the queue (lower is sooner, 0 is the model's default), and the longest wait there.
///
/// # Errors
/// [`quintet_engine::ErrorKind::InvalidInput`] for wrong parameters.
pub fn queueing(parameters: &impl Parameters) -> Result<(u32, Option<Duration>), InferError> {
    let priority = parameters.number(Number::Priority)?.unwrap_or(0);
    let timeout = parameters.number(Number::Timeout)?.filter(|&microseconds| microseconds > 0);
    Ok((u32::try_from(priority).unwrap_or(u32::MAX), timeout.map(Duration::from_micros)))
}
