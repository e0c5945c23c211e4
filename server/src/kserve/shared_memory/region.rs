//! Mapped regions, and ranges of them that hold a tensor.

use std::{fs::File, ptr, slice, sync::Arc};

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};
use quintet_engine::{DataType, InferError, OutputMemory};
use rustix::{fs::Mode, shm};

/// A mapped part of a shared memory object.
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
    /// Whether both map some of the same bytes of the same object.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let ends_before = |a: &Self, b: &Self| a.offset + a.byte_size <= b.offset;
        self.key.trim_start_matches('/') == other.key.trim_start_matches('/')
            && !ends_before(self, other)
            && !ends_before(other, self)
    }

    /// Maps `byte_size` bytes of the object `key`, from `offset`.
    ///
    /// # Errors
    /// [`quintet_engine::ErrorKind::InvalidInput`] for a wrong key, and for an object that does not exist or is too
    /// small.
    pub(super) fn map(key: &str, offset: u64, byte_size: u64) -> Result<Self, InferError> {
        let wrong = |what: &dyn std::fmt::Display| {
            InferError::invalid(format_args!("Unable to open shared memory region: '{key}': {what}"))
        };
        // A name, never a path: a client must not reach files outside the folder of the objects.
        let name = key.strip_prefix('/').unwrap_or(key);
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(wrong(&"a key must be '/' and a name that has no '/'"));
        }
        let object = shm::open(format!("/{name}"), shm::OFlags::RDWR, Mode::empty()).map_err(|error| wrong(&error))?;
        let object = File::from(object);
        let metadata = object.metadata().map_err(|error| wrong(&error))?;
        let within = offset.checked_add(byte_size).is_some_and(|end| end <= metadata.len());
        if !metadata.is_file() || !within || byte_size == 0 {
            return Err(InferError::invalid(format_args!(
                "Invalid shared memory region: '{key}': {byte_size} bytes at offset {offset} are not within its {} bytes",
                metadata.len()
            )));
        }
        let length = usize::try_from(byte_size).map_err(|error| wrong(&error))?;
        let memory = MmapOptions::new().offset(offset).len(length).map_raw(&object).map_err(|error| wrong(&error))?;
        Ok(Self { key: key.to_owned(), offset, byte_size, memory })
    }

    /// `byte_size` bytes of this region, from `offset`. `name` is the region's name; `is_alone` is whether no other region
    /// overlaps it.
    ///
    /// # Errors
    /// [`quintet_engine::ErrorKind::InvalidInput`] for a range outside the region.
    pub(super) fn range(
        self: Arc<Self>,
        name: &str,
        offset: u64,
        byte_size: u64,
        is_alone: bool,
    ) -> Result<SharedRange, InferError> {
        if offset > self.byte_size {
            return Err(InferError::invalid(format_args!(
                "Invalid offset for shared memory region: '{name}': {offset} is past its {} bytes",
                self.byte_size
            )));
        }
        if byte_size > self.byte_size - offset {
            return Err(InferError::invalid(format_args!(
                "Invalid offset + byte size for shared memory region: '{name}': {byte_size} bytes at offset {offset} \
                 are not within its {} bytes",
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

/// A range of bytes of a region. The region stays mapped as long as a range of it exists.
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

    /// Where the range begins in the region, in bytes.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The elements of an input. Numbers are not copied unless [`super::SharedMemory::copying_inputs`] is set: a client
    /// that changes them while the request runs gets an answer to a mixture. BYTES and BOOL are copied, because their
    /// bytes must stay valid after the check.
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

    /// Whether no other region overlaps this one, so that a write here changes no other tensor.
    pub fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Copies an output into the range, unless the model has written it there already.
    ///
    /// # Errors
    /// [`quintet_engine::ErrorKind::InvalidInput`] if the range is too small.
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
            // holds at least `data.len()` bytes from `offset`. `copy` allows data that lies in the same region.
            unsafe { ptr::copy(data.as_ptr(), self.start(), data.len()) };
        }
        Ok(())
    }
}

impl AsRef<[u8]> for SharedRange {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the range was checked to lie in the mapping, which is initialised memory and lives as long as
        // `region`. Clients may change it meanwhile: it is read as numbers, for which every bit pattern is valid, or
        // copied first and then checked. A client that truncates the object ends the server with SIGBUS, so shared
        // memory is only for trusted clients.
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
