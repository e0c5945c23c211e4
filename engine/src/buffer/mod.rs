//! A pool of aligned buffers: a fresh buffer of a tensor's size costs a page fault for each 4 KiB.

mod filling;
mod idle;
mod memory;
mod pool;

pub use self::{
    filling::Filling,
    memory::{ALIGNMENT, Block, Source},
    pool::{Buffer, BufferPool},
};
