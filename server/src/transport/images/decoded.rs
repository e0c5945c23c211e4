//! The first half of every request with images: body, images, tensors, the model's inputs.

use std::{sync::Arc, time::Instant};

use axum::extract::Request;
use bytes::Bytes;
use quintet_engine::{AdmissionError, ErrorKind, InferError, Mismatch, Model, SentInput, Stage, StageTimings};
use quintet_proto::rest;

use super::{
    intake::{self, Form},
    lane::Lane,
};
use crate::{
    image_input::{ImageInput, Target},
    transport::{
        http1::{body, plain},
        kserve_json::sent_inputs,
    },
};

/// A request whose images are tensors.
pub(super) struct Decoded {
    /// The model that is asked.
    pub(super) model: Arc<Model>,
    /// When the first byte was received.
    pub(super) started: Instant,
    /// Stage times so far.
    pub(super) timings: StageTimings,
    /// The images in batches, in their order: the number of images and their tensor.
    pub(super) batches: Vec<(usize, Bytes)>,
    input: ImageInput,
    others: Option<Bytes>,
}

/// How many runs of the model a request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    /// As many as its images need.
    Any,
    /// One.
    One,
}

impl Lane {
    /// Receives a request and decodes its images, of which the model takes as many as `runs` allows. `asked` checks before
    /// what the request asks for. Nothing runs unless all images can be decoded.
    ///
    /// # Errors
    /// Those of receiving, `asked` and decoding; [`ErrorKind::Unsupported`] for a model without images.
    pub(super) async fn decode<T>(
        &self,
        request: Request,
        form: Option<Form>,
        runs: Runs,
        asked: impl FnOnce(&Model) -> Result<T, InferError>,
    ) -> Result<(Decoded, T), InferError> {
        let (catalog, limits) = (self.service.catalog(), self.service.catalog().limits());
        let (head, sent) = request.into_parts();
        let started = plain::arrived(&head.extensions);
        let body = body::receive(&head.headers, sent, 0, limits.max_input, catalog.pool()).await?;
        let received = Instant::now();
        let mut timings = StageTimings::default();
        timings[Stage::Receive] = received - started;

        let model = self.model()?;
        let prepare = async {
            let asked = asked(&model)?;
            let input = self.image_input(&model)?;
            let max = input.max_images();
            let form = form.unwrap_or_else(|| intake::form_of(&head, &body));
            let sent = intake::read(form, head, body, limits.max_images).await?;
            // What is sent beside the images is for one run, too.
            if (runs == Runs::One || sent.others.is_some()) && sent.images.len() > max {
                return Err(refusal(&model, Mismatch::BatchTooLarge { max }));
            }
            let target = Target { input: input.clone(), max_batch_size: max, max_pixels: limits.max_image_pixels };
            let batches = catalog.decoder().decode(sent.images, target, catalog.pool()).await?;
            Ok((asked, input, sent.others, batches))
        };
        let prepared: Result<_, InferError> = prepare.await;
        let (asked, input, others, batches) = prepared.inspect_err(|error| model.refused(error.kind()))?;
        timings[Stage::Parse] = received.elapsed();
        Ok((Decoded { model, started, timings, batches, input, others }, asked))
    }

    /// The other inputs of a request.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for what is no array of KServe's input tensors.
    pub(super) fn others<'a>(&self, decoded: &'a Decoded) -> Result<Vec<rest::InferInput<'a>>, InferError> {
        let Some(text) = &decoded.others else { return Ok(Vec::new()) };
        serde_json::from_slice(text).map_err(|error| {
            decoded.model.refused(ErrorKind::InvalidInput);
            InferError::invalid(format_args!("failed to parse \"inputs\", an array of KServe's input tensors: {error}"))
        })
    }

    /// The inputs of a run: a batch of images, and `others`. Optional inputs may be left out.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for wrong tensors among the others.
    pub(super) fn inputs<'a>(
        &self,
        decoded: &'a Decoded,
        (images, data): (usize, Bytes),
        others: &'a [rest::InferInput<'_>],
    ) -> Result<Vec<SentInput<'a>>, InferError> {
        let Decoded { model, input, .. } = decoded;
        let named = model.spec().inputs().get(input.index());
        let name = &named.ok_or_else(|| InferError::internal("the model has no input for images"))?.name;
        let memory = self.service.shared_memory();
        let mut inputs = sent_inputs(others, &Bytes::new(), model.spec().name(), memory)
            .inspect_err(|error| model.refused(error.kind()))?;
        let shape = input.shape(images).dims().iter().map(|&dim| dim as i64).collect();
        inputs.push(SentInput { name, data_type: Some(input.data_type()), shape, data });
        Ok(inputs)
    }
}

fn refusal(model: &Model, mismatch: Mismatch) -> InferError {
    let error = AdmissionError { request: String::new(), model: model.spec().name().to_owned(), mismatch };
    InferError::from(Box::new(error))
}
