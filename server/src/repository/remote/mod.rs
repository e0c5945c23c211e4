//! Repositories in object stores: each has a copy on disk, which the rest of this layer reads as any folder.
//!
//! A model is listed, its new and changed objects are written to a folder beside the copy, and it is listed again. If nothing
//! changed meanwhile, the folder takes the place of the model's. So the copy of a model has the objects of one moment, each of
//! them whole. Objects that an upload has not brought yet are no part of that moment.

#[cfg(not(feature = "object-stores"))]
mod absent;
mod address;
#[cfg(feature = "object-stores")]
mod connect;
#[cfg(feature = "object-stores")]
mod copies;
mod error;
#[cfg(feature = "object-stores")]
mod http;
#[cfg(feature = "object-stores")]
mod listing;
#[cfg(feature = "object-stores")]
mod mirror;
mod options;
#[cfg(feature = "object-stores")]
mod reason;
mod roots;

pub use self::{
    error::RemoteError,
    options::{Copied, CopyOptions},
    roots::Roots,
};
