//! Measures the CPU time of this program, to find out whether the client is the bottleneck.

use std::time::Duration;

/// CPU time of all live threads so far, from Linux's scheduler; `None` on other systems.
pub fn process_cpu() -> Option<Duration> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?.flatten();
    // A thread that ends in between is left out.
    let times = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok());
    times.map(|text| text.split(' ').next()?.parse().ok().map(Duration::from_nanos)).sum()
}

/// CPU time between two readings.
pub fn spent(before: Option<Duration>, after: Option<Duration>) -> Option<Duration> {
    Some(after?.saturating_sub(before?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn work_takes_cpu_time() {
        let before = process_cpu();
        let mut x = 1_u64;
        while spent(before, process_cpu()).unwrap() < Duration::from_millis(1) {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(process_cpu() > before);
    }
}
