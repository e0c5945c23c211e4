//! What the operating system says of this process.

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command},
    time::Duration,
};

/// The threads by name, but for the runtime's, which come and go.
pub fn threads() -> BTreeMap<String, usize> {
    let mut threads = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        // A thread may end meanwhile.
        let Ok(name) = fs::read_to_string(task.unwrap().path().join("comm")) else { continue };
        if !name.starts_with("tokio") {
            *threads.entry(name.trim().to_owned()).or_default() += 1;
        }
    }
    threads
}

/// Resident memory in bytes.
pub fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Stops this process for a while, so that all its clocks jump at once, as when a virtual machine is suspended. The child does
/// it.
pub fn pause(duration: Duration) -> Child {
    let process = std::process::id();
    let script = format!("kill -STOP {process}; sleep {}; kill -CONT {process}", duration.as_secs_f64());
    Command::new("sh").args(["-c", &script]).spawn().unwrap()
}
