//! From requests to batches and back: when to run a batch ([`decision`]), which requests wait and run
//! ([`scheduler`], [`queue`]; under overload, [`overload`]), and how their rows are joined and split ([`gather`]).

pub mod decision;
pub mod gather;
mod overload;
pub mod queue;
mod response_order;
pub mod scheduler;
