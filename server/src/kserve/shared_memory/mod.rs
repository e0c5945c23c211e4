//! System shared memory: regions that clients on this machine register and exchange tensors through.

mod region;

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use quintet_engine::{ErrorKind, InferError};

pub use self::region::{Region, SharedRange};

/// Limits on what clients may register.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Regions that are registered at once.
    pub max_regions: usize,
    /// Bytes of all registered regions together.
    pub max_bytes: u64,
}

/// The regions of one service.
pub struct SharedMemory {
    /// `None` if clients cannot register regions.
    limits: Option<Limits>,
    copies_inputs: bool,
    regions: Mutex<BTreeMap<String, Arc<Region>>>,
}

impl SharedMemory {
    /// Starts without regions. Clients cannot register any without `limits`.
    pub fn new(limits: Option<Limits>) -> Self {
        Self { limits, copies_inputs: false, regions: Mutex::default() }
    }

    /// Copies every input that is read from it. Needed with a response cache: a client could change an input after
    /// its hash was taken, and another client would get the answer.
    #[must_use]
    pub fn copying_inputs(mut self, copies_inputs: bool) -> Self {
        self.copies_inputs = copies_inputs;
        self
    }

    /// Whether clients may register regions.
    pub fn is_allowed(&self) -> bool {
        self.limits.is_some()
    }

    fn allow(&self) -> Result<Limits, InferError> {
        self.limits.ok_or_else(|| {
            InferError::new(
                ErrorKind::Unsupported,
                "shared memory is off: start the server with --allow-client-shm if all clients may be trusted with its \
                 memory",
            )
        })
    }

    /// Maps `byte_size` bytes of the object `key`, from `offset`, and registers them as `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if shared memory is off, [`ErrorKind::InvalidInput`] for a name that is in use and for
    /// an object that does not exist or is too small, [`ErrorKind::TooLarge`] over a limit.
    pub fn register(&self, name: &str, key: &str, offset: u64, byte_size: u64) -> Result<(), InferError> {
        let limits = self.allow()?;
        let mut regions = self.regions.lock();
        if regions.contains_key(name) {
            return Err(InferError::invalid(format_args!("shared memory region '{name}' already in manager")));
        }
        let registered: u64 = regions.values().map(|region| region.byte_size).sum();
        if regions.len() >= limits.max_regions {
            return Err(InferError::new(
                ErrorKind::TooLarge,
                format_args!(
                    "cannot register shared memory region '{name}': {} regions are registered, and no more are allowed \
                     (--shared-memory-max-regions)",
                    limits.max_regions
                ),
            ));
        }
        if registered.saturating_add(byte_size) > limits.max_bytes {
            return Err(InferError::new(
                ErrorKind::TooLarge,
                format_args!(
                    "cannot register the {byte_size} bytes of shared memory region '{name}': {registered} of {} bytes \
                     are in use (--shared-memory-max-bytes)",
                    limits.max_bytes
                ),
            ));
        }
        regions.insert(name.to_owned(), Arc::new(Region::map(key, offset, byte_size)?));
        Ok(())
    }

    /// Unregisters a region, or all regions without a name. Requests that use a region keep it mapped until they end.
    /// A region that does not exist is ignored, as in Triton.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if shared memory is off.
    pub fn unregister(&self, name: Option<&str>) -> Result<(), InferError> {
        self.allow()?;
        let mut regions = self.regions.lock();
        match name {
            Some(name) => drop(regions.remove(name)),
            None => regions.clear(),
        }
        Ok(())
    }

    /// The region called `name`, or all regions.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if shared memory is off, [`ErrorKind::NotFound`] for an unknown region.
    pub fn status(&self, name: Option<&str>) -> Result<Vec<(String, Arc<Region>)>, InferError> {
        self.allow()?;
        let regions = self.regions.lock();
        let entry = |(name, region): (&String, &Arc<Region>)| (name.clone(), Arc::clone(region));
        let Some(name) = name else { return Ok(regions.iter().map(entry).collect()) };
        regions.get_key_value(name).map(|found| vec![entry(found)]).ok_or_else(|| {
            InferError::new(ErrorKind::NotFound, format_args!("Unable to find system shared memory region: '{name}'"))
        })
    }

    /// `byte_size` bytes of a region, from `offset`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if shared memory is off, [`ErrorKind::InvalidInput`] for an unknown region and for a
    /// range outside the region.
    pub fn range(&self, name: &str, offset: u64, byte_size: u64) -> Result<SharedRange, InferError> {
        self.allow()?;
        let regions = self.regions.lock();
        let region = regions
            .get(name)
            .cloned()
            .ok_or_else(|| InferError::invalid(format_args!("Unable to find shared memory region: '{name}'")))?;
        let is_alone = regions.iter().all(|(other, mapped)| other == name || !mapped.overlaps(&region));
        drop(regions);
        let mut range = region.range(name, offset, byte_size, is_alone)?;
        range.copies_inputs = self.copies_inputs;
        Ok(range)
    }
}

/// The refusal of a tensor in shared memory without a size.
pub fn without_size(tensor: &str) -> InferError {
    InferError::invalid(format_args!(
        "'shared_memory_byte_size' must be specified along with 'shared_memory_region' for tensor '{tensor}'"
    ))
}

/// The status of a region of CUDA shared memory, or of all regions. There are none.
///
/// # Errors
/// [`ErrorKind::NotFound`] if a region is named.
pub fn cuda_status(name: Option<&str>) -> Result<(), InferError> {
    let Some(name) = name else { return Ok(()) };
    let unknown = format_args!("Unable to find cuda shared memory region: '{name}'");
    Err(InferError::new(ErrorKind::NotFound, unknown))
}

/// The refusal to register CUDA shared memory.
pub fn cuda_unsupported() -> InferError {
    InferError::new(
        ErrorKind::Unsupported,
        "CUDA shared memory is not supported: send the tensor's data, or use system shared memory",
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use quintet_engine::DataType;

    use super::*;

    /// A shared memory object that is removed when it is dropped.
    struct Object(PathBuf);

    impl Object {
        fn new(name: &str, content: &[u8]) -> (Self, String) {
            let name = format!("quintet-test-{}-{name}", std::process::id());
            let path = PathBuf::from("/dev/shm").join(&name);
            std::fs::write(&path, content).unwrap();
            (Self(path), format!("/{name}"))
        }
    }

    impl Drop for Object {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn memory() -> SharedMemory {
        SharedMemory::new(Some(Limits { max_regions: 2, max_bytes: 10_000 }))
    }

    #[test]
    fn client_and_server_see_each_others_writes() {
        let (object, key) = Object::new("both", &[7; 9000]);
        let memory = memory();
        memory.register("r", &key, 4000, 5000).unwrap();
        let range = memory.range("r", 8, 16).unwrap();
        let (view, copy) = (range.read(Some(DataType::Fp32)), range.read(Some(DataType::Bytes)));
        assert_eq!((&view[..], &copy[..]), (&[7; 16][..], &[7; 16][..]));
        range.write("y", &[9; 12]).unwrap();
        assert_eq!((&view[..12], &copy[..12]), (&[9; 12][..], &[7; 12][..]), "a view sees it, a copy does not");
        assert_eq!(std::fs::read(&object.0).unwrap()[4008..4020], [9; 12]);
        let error = range.write("y", &[0; 17]).unwrap_err();
        assert!(error.to_string().contains("output 'y' (16 bytes) should be at least 17 bytes"), "{error}");
        // Unregistered and deleted, but still mapped.
        memory.unregister(Some("r")).unwrap();
        drop((object, range));
        assert_eq!(view[12..], [7; 4]);
    }

    #[test]
    fn copies_inputs_if_responses_are_cached() {
        let (object, key) = Object::new("copied", &[7; 4096]);
        let memory = memory().copying_inputs(true);
        memory.register("r", &key, 0, 4096).unwrap();
        let range = memory.range("r", 0, 16).unwrap();
        let copy = range.read(Some(DataType::Fp32));
        range.write("y", &[9; 16]).unwrap();
        assert_eq!(copy[..], [7; 16]);
        drop(object);
    }

    #[test]
    fn rejects_wrong_keys_ranges_and_too_many_regions() {
        let (_object, key) = Object::new("refusals", &[0; 4096]);
        let memory = memory();
        memory.register("r", &key, 0, 4096).unwrap();
        let mut refusals = Vec::new();
        let mut refused = |outcome: Result<(), InferError>| {
            let error = outcome.unwrap_err();
            refusals.push(format!("{:?}: {}", error.kind(), error.to_string().replace(&key, "/KEY")));
        };
        refused(memory.register("r", &key, 0, 1));
        for key in ["", "/", "/..", "/../etc/passwd", "/a/b", "..", "/nosuch-quintet"] {
            refused(memory.register("s", key, 0, 1));
        }
        for (offset, byte_size) in [(0, 4097), (4096, 1), (u64::MAX, 2), (0, 0)] {
            refused(memory.register("s", &key, offset, byte_size));
        }
        refused(memory.register("s", &key, 0, 6000));
        refused(memory.range("s", 0, 1).map(|_| ()));
        for (offset, byte_size) in [(4097, 0), (0, 4097), (4096, 1), (1, u64::MAX)] {
            refused(memory.range("r", offset, byte_size).map(|_| ()));
        }
        refused(memory.status(Some("s")).map(|_| ()));
        memory.register("s", &key, 0, 1).unwrap();
        refused(memory.register("t", &key, 0, 1));
        refused(SharedMemory::new(None).status(None).map(|_| ()));
        insta::assert_snapshot!(refusals.join("\n"), @r"
        InvalidInput: shared memory region 'r' already in manager
        InvalidInput: Unable to open shared memory region: '': a key must be '/' and a name that has no '/'
        InvalidInput: Unable to open shared memory region: '/': a key must be '/' and a name that has no '/'
        InvalidInput: Unable to open shared memory region: '/..': a key must be '/' and a name that has no '/'
        InvalidInput: Unable to open shared memory region: '/../etc/passwd': a key must be '/' and a name that has no '/'
        InvalidInput: Unable to open shared memory region: '/a/b': a key must be '/' and a name that has no '/'
        InvalidInput: Unable to open shared memory region: '..': a key must be '/' and a name that has no '/'
        InvalidInput: Unable to open shared memory region: '/nosuch-quintet': No such file or directory (os error 2)
        InvalidInput: Invalid shared memory region: '/KEY': 4097 bytes at offset 0 are not within its 4096 bytes
        InvalidInput: Invalid shared memory region: '/KEY': 1 bytes at offset 4096 are not within its 4096 bytes
        InvalidInput: Invalid shared memory region: '/KEY': 2 bytes at offset 18446744073709551615 are not within its 4096 bytes
        InvalidInput: Invalid shared memory region: '/KEY': 0 bytes at offset 0 are not within its 4096 bytes
        TooLarge: cannot register the 6000 bytes of shared memory region 's': 4096 of 10000 bytes are in use (--shared-memory-max-bytes)
        InvalidInput: Unable to find shared memory region: 's'
        InvalidInput: Invalid offset for shared memory region: 'r': 4097 is past its 4096 bytes
        InvalidInput: Invalid offset + byte size for shared memory region: 'r': 4097 bytes at offset 0 are not within its 4096 bytes
        InvalidInput: Invalid offset + byte size for shared memory region: 'r': 1 bytes at offset 4096 are not within its 4096 bytes
        InvalidInput: Invalid offset + byte size for shared memory region: 'r': 18446744073709551615 bytes at offset 1 are not within its 4096 bytes
        NotFound: Unable to find system shared memory region: 's'
        TooLarge: cannot register shared memory region 't': 2 regions are registered, and no more are allowed (--shared-memory-max-regions)
        Unsupported: shared memory is off: start the server with --allow-client-shm if all clients may be trusted with its memory
        ");
    }
}
