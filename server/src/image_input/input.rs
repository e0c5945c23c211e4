//! Which models take images, and how an image becomes the input of one.

use std::collections::HashMap;

use quintet_engine::{DataType, ErrorKind, InferError, ModelSpec, Shape, TensorSpec};
use quintet_preprocess::{
    ImageError, JpegDecode, Preparation,
    parameters::{INPUT, PREPROCESS, Stated, WrongParameter},
};
use quintet_proto::inference::ModelParameter;

/// The outputs of the models that `quintet-models` writes, which take images in their input `image`.
const OWN_INPUT: &str = "image";
const OWN_OUTPUTS: [&str; 2] = ["logits", "embedding"];

/// How images become an input of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageInput {
    index: usize,
    images: Images,
    preparation: Preparation,
    /// Whether the configuration says so, or the model is one of `quintet-models`.
    is_known: bool,
}

/// The dimension of images in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Images {
    /// The batch dimension, of at most this many images.
    Batch(usize),
    /// A dimension of the model's own, of one image.
    One,
    /// None.
    None,
}

impl Images {
    /// The dimension of images, and the other three dimensions; `None` for an input of another rank.
    fn of(spec: &ModelSpec, input: &TensorSpec) -> Option<(Self, [Option<usize>; 3])> {
        match (spec.batches(), &input.dims[..]) {
            (true, &[a, b, c]) => Some((Self::Batch(spec.policy().max_batch_size), [a, b, c])),
            (false, &[a, b, c]) => Some((Self::None, [a, b, c])),
            (false, &[None | Some(1), a, b, c]) => Some((Self::One, [a, b, c])),
            _ => None,
        }
    }
}

impl ImageInput {
    /// How a model with these parameters takes images; `None` if nothing says that it does. Without parameters it is
    /// what torchvision does, for a model whose one required input is FP32 `[3,224,224]` or UINT8 `[224,224,3]`. JPEGs are
    /// decoded as `jpeg_decode` unless the parameters say how.
    ///
    /// # Errors
    /// When the parameters do not fit the model.
    pub fn new(
        spec: &ModelSpec,
        parameters: &HashMap<String, ModelParameter>,
        jpeg_decode: JpegDecode,
    ) -> Result<Option<Self>, WrongParameter> {
        let value = |name: &str| parameters.get(name).map(|parameter| parameter.string_value.as_str());
        let stated = Stated::read(value)?;
        let Some((index, input)) = find(spec, value(INPUT))? else {
            let refusal =
                |_| Err(WrongParameter::preprocess(format!("needs a model with one required input, or '{INPUT}'")));
            return stated.map_or(Ok(None), refusal);
        };
        let found = match &stated {
            Some(stated) => Some(Self::stated(spec, index, input, stated)?),
            None => Self::assumed(spec, index, input),
        };
        let jpeg_decode = stated.and_then(|stated| stated.jpeg_decode()).unwrap_or(jpeg_decode);
        Ok(found.map(|found| Self { preparation: found.preparation.with_jpeg_decode(jpeg_decode), ..found }))
    }

    fn assumed(spec: &ModelSpec, index: usize, input: &TensorSpec) -> Option<Self> {
        let (images, dims) = Images::of(spec, input)?;
        let preparation = Preparation::torchvision(dims, in_levels(input)?)?;
        let is_known = input.name == OWN_INPUT
            && dims == preparation.dims().map(Some)
            && OWN_OUTPUTS.iter().all(|name| spec.outputs().iter().any(|output| output.name == *name));
        Some(Self { index, images, preparation, is_known })
    }

    fn stated(spec: &ModelSpec, index: usize, input: &TensorSpec, stated: &Stated) -> Result<Self, WrongParameter> {
        let shape = input.announced_shape(spec.batches());
        let described = format!("the input '{}' is {} {shape:?}", input.name, input.data_type);
        let (images, dims) = Images::of(spec, input).ok_or_else(|| {
            WrongParameter::preprocess(format!("needs an input of images with three dimensions each: {described}"))
        })?;
        let in_levels = in_levels(input)
            .ok_or_else(|| WrongParameter::preprocess(format!("needs an input of FP32 or UINT8: {described}")))?;
        let preparation = Preparation::stated(stated, dims, in_levels, &described)?;
        Ok(Self { index, images, preparation, is_known: true })
    }

    /// The index of the input in the model.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether the configuration says how images are prepared, or the model is one of `quintet-models`. Otherwise the
    /// shape of the input is all that is known.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// The element type.
    pub fn data_type(&self) -> DataType {
        if self.preparation.in_levels() { DataType::Uint8 } else { DataType::Fp32 }
    }

    /// The most images of one run.
    pub fn max_images(&self) -> usize {
        if let Images::Batch(max) = self.images { max.max(1) } else { 1 }
    }

    /// The shape of the input for this many images.
    pub fn shape(&self, images: usize) -> Shape {
        let first = (self.images != Images::None).then_some(images);
        Shape::new(first.into_iter().chain(self.preparation.dims()).collect::<Vec<_>>())
    }

    /// Bytes of one image.
    pub fn image_bytes(&self) -> usize {
        self.preparation.image_bytes()
    }

    /// Decodes and prepares an encoded image of at most `max_pixels` into `out`, of [`Self::image_bytes`]: a row of a buffer
    /// of the pool, which is aligned.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn prepare(&self, encoded: &[u8], max_pixels: u64, out: &mut [u8]) -> Result<(), ImageError> {
        self.preparation.prepare(encoded, max_pixels, out)
    }

    /// What is done with an image, for `/model-info` and the headers of metadata.
    pub fn description(&self) -> String {
        self.preparation.description()
    }
}

/// The input that takes images: the one that the parameter names, or else the only required one, if there is just one.
///
/// # Errors
/// When the model has no input of this name.
fn find<'a>(spec: &'a ModelSpec, named: Option<&str>) -> Result<Option<(usize, &'a TensorSpec)>, WrongParameter> {
    let mut inputs = spec.inputs().iter().enumerate();
    if let Some(name) = named {
        return inputs
            .find(|(_, input)| input.name == name)
            .map(Some)
            .ok_or_else(|| WrongParameter::input(format!("names no input: they are {}", describe_inputs(spec))));
    }
    let mut required = inputs.filter(|(_, input)| !input.optional);
    Ok(required.next().filter(|_| required.next().is_none()))
}

/// Whether an input takes levels; `None` if it takes neither these nor numbers.
fn in_levels(input: &TensorSpec) -> Option<bool> {
    match input.data_type {
        DataType::Fp32 => Some(false),
        DataType::Uint8 => Some(true),
        _ => None,
    }
}

/// Whether an input has the type and the dimensions of images, of any size.
pub fn seems_image(spec: &ModelSpec, input: &TensorSpec) -> bool {
    let is_three = |[first, _, last]: [Option<usize>; 3]| first == Some(3) || last == Some(3);
    matches!(input.data_type, DataType::Fp32 | DataType::Uint8)
        && Images::of(spec, input).is_some_and(|(_, dims)| is_three(dims))
}

/// The refusal of images for a model that does not take them.
pub fn takes_no_images(spec: &ModelSpec) -> InferError {
    InferError::new(
        ErrorKind::Unsupported,
        format_args!(
            "model '{}' does not take images: its inputs are {}, but it needs one required input, FP32 [3,224,224] or \
             UINT8 [224,224,3], or parameters[\"{PREPROCESS}\"] in its config.pbtxt",
            spec.name(),
            describe_inputs(spec)
        ),
    )
}

fn describe_inputs(spec: &ModelSpec) -> String {
    let inputs: Vec<_> = spec.inputs().iter().map(|input| describe(spec, input)).collect();
    inputs.join(", ")
}

/// `'x' FP32 [-1, 3, 224, 224]`
fn describe(spec: &ModelSpec, input: &TensorSpec) -> String {
    format!("'{}' {} {:?}", input.name, input.data_type, input.announced_shape(spec.batches()))
}

#[cfg(test)]
mod tests {
    use quintet_engine::BatchPolicy;

    use super::*;

    fn spec(data_type: DataType, dims: &[i64], max_batch_size: usize) -> ModelSpec {
        let dims: Vec<_> = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
        let policy = BatchPolicy { max_batch_size, ..BatchPolicy::default() };
        let output = TensorSpec::new("y", DataType::Fp32, [None]);
        ModelSpec::new("m", 1, vec![TensorSpec::new("x", data_type, dims)], vec![output], policy).unwrap()
    }

    fn read(spec: &ModelSpec, parameters: &[(&str, &str)]) -> Result<Option<ImageInput>, String> {
        let parameter =
            |(name, value): &(&str, &str)| ((*name).to_owned(), ModelParameter { string_value: (*value).to_owned() });
        let parameters = parameters.iter().map(parameter).collect();
        ImageInput::new(spec, &parameters, JpegDecode::Exact).map_err(|error| error.to_string())
    }

    fn described(spec: &ModelSpec, parameters: &[(&str, &str)]) -> String {
        match read(spec, parameters) {
            Ok(Some(input)) => format!("{} {:?} {}", input.data_type(), input.shape(1).dims(), input.description()),
            Ok(None) => "no images".to_owned(),
            Err(error) => error,
        }
    }

    #[test]
    fn parameters_say_how_images_are_prepared() {
        let chw = |height, width| spec(DataType::Fp32, &[3, height, width], 8);
        let answers = [
            described(&chw(224, 224), &[]),
            described(&chw(640, 640), &[]),
            described(&chw(299, 299), &[("image_preprocess", "torchvision")]),
            described(&chw(640, 640), &[("image_preprocess", "letterbox"), ("image_color_order", "bgr")]),
            described(&spec(DataType::Uint8, &[1, 300, 400, 3], 0), &[("image_preprocess", "stretch")]),
            described(
                &spec(DataType::Fp32, &[3, -1, -1], 8),
                &[("image_preprocess", "crop"), ("image_size", "240, 320"), ("image_interpolation", "bicubic")],
            ),
            described(&chw(224, 224), &[("image_preprocess", "crop"), ("image_mean", "0.5"), ("image_scale", "1")]),
            described(&chw(224, 224), &[("image_preprocess", "torchvision"), ("image_jpeg_decode", "scaled")]),
        ];
        insta::assert_snapshot!(answers.join("\n"), @r"
        FP32 [1, 3, 224, 224] RGB, shorter side resized to 256, centre 224x224, scaled to 0..1, ImageNet mean and deviation
        no images
        FP32 [1, 3, 299, 299] RGB, shorter side resized to 342, centre 299x299, scaled to 0..1, ImageNet mean and deviation
        FP32 [1, 3, 640, 640] BGR, 640x640 with grey around the image, normalised as its parameters say
        UINT8 [1, 300, 400, 3] RGB, stretched to 400x300
        FP32 [1, 3, 240, 320] RGB, shorter side resized to 320, centre 320x240, bicubic, normalised as its parameters say
        FP32 [1, 3, 224, 224] RGB, shorter side resized to 224, centre 224x224, normalised as its parameters say
        FP32 [1, 3, 224, 224] RGB, shorter side resized to 256, centre 224x224, scaled to 0..1, ImageNet mean and deviation; JPEG decoded at a reduced size
        ");
    }

    #[test]
    fn a_models_parameter_outweighs_the_servers_choice() {
        let images = spec(DataType::Fp32, &[3, 224, 224], 8);
        let stated = |text: &str| ModelParameter { string_value: text.to_owned() };
        let exact = HashMap::from([("image_preprocess", "torchvision"), ("image_jpeg_decode", "exact")]);
        let exact = exact.into_iter().map(|(name, value)| (name.to_owned(), stated(value))).collect();
        let decode = |parameters| {
            let input = ImageInput::new(&images, parameters, JpegDecode::Scaled).unwrap().unwrap();
            input.preparation.recipe().jpeg_decode
        };
        assert_eq!([decode(&HashMap::new()), decode(&exact)], [JpegDecode::Scaled, JpegDecode::Exact]);
    }

    #[test]
    fn wrong_parameters_are_named() {
        let images = spec(DataType::Fp32, &[3, 224, 224], 8);
        let crop = |more: &[(&str, &str)]| described(&images, &[&[("image_preprocess", "crop")], more].concat());
        let answers = [
            described(&images, &[("image_mean", "0")]),
            described(&images, &[("image_preprocess", "pad")]),
            crop(&[("image_mean", "0.5,0.5")]),
            crop(&[("image_std", "1,0,1")]),
            crop(&[("image_size", "256")]),
            crop(&[("image_shorter_side", "200")]),
            crop(&[("image_layout", "NHWC")]),
            crop(&[("image_jpeg_decode", "fast")]),
            described(&spec(DataType::Fp32, &[3, -1, -1], 8), &[("image_preprocess", "crop")]),
            described(&spec(DataType::Fp32, &[-1, 224, 224], 8), &[("image_preprocess", "crop")]),
            described(&spec(DataType::Int64, &[3, 224, 224], 8), &[("image_preprocess", "crop")]),
            described(
                &spec(DataType::Uint8, &[3, 224, 224], 8),
                &[("image_preprocess", "crop"), ("image_scale", "255")],
            ),
            described(&images, &[("image_preprocess", "stretch"), ("image_shorter_side", "256")]),
        ];
        insta::assert_snapshot!(answers.join("\n"), @r#"
        field 'parameters["image_mean"]' needs 'image_preprocess': torchvision, crop, stretch or letterbox
        field 'parameters["image_preprocess"]' takes torchvision, crop, stretch, letterbox, not 'pad'
        field 'parameters["image_mean"]' takes 3 numbers separated by commas, not '0.5,0.5'
        field 'parameters["image_std"]' must not be 0: levels are divided by it
        field 'parameters["image_size"]' differs from the dimensions: the input 'x' is FP32 [-1, 3, 224, 224]
        field 'parameters["image_shorter_side"]' must be at least 224, the longer side of the input
        field 'parameters["image_layout"]' needs three channels: the input 'x' is FP32 [-1, 3, 224, 224]
        field 'parameters["image_jpeg_decode"]' takes exact, scaled, not 'fast'
        field 'parameters["image_size"]' must be HEIGHT,WIDTH, because the dimensions do not show it: the input 'x' is FP32 [-1, 3, -1, -1]
        field 'parameters["image_layout"]' must be NCHW or NHWC, because the dimensions do not show it: the input 'x' is FP32 [-1, -1, 224, 224]
        field 'parameters["image_preprocess"]' needs an input of FP32 or UINT8: the input 'x' is INT64 [-1, 3, 224, 224]
        field 'parameters["image_scale"]' is not for an input of UINT8, which takes the levels 0 to 255
        field 'parameters["image_shorter_side"]' is for the preprocessing torchvision and crop
        "#);
    }
}
