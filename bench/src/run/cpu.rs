//! Measures the CPU time of this program, to find out whether the client is the bottleneck, and what a hypervisor took.

use std::{collections::BTreeMap, time::Duration};

/// CPU time of each live thread, and jiffies of the machine, so far.
#[derive(Clone, Debug)]
pub struct CpuTimes {
    threads: BTreeMap<u64, Duration>,
    machine: Option<Jiffies>,
}

/// CPU time of the machine, in the kernel's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Jiffies {
    all: u64,
    /// Time in which a CPU was ready and the hypervisor ran another guest.
    steal: u64,
}

/// CPU time of this program between two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuSpent {
    /// Of all threads.
    pub total: Duration,
    /// Of the thread with the most: on many cores one busy thread delays requests while the sum is small.
    pub busiest: Duration,
    /// Share of the machine's CPU time that its hypervisor gave to other guests, where known.
    pub steal: Option<f64>,
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
    let machine = std::fs::read_to_string("/proc/stat").ok().and_then(|stat| jiffies(&stat));
    (!times.is_empty()).then_some(CpuTimes { threads: times, machine })
}

/// Reads the line `cpu  user nice system idle iowait irq softirq steal ...` of /proc/stat (proc_stat(5)); guest times are
/// included in user and nice.
fn jiffies(stat: &str) -> Option<Jiffies> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(Jiffies { all: times.iter().sum(), steal: *times.get(7)? })
}

/// CPU time between two readings.
pub fn spent(before: Option<CpuTimes>, after: Option<CpuTimes>) -> Option<CpuSpent> {
    let (before, after) = (before?, after?);
    let earlier = |thread: &u64| before.threads.get(thread).copied().unwrap_or_default();
    let of = |(thread, time): (&u64, &Duration)| time.saturating_sub(earlier(thread));
    let threads: Vec<Duration> = after.threads.iter().map(of).collect();
    let steal = before.machine.zip(after.machine).and_then(|(before, after)| {
        let all = after.all.checked_sub(before.all).filter(|&all| all > 0)?;
        Some(after.steal.saturating_sub(before.steal) as f64 / all as f64)
    });
    Some(CpuSpent { total: threads.iter().sum(), busiest: threads.into_iter().max().unwrap_or_default(), steal })
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
        let times = |ms: [u64; 3], stat: &str| {
            let threads = (1..).zip(ms.map(Duration::from_millis)).collect();
            Some(CpuTimes { threads, machine: jiffies(stat) })
        };
        let first = times([10, 20, 0], "cpu  10 0 10 70 0 0 0 10 5 0\ncpu0 1 2 3");
        let later = times([15, 120, 5], "cpu  50 0 10 120 0 0 0 20 5 0\n");
        let between = spent(first.clone(), later.clone()).unwrap();
        assert_eq!((between.total.as_millis(), between.busiest.as_millis()), (110, 100));
        assert_eq!(between.steal, Some(0.1), "10 of 100 ticks");
        assert_eq!(spent(first.clone(), first).unwrap().steal, None, "no tick has passed");
        assert_eq!(spent(times([0; 3], "intr 1"), later).unwrap().steal, None);
    }
}
