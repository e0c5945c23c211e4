//! The jpeg lane from request to response, with real images.

mod classify;
mod embed;
mod info;
mod refusals;
mod support;
