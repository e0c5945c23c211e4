//! From requests to batches and back: when to run a batch ([`decision`]), which requests wait and run
//! ([`scheduler`], [`queue`]), and how their rows are joined and split ([`gather`]).

pub mod decision;
pub mod gather;
pub mod queue;
mod response_order;
pub mod scheduler;
