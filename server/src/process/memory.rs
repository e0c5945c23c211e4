//! Makes the C library's allocator keep the memory of large buffers, and gives back what models without traffic used.

use std::time::Duration;

use crate::backend::onnx::release_idle;

/// Blocks below this size are never mapped separately. This is glibc's maximum.
const MAP_FROM_BYTES: i32 = 32 << 20;
/// Free memory at the end of a heap that is kept.
const KEEP_BYTES: i32 = 256 << 20;

/// Tells glibc to keep the memory of large blocks, and returns whether it accepted both settings (other allocators have
/// none). By default glibc maps each large block and unmaps it when it is freed, which costs a page fault for each 4 KiB
/// of every tensor that a library allocates.
pub fn keep_large_buffers() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let set = |parameter, value| {
            // SAFETY: mallopt accepts any numbers, and only sets a parameter of the allocator under its own lock.
            unsafe { libc::mallopt(parameter, value) == 1 }
        };
        set(libc::M_MMAP_THRESHOLD, MAP_FROM_BYTES) && set(libc::M_TRIM_THRESHOLD, KEEP_BYTES)
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}

/// A model that has no run for this long, and at most twice as long, gives back the memory that its runs used.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// Gives back the memory that the runs of models without traffic used, from time to time. Never returns.
pub async fn release_while_idle() {
    loop {
        tokio::time::sleep(IDLE_INTERVAL).await;
        if let Err(error) = tokio::task::spawn_blocking(release_idle).await {
            tracing::error!(%error, "cannot give back unused memory");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn glibc_accepts_the_settings() {
        assert!(super::keep_large_buffers());
    }
}
