//! Carries out the requests with images: the model's runs on them, and the answer.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};
use futures_util::future::try_join_all;
use quintet_engine::{InferError, InferRequest, Model, OutputSet, StageTimings};

use super::{answer, decoded::Runs, intake::Form, lane::Lane, outcome::Outcome, query};
use crate::{
    image_output::ImageOutput,
    kserve::{self, Call, WantedOutput},
    observe::metrics,
    transport::{
        encoding::Encoding,
        http1::{
            plain,
            reply::{self, Failure},
        },
        kserve_json::{self, OutputForm},
    },
};

/// `POST /embed`: embeddings of a body in any form.
pub(super) async fn embed(State(lane): State<Arc<Lane>>, request: Request) -> Result<Response, Failure> {
    respond(&lane, request, None, ImageOutput::Embedding, answer::embeddings).await
}

/// `POST /embed/base64`: embeddings of a JSON body; the content type is ignored.
pub(super) async fn embed_base64(State(lane): State<Arc<Lane>>, request: Request) -> Result<Response, Failure> {
    respond(&lane, request, Some(Form::Json), ImageOutput::Embedding, answer::embeddings).await
}

/// `POST /embed/batch`: embeddings of multipart files.
pub(super) async fn embed_batch(State(lane): State<Arc<Lane>>, request: Request) -> Result<Response, Failure> {
    respond(&lane, request, Some(Form::Multipart), ImageOutput::Embedding, answer::embeddings).await
}

/// `POST /classify[?k=5]`: the top classes of a body in any form.
pub(super) async fn classify(State(lane): State<Arc<Lane>>, request: Request) -> Result<Response, Failure> {
    let classes = query::classes(request.uri())?;
    respond(&lane, request, None, ImageOutput::Logits, |outcome| answer::classifications(outcome, classes)).await
}

/// `POST /infer[?outputs=a,b]`: the model's outputs for a body in any form, as KServe answers.
pub(super) async fn infer(State(lane): State<Arc<Lane>>, request: Request) -> Result<Response, Failure> {
    let started = plain::arrived(request.extensions());
    let (names, is_binary) = (query::outputs(request.uri())?, query::is_binary(request.uri())?);
    let accepted = Encoding::for_response(request.headers());
    let known = |model: &Model| {
        model.spec().select_outputs("", names.iter().map(String::as_str)).map(|_| ()).map_err(InferError::from)
    };
    let (mut decoded, ()) = lane.decode(request, None, Runs::One, known).await?;
    let batch = decoded.batches.pop().ok_or_else(|| InferError::internal("the decoder returned no images"))?;
    let others = lane.others(&decoded)?;
    let wanted = |name| WantedOutput { name, classes: None, shared: None };
    let call = Call {
        id: "",
        inputs: lane.inputs(&decoded, batch, &others)?,
        outputs: names.iter().map(String::as_str).map(wanted).collect(),
        priority: 0,
        timeout: None,
        deadline: None,
        started: decoded.started,
        timings: decoded.timings,
    };
    let answered = kserve::infer(lane.service.catalog(), Arc::clone(&decoded.model), call, None).await?;
    let form = if is_binary { OutputForm::all_binary() } else { OutputForm::all_json() };
    let response = kserve_json::answer(answered, "", form, accepted, &lane.service).await?;
    lane.service.catalog().answers().record(metrics::Protocol::Http, started.elapsed());
    Ok(reply::with_placement(response, decoded.model.placement()))
}

/// Runs the model on the images of a request, and writes one of its outputs.
async fn respond(
    lane: &Lane,
    request: Request,
    form: Option<Form>,
    output: ImageOutput,
    write: impl FnOnce(Outcome) -> Result<Response, InferError>,
) -> Result<Response, Failure> {
    let started = plain::arrived(request.extensions());
    let response = write(run(lane, request, form, output).await?)?;
    lane.service.catalog().answers().record(metrics::Protocol::Http, started.elapsed());
    Ok(response)
}

/// Runs the model on the images of a request, for one of its outputs.
async fn run(lane: &Lane, request: Request, form: Option<Form>, output: ImageOutput) -> Result<Outcome, InferError> {
    let asked = |model: &Model| Ok(lane.service.catalog().image_output(model, output)?.0);
    let (mut decoded, output) = lane.decode(request, form, Runs::Any, asked).await?;
    let batches = std::mem::take(&mut decoded.batches);
    let (model, mut timings) = (&decoded.model, decoded.timings);
    let others = lane.others(&decoded)?;
    let admit = |(images, data)| {
        let admitted =
            model.spec().admit("", lane.inputs(&decoded, (images, data), &others)?).map_err(InferError::from);
        let (inputs, rows) = admitted.inspect_err(|error| model.refused(error.kind()))?;
        let outputs = OutputSet::NONE.with(output);
        Ok((images, InferRequest { timings, ..InferRequest::new(decoded.started, inputs, rows, outputs) }))
    };
    let requests = batches.into_iter().map(admit).collect::<Result<Vec<_>, InferError>>()?;
    let runs = requests
        .into_iter()
        .map(|(images, request)| async move { Ok::<_, InferError>((images, model.infer(request).await?)) });
    let mut batches = Vec::new();
    for (images, mut response) in try_join_all(runs).await? {
        let (_, tensor) = response.outputs.pop().ok_or_else(|| InferError::internal("the model returned no output"))?;
        // The batches ran side by side: the stage times of the request are those of the slowest.
        timings = std::cmp::max_by_key(timings, response.timings, total);
        batches.push((images, tensor));
    }
    drop(others);
    Ok(Outcome { model: decoded.model, output, batches, timings })
}

fn total(timings: &StageTimings) -> std::time::Duration {
    timings.iter().map(|(_, time)| time).sum()
}
