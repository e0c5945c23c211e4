//! From requests to batches and back: when to run ([`policy`]), who waits and runs ([`lines`],
//! [`queue`]), and how rows are put together and taken apart ([`gather`]).

pub mod gather;
pub mod lines;
mod order;
pub mod policy;
pub mod queue;
