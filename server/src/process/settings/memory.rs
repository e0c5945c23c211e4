//! Settings of the memory that requests may hold.

settings! {
    MemoryFlags {}
    Memory {}
    defaults {}
    /// Bytes of memory that all requests may hold together (bodies, decompressed and decoded data, tensors, answers), so that clients cannot use up the machine's; further bodies wait, then get 503 [default: 0, half of the memory of the machine or of its control group]
    #[arg(value_name = "BYTES", help_heading = "Limits")]
    max_memory_bytes: usize = 0, "QUINTET_MAX_MEMORY_BYTES";
    /// Seconds that a body waits for memory before it gets 503, so that waiting has an end [default: 10]
    #[arg(value_name = "SECONDS", help_heading = "Limits")]
    memory_wait_secs: u64 = 10, "QUINTET_MEMORY_WAIT_SECS";
}
