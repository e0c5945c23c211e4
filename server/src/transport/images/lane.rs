//! What the routes of the jpeg lane share.

use std::sync::Arc;

use quintet_engine::{ErrorKind, InferError, Model};

use super::decode::Decoder;
use crate::{kserve::message, service::Service};

/// What the routes share.
pub(super) struct Lane {
    pub(super) service: Arc<Service>,
    /// The name of the model that the lane serves.
    pub(super) model: String,
    pub(super) decoder: Decoder,
}

impl Lane {
    /// The model that the lane serves.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] while it is not in service.
    pub(super) fn model(&self) -> Result<Arc<Model>, InferError> {
        let registry = self.service.catalog().registry();
        registry.resolve(&self.model, None).map_err(|error| {
            // No path names it: that it is not there is not the client's mistake.
            let known = registry.index().iter().any(|(name, ..)| *name == self.model);
            let words = match known {
                true => message::of(&error.into()).into_owned(),
                false => format!("model '{}' is not loaded yet", self.model),
            };
            InferError::new(ErrorKind::Unavailable, words)
        })
    }
}
