//! Makes the C library's allocator keep the memory of large buffers.

/// Blocks below this size are never mapped for one use alone; the most that glibc takes.
const MAP_FROM_BYTES: i32 = 32 << 20;
/// Free memory at the end of a heap that is not given back.
const KEEP_BYTES: i32 = 256 << 20;

/// By default glibc maps a large block anew and gives it back when it is freed: a page fault for each 4 KiB, with
/// every tensor that a library allocates. Whether the allocator took both settings; others have none.
pub fn keep_large_buffers() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let set = |parameter, value| {
            // SAFETY: mallopt takes any numbers, and only sets a parameter of the allocator under its own lock.
            unsafe { libc::mallopt(parameter, value) == 1 }
        };
        set(libc::M_MMAP_THRESHOLD, MAP_FROM_BYTES) && set(libc::M_TRIM_THRESHOLD, KEEP_BYTES)
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn glibc_takes_the_settings() {
        assert!(super::keep_large_buffers());
    }
}
