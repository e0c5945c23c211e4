//! Measures the CPU time of this program, to find out whether the client is the bottleneck.

use std::{collections::BTreeMap, time::Duration};

/// CPU time of each live thread so far.
#[derive(Clone, Debug)]
pub struct CpuTimes(BTreeMap<u64, Duration>);

/// CPU time of this program between two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuSpent {
    /// Of all threads.
    pub total: Duration,
    /// Of the thread with the most: on many cores one busy thread delays requests while the sum is small.
    pub busiest: Duration,
}

/// CPU time of all live threads so far, from Linux's scheduler; `None` on other systems.
pub fn process_cpu() -> Option<CpuTimes> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?.flatten();
    // A thread that ends in between is left out.
    let time = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let nanoseconds = text.split(' ').next()?.parse().ok()?;
        Some((thread.file_name().to_str()?.parse().ok()?, Duration::from_nanos(nanoseconds)))
    };
    let times: BTreeMap<u64, Duration> = threads.filter_map(time).collect();
    (!times.is_empty()).then_some(CpuTimes(times))
}

/// CPU time between two readings.
pub fn spent(before: Option<CpuTimes>, after: Option<CpuTimes>) -> Option<CpuSpent> {
    let (CpuTimes(before), CpuTimes(after)) = (before?, after?);
    let of = |(thread, time): (&u64, &Duration)| time.saturating_sub(before.get(thread).copied().unwrap_or_default());
    let threads: Vec<Duration> = after.iter().map(of).collect();
    Some(CpuSpent { total: threads.iter().sum(), busiest: threads.into_iter().max().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn work_takes_cpu_time() {
        let before = process_cpu();
        let mut x = 1_u64;
        let busy = || spent(before.clone(), process_cpu()).unwrap();
        while busy().busiest < Duration::from_millis(1) {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(busy().total >= busy().busiest.min(Duration::from_millis(1)));
    }

    #[test]
    fn the_busiest_thread_is_known_beside_the_sum() {
        let times = |ms: [u64; 3]| Some(CpuTimes((1..).zip(ms.map(Duration::from_millis)).collect()));
        let spent = spent(times([10, 20, 0]), times([15, 120, 5])).unwrap();
        assert_eq!((spent.total.as_millis(), spent.busiest.as_millis()), (110, 100));
    }
}
