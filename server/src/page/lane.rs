//! The lanes that the page asks: where each listens, and which of its models takes which payload.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use quintet_engine::{DataType, ErrorKind, InferError, Model};

use crate::{image_input::ImageInput, kserve::message, service::Service};

/// What a lane speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Images over HTTP/1.1.
    Images,
    /// KServe over HTTP/1.1.
    KserveHttp,
    /// KServe over gRPC.
    KserveGrpc,
}

/// The form in which a photograph is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// The file as it is; most are JPEG.
    Jpeg,
    /// The pixels of the model's input.
    Uint8,
    /// The numbers of the model's input.
    Fp32,
}

impl Payload {
    pub(super) const ALL: [Self; 3] = [Self::Jpeg, Self::Uint8, Self::Fp32];

    /// Its name in requests and answers.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Uint8 => "uint8",
            Self::Fp32 => "fp32",
        }
    }
}

/// A lane of this server.
pub struct Lane {
    /// Its name, e.g. `onnx-grpc`.
    pub name: &'static str,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its service.
    pub service: Arc<Service>,
    /// The models that it serves, by preference.
    pub models: Vec<String>,
    /// Where it listens, once it is bound.
    pub bound: Arc<OnceLock<SocketAddr>>,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// A model that takes a payload.
pub(super) struct Taker {
    pub(super) model: Arc<Model>,
    pub(super) input: ImageInput,
}

impl Lane {
    /// The form in which this lane gets a photograph for which `wanted` is asked: the jpeg lane takes files only.
    pub(super) fn payload(&self, wanted: Payload) -> Payload {
        if self.protocol == Protocol::Images { Payload::Jpeg } else { wanted }
    }

    /// The first model in service that takes this payload.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if no model is in service, [`ErrorKind::Unsupported`] if none takes the payload.
    pub(super) fn taker(&self, payload: Payload) -> Result<Taker, InferError> {
        let catalog = self.service.catalog();
        let mut refusal = None;
        for name in &self.models {
            let model = match catalog.registry().resolve(name, None) {
                Ok(model) => model,
                Err(error) => {
                    refusal = refusal.or(Some(message::for_client(&error.into()).into_owned()));
                    continue;
                }
            };
            if let Some(input) = catalog.image_input(&model)
                && self.takes(&input, payload)
            {
                return Ok(Taker { model, input });
            }
        }
        match refusal {
            Some(reason) => Err(InferError::new(ErrorKind::Unavailable, reason)),
            None => Err(InferError::new(
                ErrorKind::Unsupported,
                format_args!(
                    "no model of the lane {} takes {}: it serves {} (quintet-models build --variants fp32,u8 writes models for both)",
                    self.name,
                    payload.name().to_uppercase(),
                    self.models.join(", ")
                ),
            )),
        }
    }

    fn takes(&self, input: &ImageInput, payload: Payload) -> bool {
        match payload {
            // KServe's lanes decode images only for a model that says how.
            Payload::Jpeg => self.protocol == Protocol::Images || input.is_known(),
            Payload::Uint8 => input.data_type() == DataType::Uint8,
            Payload::Fp32 => input.data_type() == DataType::Fp32,
        }
    }
}
