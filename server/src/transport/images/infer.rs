//! Carries out the requests with images: body, images, batches, model, JSON.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    response::Response,
};
use futures_util::future::try_join_all;
use http::Uri;
use quintet_engine::{InferError, InferRequest, OutputSet, Stage, StageTimings, Tensor};

use super::{
    answer,
    intake::{self, Form},
    lane::Lane,
    outcome::Outcome,
    output,
};
use crate::{
    image_input::Target,
    observe::metrics,
    transport::http1::{body, plain, reply::Failure},
};

/// The number of classes of an image if the request does not say.
const DEFAULT_CLASSES: usize = 5;

/// `POST /embed`: embeddings of a body in any form.
pub(super) async fn embed(State(lane): State<Arc<Lane>>, request: Request) -> Result<Response, Failure> {
    respond(&lane, request, None, "embedding", answer::embeddings).await
}

/// `POST /embed/base64`: embeddings of a JSON body; the content type is ignored.
pub(super) async fn embed_base64(State(lane): State<Arc<Lane>>, request: Request) -> Result<Response, Failure> {
    respond(&lane, request, Some(Form::Json), "embedding", answer::embeddings).await
}

/// `POST /embed/batch`: embeddings of multipart files.
pub(super) async fn embed_batch(State(lane): State<Arc<Lane>>, request: Request) -> Result<Response, Failure> {
    respond(&lane, request, Some(Form::Multipart), "embedding", answer::embeddings).await
}

/// `POST /classify[?k=5]`: the top classes of a body in any form.
pub(super) async fn classify(State(lane): State<Arc<Lane>>, request: Request) -> Result<Response, Failure> {
    let classes = classes(request.uri())?;
    respond(&lane, request, None, "logits", |outcome| answer::classifications(outcome, classes)).await
}

/// The number of classes that `?k=` asks for.
fn classes(uri: &Uri) -> Result<usize, InferError> {
    let mut pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    match pairs.find(|(name, _)| *name == "k") {
        None => Ok(DEFAULT_CLASSES),
        Some((_, text)) => {
            text.parse().ok().filter(|&classes| classes > 0).ok_or_else(|| {
                InferError::invalid(format_args!("k must be a whole number of at least 1, got '{text}'"))
            })
        }
    }
}

/// Runs the model on the images of a request, and writes one of its outputs.
async fn respond(
    lane: &Lane,
    request: Request,
    form: Option<Form>,
    output: &str,
    write: impl FnOnce(Outcome) -> Result<Response, InferError>,
) -> Result<Response, Failure> {
    let started = plain::arrived(request.extensions());
    let response = write(run(lane, request, form, output).await?)?;
    lane.service.catalog().answers().record(metrics::Protocol::Http, started.elapsed());
    Ok(response)
}

/// Runs the model on the images of a request, for one of its outputs. The model runs only if all images can be decoded.
async fn run(lane: &Lane, request: Request, form: Option<Form>, output: &str) -> Result<Outcome, InferError> {
    let (service, limits) = (&lane.service, lane.service.catalog().limits());
    let (head, sent) = request.into_parts();
    let started = plain::arrived(&head.extensions);
    let body = body::receive(&head.headers, sent, 0, limits.max_input, service.catalog().pool()).await?;
    let received = Instant::now();
    let mut timings = StageTimings::default();
    timings[Stage::Receive] = received - started;

    let model = lane.model()?;
    let spec = model.spec();
    let prepare = async {
        let (output, _) = output::named(spec, output)?;
        let input = lane.image_input(&model)?;
        let target =
            Target { input: input.clone(), max_batch_size: input.max_images(), max_pixels: limits.max_image_pixels };
        let form = form.unwrap_or_else(|| intake::form_of(&head, &body));
        let images = intake::images(form, head, body, limits.max_images).await?;
        let batches = service.catalog().decoder().decode(images, target, service.catalog().pool()).await?;
        let requests = batches.into_iter().map(|(rows, data)| {
            let tensor = Tensor::new(input.data_type(), input.shape(rows), data).map_err(InferError::internal)?;
            // The required input takes the images; optional inputs keep their defaults.
            let inputs: Vec<_> = spec.inputs().iter().map(|input| (!input.optional).then(|| tensor.clone())).collect();
            Ok((rows, inputs))
        });
        Ok((output, requests.collect::<Result<Vec<_>, InferError>>()?))
    };
    let prepared: Result<_, InferError> = prepare.await;
    let (output, batches) = prepared.inspect_err(|error| model.refused(error.kind()))?;
    timings[Stage::Parse] = received.elapsed();

    let requests = batches.into_iter().map(|(rows, inputs)| {
        let outputs = OutputSet::NONE.with(output);
        let request = InferRequest { timings, ..InferRequest::new(started, inputs, rows, outputs) };
        let model = &model;
        async move { Ok::<_, InferError>((rows, model.infer(request).await?)) }
    });
    let mut batches = Vec::new();
    for (rows, mut response) in try_join_all(requests).await? {
        let (_, tensor) = response.outputs.pop().ok_or_else(|| InferError::internal("the model returned no output"))?;
        // The batches ran side by side: the stage times of the request are those of the slowest.
        timings = std::cmp::max_by_key(timings, response.timings, total);
        batches.push((rows, tensor));
    }
    Ok(Outcome { model, output, batches, timings })
}

fn total(timings: &StageTimings) -> std::time::Duration {
    timings.iter().map(|(_, time)| time).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_number_of_classes() {
        let read = |uri: &'static str| classes(&Uri::from_static(uri)).map_err(|error| error.to_string());
        assert_eq!((read("/classify"), read("/classify?a&x=2&k=3")), (Ok(5), Ok(3)));
        for bad in ["/classify?k=0", "/classify?k=", "/classify?k=-1", "/classify?k=many"] {
            assert!(read(bad).unwrap_err().starts_with("k must be a whole number of at least 1, got '"), "{bad}");
        }
    }
}
