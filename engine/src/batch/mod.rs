//! From requests to batches and back: when to run ([`decision`]), who waits and runs ([`scheduler`],
//! [`queue`]), and how rows are put together and taken apart ([`gather`]).

pub mod decision;
pub mod gather;
pub mod queue;
mod response_order;
pub mod scheduler;
