//! From requests to batches and back: when to run ([`policy`]), what waits ([`queue`]), and how rows
//! are put together and taken apart ([`gather`]).

pub mod gather;
pub mod policy;
pub mod queue;
