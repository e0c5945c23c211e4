//! The state that the routes of the jpeg lane share.

use std::sync::Arc;

use quintet_engine::{ErrorKind, InferError, Model};

use crate::{
    image_input::{ImageInput, takes_no_images},
    kserve::message,
    service::Service,
};

/// The state of the jpeg lane.
pub(super) struct Lane {
    pub(super) service: Arc<Service>,
    /// The name of the model that the lane serves.
    pub(super) model: String,
}

impl Lane {
    /// The model that the lane serves.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] while the model is not in service.
    pub(super) fn model(&self) -> Result<Arc<Model>, InferError> {
        let registry = self.service.catalog().registry();
        registry.resolve(&self.model, None).map_err(|error| {
            // The request does not name the model, so a missing model is not the client's mistake.
            let known = registry.index().iter().any(|(name, ..)| *name == self.model);
            let text = match known {
                true => message::for_client(&error.into()).into_owned(),
                false => format!("model '{}' is not loaded yet", self.model),
            };
            InferError::new(ErrorKind::Unavailable, text)
        })
    }

    /// How the model takes images.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a model that does not take them.
    pub(super) fn image_input(&self, model: &Model) -> Result<ImageInput, InferError> {
        self.service.catalog().image_input(model).ok_or_else(|| takes_no_images(model.spec()))
    }
}
