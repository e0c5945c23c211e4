//! Encoded images in a call, as OpenVINO Model Server takes them: BYTES `[N]` in place of the FP32 or UINT8 tensor of N
//! images that the model has as its input.

use std::{pin::Pin, time::Instant};

use quintet_engine::{
    AdmissionError, DataType, ErrorKind, InferError, Mismatch, Model, ModelSpec, SentInput, Stage, TensorError,
};
use quintet_proto::elements;
use tokio::time::timeout_at;

use super::{call::Call, message};
use crate::{
    catalog::Catalog,
    image_input::{Image, ImageInput, PREPROCESS, Target, seems_image},
};

/// Whether a call has BYTES for an input of another type.
pub(super) fn are_in(call: &Call<'_>, spec: &ModelSpec) -> bool {
    position(call, spec).is_some()
}

/// The first input of BYTES that the model takes as another type. With more inputs than the model has there is none:
/// admission refuses such a call, at a cost that does not grow with them.
fn position(call: &Call<'_>, spec: &ModelSpec) -> Option<usize> {
    if call.inputs.len() > spec.inputs().len() {
        return None;
    }
    let is_other = |sent: &SentInput<'_>| {
        let named = spec.inputs().iter().find(|input| input.name == sent.name);
        named.is_some_and(|input| input.data_type != DataType::Bytes)
    };
    call.inputs.iter().position(|sent| sent.data_type == Some(DataType::Bytes) && is_other(sent))
}

/// Replaces the encoded images in a call by the tensor that they become. Their time is added to [`Stage::Parse`]. Boxed,
/// so that calls without images do not have room for it.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a model or a shape without images and for an image that cannot be decoded,
/// [`ErrorKind::TooLarge`] for too many pixels or images, [`ErrorKind::QueueFull`], [`ErrorKind::NoMemory`], and
/// [`InferError::DeadlineExceeded`]. An error of an image has its name: `input[3]`.
pub(super) fn prepare<'a>(
    catalog: &'a Catalog,
    model: &'a Model,
    call: &'a mut Call<'_>,
) -> Pin<Box<dyn Future<Output = Result<(), InferError>> + Send + 'a>> {
    Box::pin(async move {
        let started = Instant::now();
        let Some(at) = position(call, model.spec()) else { return Ok(()) };
        let Some(input) = input_for(catalog, model, &call.inputs[at], call.id)? else { return Ok(()) };
        let limits = catalog.limits();
        let images = read(model.spec(), &input, &call.inputs[at], call.id, limits.max_images)?;
        let count = images.len();
        let target = Target { input: input.clone(), max_batch_size: count, max_pixels: limits.max_image_pixels };
        let decoding = catalog.decoder().decode(images, target, catalog.pool());
        let batches = match call.deadline {
            // A timeout drops the decoding, which cancels it.
            Some(deadline) => {
                timeout_at(deadline.into(), decoding).await.unwrap_or(Err(InferError::DeadlineExceeded))?
            }
            None => decoding.await?,
        };
        let batch = batches.into_iter().next();
        let (_, data) = batch.ok_or_else(|| InferError::internal("the decoder returned no images"))?;
        let sent = &mut call.inputs[at];
        sent.data_type = Some(input.data_type());
        sent.shape = input.shape(count).dims().iter().map(|&dim| dim as i64).collect();
        sent.data = data;
        call.timings[Stage::Parse] += started.elapsed();
        Ok(())
    })
}

/// The form in which a model takes encoded images, for the headers of its metadata; `None` if it takes none.
pub fn describe_images(catalog: &Catalog, model: &Model) -> Option<String> {
    let input = catalog.image_input(model).filter(ImageInput::is_known)?;
    let name = &model.spec().inputs().get(input.index())?.name;
    Some(format!("{name} BYTES [-1]: {}", input.description()))
}

/// How the model takes images in this input; `None` if it has nothing to do with images, which admission refuses in
/// Triton's words.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for an input that could be one of images, but nothing says how they are prepared.
fn input_for(
    catalog: &Catalog,
    model: &Model,
    sent: &SentInput<'_>,
    id: &str,
) -> Result<Option<ImageInput>, InferError> {
    let spec = model.spec();
    let Some((index, tensor)) = spec.inputs().iter().enumerate().find(|(_, input)| input.name == sent.name) else {
        return Ok(None);
    };
    let input = catalog.image_input(model).filter(|input| input.is_known() && input.index() == index);
    if input.is_some() || !seems_image(spec, tensor) {
        return Ok(input);
    }
    let (input, got) = (sent.name.to_owned(), sent.data_type);
    let refusal = refusal(spec, id, Mismatch::DataType { input, got, expected: tensor.data_type });
    Err(InferError::invalid(format_args!(
        "{}; to send encoded images, set parameters[\"{PREPROCESS}\"] in its config.pbtxt to torchvision, crop, stretch \
         or letterbox",
        message::for_client(&refusal)
    )))
}

/// The images of an input, of which there may be as many as the model and `max_images` allow.
fn read(
    spec: &ModelSpec,
    input: &ImageInput,
    sent: &SentInput<'_>,
    id: &str,
    max_images: usize,
) -> Result<Vec<Image>, InferError> {
    let count = match sent.shape[..] {
        [count] | [count, 1] => usize::try_from(count).ok(),
        _ => None,
    };
    let count = count.ok_or_else(|| {
        InferError::invalid(format_args!(
            "input '{}' of model '{}' takes encoded images as BYTES [N] or [N,1], not {:?}",
            sent.name,
            spec.name(),
            sent.shape
        ))
    })?;
    let max = input.max_images();
    match count {
        0 => return Err(refusal(spec, id, Mismatch::EmptyBatch)),
        _ if count > max => return Err(refusal(spec, id, Mismatch::BatchTooLarge { max })),
        _ if count > max_images => {
            return Err(InferError::new(
                ErrorKind::TooLarge,
                format_args!("{count} images in one request, over the limit of {max_images} (--max-images)"),
            ));
        }
        _ => {}
    }
    let wrong = |error| refusal(spec, id, Mismatch::Data { input: sent.name.to_owned(), error });
    let got = elements::count(&sent.data).map_err(|error| wrong(TensorError::Element(error)))?;
    if got != count {
        return Err(wrong(TensorError::ElementCount { expected: count, got }));
    }
    let image =
        |(index, element): (usize, &[u8])| Image::file(format!("{}[{index}]", sent.name), sent.data.slice_ref(element));
    Ok(elements::iter(&sent.data).flatten().enumerate().map(image).collect())
}

fn refusal(spec: &ModelSpec, id: &str, mismatch: Mismatch) -> InferError {
    let error = AdmissionError { request: id.to_owned(), model: spec.name().to_owned(), mismatch };
    InferError::from(Box::new(error))
}
