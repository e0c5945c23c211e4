//! Mapped regions, and the parts of them that are tensors.

use std::{fs::File, ptr, slice, sync::Arc};

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};
use quintet_engine::{DataType, InferError, OutputMemory};
use rustix::{fs::Mode, shm};

/// A part of a shared memory object, mapped.
pub struct Region {
    /// The object's name.
    pub key: String,
    /// Where in the object the region begins.
    pub offset: u64,
    /// Bytes.
    pub byte_size: u64,
    memory: MmapRaw,
}

impl Region {
    /// Whether both have memory of the same object in common.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let ends_before = |a: &Self, b: &Self| a.offset + a.byte_size <= b.offset;
        self.key.trim_start_matches('/') == other.key.trim_start_matches('/')
            && !ends_before(self, other)
            && !ends_before(other, self)
    }

    /// Maps `byte_size` bytes of the object `key`.
    ///
    /// # Errors
    /// [`quintet_engine::ErrorKind::InvalidInput`] for an object that is not there or too small.
    pub(super) fn map(key: &str, offset: u64, byte_size: u64) -> Result<Self, InferError> {
        let wrong = |what: &dyn std::fmt::Display| {
            InferError::invalid(format_args!("Unable to open shared memory region: '{key}': {what}"))
        };
        // The name of an object, never a path: nothing outside of the objects' folder can be named.
        let name = key.strip_prefix('/').unwrap_or(key);
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(wrong(&"a key is a '/' and a name without another '/'"));
        }
        let object = shm::open(format!("/{name}"), shm::OFlags::RDWR, Mode::empty()).map_err(|error| wrong(&error))?;
        let object = File::from(object);
        let metadata = object.metadata().map_err(|error| wrong(&error))?;
        let within = offset.checked_add(byte_size).is_some_and(|end| end <= metadata.len());
        if !metadata.is_file() || !within || byte_size == 0 {
            return Err(InferError::invalid(format_args!(
                "Invalid shared memory region: '{key}': {byte_size} bytes at {offset} are not in its {} bytes",
                metadata.len()
            )));
        }
        let length = usize::try_from(byte_size).map_err(|error| wrong(&error))?;
        let memory = MmapOptions::new().offset(offset).len(length).map_raw(&object).map_err(|error| wrong(&error))?;
        Ok(Self { key: key.to_owned(), offset, byte_size, memory })
    }

    /// `byte_size` bytes from `offset` on of this region, whose name is `name`. `is_alone` is whether no other region
    /// shares memory with it.
    ///
    /// # Errors
    /// [`quintet_engine::ErrorKind::InvalidInput`] for a range that is not in it.
    pub(super) fn range(
        self: Arc<Self>,
        name: &str,
        offset: u64,
        byte_size: u64,
        is_alone: bool,
    ) -> Result<SharedRange, InferError> {
        if offset > self.byte_size {
            return Err(InferError::invalid(format_args!(
                "Invalid offset for shared memory region: '{name}': {offset} is behind its {} bytes",
                self.byte_size
            )));
        }
        if byte_size > self.byte_size - offset {
            return Err(InferError::invalid(format_args!(
                "Invalid offset + byte size for shared memory region: '{name}': {byte_size} bytes at {offset} are not \
                 in its {} bytes",
                self.byte_size
            )));
        }
        // Both are at most the length of the mapping, which is a usize.
        Ok(SharedRange {
            name: name.to_owned(),
            region: self,
            offset: offset as usize,
            byte_size: byte_size as usize,
            is_alone,
            copies_inputs: false,
        })
    }
}

/// Bytes of a region, which stays mapped as long as they are used.
#[derive(Clone)]
pub struct SharedRange {
    name: String,
    region: Arc<Region>,
    offset: usize,
    byte_size: usize,
    is_alone: bool,
    pub(super) copies_inputs: bool,
}

impl SharedRange {
    /// The region's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where in the region it begins.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The elements of an input. Numbers are not copied unless [`super::SharedMemory::copying_inputs`] is set: a client
    /// that changes them while the request runs gets an answer to a mixture; what must be valid to be read safely is.
    pub fn read(&self, data_type: Option<DataType>) -> Bytes {
        match data_type {
            Some(DataType::Bytes | DataType::Bool) | None => Bytes::copy_from_slice(self.as_ref()),
            Some(_) if self.copies_inputs => Bytes::copy_from_slice(self.as_ref()),
            Some(data_type) => {
                let aligned = (self.as_ref().as_ptr() as usize).is_multiple_of(data_type.size().unwrap_or(1));
                if aligned { Bytes::from_owner(self.clone()) } else { Bytes::copy_from_slice(self.as_ref()) }
            }
        }
    }

    /// Whether no other region has memory of this one's: what is written here is seen nowhere else.
    pub fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Writes an output there, unless it stands there already.
    ///
    /// # Errors
    /// [`quintet_engine::ErrorKind::InvalidInput`] when there is no room for it.
    pub fn write(&self, output: &str, data: &[u8]) -> Result<(), InferError> {
        if data.len() > self.byte_size {
            return Err(InferError::invalid(format_args!(
                "shared memory size specified with the request for output '{output}' ({} bytes) should be at least {} \
                 bytes to hold the results",
                self.byte_size,
                data.len()
            )));
        }
        if !ptr::addr_eq(data.as_ptr(), self.start()) {
            // SAFETY: the range was checked to lie in the mapping, which lives as long as `region`, is writable, and
            // holds at least `data.len()` bytes from `offset` on. `copy` allows for data that lies in the same region.
            unsafe { ptr::copy(data.as_ptr(), self.start(), data.len()) };
        }
        Ok(())
    }
}

impl AsRef<[u8]> for SharedRange {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the range was checked to lie in the mapping, which is initialised memory and lives as long as
        // `region`. Clients may change it meanwhile: it is read as numbers, of which every pattern is one, or
        // copied first and checked then. A client that cuts the object off ends the server with SIGBUS, which is
        // why only trusted clients are let in.
        unsafe { slice::from_raw_parts(self.region.memory.as_ptr().add(self.offset), self.byte_size) }
    }
}

// SAFETY: the range was checked to lie in the mapping, which is writable and lives as long as `region`.
unsafe impl OutputMemory for SharedRange {
    fn start(&self) -> *mut u8 {
        // SAFETY: `offset` is at most the length of the mapping.
        unsafe { self.region.memory.as_mut_ptr().add(self.offset) }
    }
}

impl std::fmt::Debug for SharedRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}..][..{}]", self.name, self.offset, self.byte_size)
    }
}
