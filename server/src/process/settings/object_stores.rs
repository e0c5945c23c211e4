//! Settings of model repositories in object stores.

use std::path::PathBuf;

use crate::repository::{Copied, CopyOptions};

settings! {
    ObjectStoreFlags {}
    ObjectStores {}
    defaults {}
    /// Folder with a copy of each model repository in an object store, which another server that runs must not have; it has one subfolder for each address, and may be deleted while no server runs [default: .quintet/object-stores]
    #[arg(value_name = "DIR")]
    object_store_cache: PathBuf = ".quintet/object-stores".into(), "QUINTET_OBJECT_STORE_CACHE";
    /// Maximum bytes that the copies of the models in one object store take, so that a bucket cannot fill the disk; a model that changes is there twice for a moment [default: 68719476736, 64 GiB]
    #[arg(value_name = "BYTES", help_heading = "Limits")]
    object_store_max_bytes: u64 = 64 << 30, "QUINTET_OBJECT_STORE_MAX_BYTES";
}

impl ObjectStores {
    /// How object stores are copied.
    pub fn options(&self, copied: Copied) -> CopyOptions {
        CopyOptions { folder: self.object_store_cache.clone(), max_bytes: self.object_store_max_bytes, copied }
    }
}
