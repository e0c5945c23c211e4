//! The jpeg lane from request to response, with real images.

mod classify;
mod embed;
mod infer;
mod info;
mod refusals;
mod support;
