//! The memory for requests: how much it is by default, and unused buffers that are given back.

use std::{
    fs,
    time::{Duration, Instant},
};

use quintet_engine::{Budget, BufferPool, budget::Bounds, buffer::ALIGNMENT};

use super::settings::Memory;

/// How often pools without traffic give back the buffers that nobody uses.
const TRIM_INTERVAL: Duration = Duration::from_secs(15);

/// The budget of the process, for bodies of at most `largest_body` bytes.
pub fn budget(memory: &Memory, largest_body: usize) -> Budget {
    let bytes = match memory.max_memory_bytes {
        0 => memory_bytes().map_or(usize::MAX, |bytes| bytes / 2),
        bytes => bytes,
    };
    Budget::new(Bounds {
        bytes,
        largest_body: largest_body.saturating_add(ALIGNMENT),
        wait: Duration::from_secs(memory.memory_wait_secs),
        flag: "--max-memory-bytes",
    })
}

/// A pool of the process that gives back the buffers that nobody uses, also without traffic.
pub fn pool(max_idle_bytes: usize, budget: Budget) -> BufferPool {
    let pool = BufferPool::within(max_idle_bytes, budget);
    let trimmed = pool.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(TRIM_INTERVAL).await;
            trimmed.trim(Instant::now());
        }
    });
    pool
}

/// The memory of the machine, or of this process's control group if that is less; `None` if neither is known.
fn memory_bytes() -> Option<usize> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let group = group.into_iter().find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    machine.into_iter().chain(group).min()
}

/// Bytes of `MemTotal` in `/proc/meminfo`.
fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_memory_of_the_machine() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
        assert_eq!(total(""), None);
        assert!(memory_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn the_flag_is_the_budget() {
        let memory = Memory { max_memory_bytes: 1000, ..Memory::default() };
        assert_eq!((budget(&memory, 300).bytes(), budget(&memory, 300).largest()), (1000, 364));
        assert_eq!(budget(&memory, 10_000).largest(), 500);
    }
}
