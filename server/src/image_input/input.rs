//! Which models take images, and how an image becomes the input of one.

use std::{collections::HashMap, sync::Arc};

use quintet_engine::{DataType, ErrorKind, InferError, ModelSpec, Shape, TensorSpec};
use quintet_preprocess::{ColorOrder, Fit, ImageError, Interpolation, JpegDecode, Layout, Levels, Recipe, SIDE};
use quintet_proto::inference::ModelParameter;

use super::parameters::{MAX_SIDE, Numbers, Preset, Stated, WrongParameter};

/// The outputs of the models that `quintet-models` writes, which take images in their input `image`.
const OWN_INPUT: &str = "image";
const OWN_OUTPUTS: [&str; 2] = ["logits", "embedding"];

/// How images become the one required input of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageInput {
    index: usize,
    images: Images,
    recipe: Recipe,
    /// The numbers of an FP32 input; a UINT8 input takes the levels themselves.
    levels: Option<Arc<Levels>>,
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
    /// what torchvision does, for FP32 `[3,224,224]` or UINT8 `[224,224,3]`. JPEGs are decoded as `jpeg_decode` unless they
    /// say how.
    ///
    /// # Errors
    /// When the parameters do not fit the model.
    pub fn new(
        spec: &ModelSpec,
        parameters: &HashMap<String, ModelParameter>,
        jpeg_decode: JpegDecode,
    ) -> Result<Option<Self>, WrongParameter> {
        let stated = Stated::read(parameters)?;
        let mut required = spec.inputs().iter().enumerate().filter(|(_, input)| !input.optional);
        let (Some((index, input)), None) = (required.next(), required.next()) else {
            let refusal = |_| Err(WrongParameter::preprocess("needs a model with one required input"));
            return stated.map_or(Ok(None), refusal);
        };
        let mut found = match stated {
            Some(stated) => Some(Self::stated(spec, index, input, &stated)?),
            None => Self::assumed(spec, index, input),
        };
        if let Some(found) = &mut found {
            found.recipe.jpeg_decode = stated.and_then(|stated| stated.jpeg_decode).unwrap_or(jpeg_decode);
        }
        Ok(found)
    }

    fn assumed(spec: &ModelSpec, index: usize, input: &TensorSpec) -> Option<Self> {
        let (images, dims) = Images::of(spec, input)?;
        let (layout, wanted) = match input.data_type {
            DataType::Fp32 => (Layout::Chw, [3, SIDE, SIDE]),
            DataType::Uint8 => (Layout::Hwc, [SIDE, SIDE, 3]),
            _ => return None,
        };
        if !dims.iter().zip(wanted).all(|(have, want)| have.is_none_or(|have| have == want)) {
            return None;
        }
        let is_known = input.name == OWN_INPUT
            && dims == wanted.map(Some)
            && OWN_OUTPUTS.iter().all(|name| spec.outputs().iter().any(|output| output.name == *name));
        let levels = (layout == Layout::Chw).then(|| Arc::new(Levels::IMAGENET));
        Some(Self { index, images, recipe: Recipe { layout, ..Recipe::TORCHVISION }, levels, is_known })
    }

    fn stated(spec: &ModelSpec, index: usize, input: &TensorSpec, stated: &Stated) -> Result<Self, WrongParameter> {
        let shape = input.announced_shape(spec.batches());
        let described = format!("the input '{}' is {} {shape:?}", input.name, input.data_type);
        let (images, dims) = Images::of(spec, input).ok_or_else(|| {
            WrongParameter::preprocess(format!("needs an input of images with three dimensions each: {described}"))
        })?;
        let is_levels = match input.data_type {
            DataType::Fp32 => false,
            DataType::Uint8 => true,
            _ => return Err(WrongParameter::preprocess(format!("needs an input of FP32 or UINT8: {described}"))),
        };
        let layout = stated.layout.or(match (dims[0] == Some(3), dims[2] == Some(3)) {
            (true, false) => Some(Layout::Chw),
            (false, true) => Some(Layout::Hwc),
            _ => None,
        });
        let layout = layout.ok_or_else(|| {
            WrongParameter::layout(format!("must be NCHW or NHWC, because the dimensions do not show it: {described}"))
        })?;
        let (channels, sides) = match layout {
            Layout::Chw => (dims[0], [dims[1], dims[2]]),
            Layout::Hwc => (dims[2], [dims[0], dims[1]]),
        };
        if channels.is_some_and(|channels| channels != 3) {
            return Err(WrongParameter::layout(format!("needs three channels: {described}")));
        }
        let [height, width] = size(sides, stated.size, &described)?;
        if is_levels {
            stated.numbers.refuse("is not for an input of UINT8, which takes the levels 0 to 255")?;
        }
        Ok(Self {
            index,
            images,
            recipe: Recipe {
                height,
                width,
                fit: fit(stated, height.max(width))?,
                interpolation: stated.interpolation,
                layout,
                color_order: stated.color_order,
                ..Recipe::TORCHVISION
            },
            levels: (!is_levels).then(|| Arc::new(levels(stated))),
            is_known: true,
        })
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
        if self.levels.is_some() { DataType::Fp32 } else { DataType::Uint8 }
    }

    /// The most images of one run.
    pub fn max_images(&self) -> usize {
        if let Images::Batch(max) = self.images { max.max(1) } else { 1 }
    }

    /// The shape of the input for this many images.
    pub fn shape(&self, images: usize) -> Shape {
        let Recipe { height, width, .. } = self.recipe;
        let dims = match self.recipe.layout {
            Layout::Chw => [3, height, width],
            Layout::Hwc => [height, width, 3],
        };
        let first = (self.images != Images::None).then_some(images);
        Shape::new(first.into_iter().chain(dims).collect::<Vec<_>>())
    }

    /// Bytes of one image.
    pub fn image_bytes(&self) -> usize {
        self.recipe.elements() * self.data_type().size().unwrap_or(1)
    }

    /// Decodes and prepares an encoded image of at most `max_pixels` into `out`, of [`Self::image_bytes`].
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn prepare(&self, encoded: &[u8], max_pixels: u64, out: &mut [u8]) -> Result<(), ImageError> {
        match &self.levels {
            // The pool's buffers are aligned, and so are rows of this size in them.
            Some(levels) => self.recipe.to_f32(levels, encoded, max_pixels, bytemuck::cast_slice_mut(out)),
            None => self.recipe.to_u8(encoded, max_pixels, out),
        }
    }

    /// What is done with an image, for `/model-info` and the headers of metadata.
    pub fn description(&self) -> String {
        let Recipe { height, width, fit, interpolation, color_order, jpeg_decode, .. } = self.recipe;
        let colors = if color_order == ColorOrder::Bgr { "BGR" } else { "RGB" };
        let fit = match fit {
            Fit::Crop { shorter_side } => format!("shorter side resized to {shorter_side}, centre {width}x{height}"),
            Fit::Stretch => format!("stretched to {width}x{height}"),
            Fit::Letterbox => format!("{width}x{height} with grey around the image"),
        };
        let interpolation = match interpolation {
            Interpolation::Bilinear => "",
            Interpolation::Nearest => ", nearest",
            Interpolation::Bicubic => ", bicubic",
            Interpolation::Lanczos => ", lanczos",
        };
        let numbers = match &self.levels {
            None => "",
            Some(levels) if **levels == Levels::IMAGENET => ", scaled to 0..1, ImageNet mean and deviation",
            Some(_) => ", normalised as its parameters say",
        };
        let decoded = if jpeg_decode == JpegDecode::Scaled { "; JPEG decoded at a reduced size" } else { "" };
        format!("{colors}, {fit}{interpolation}{numbers}{decoded}")
    }
}

/// Height and width, from the model's dimensions and the parameter.
fn size(dims: [Option<usize>; 2], stated: Option<[usize; 2]>, described: &str) -> Result<[usize; 2], WrongParameter> {
    let mut size = [0; 2];
    for (axis, side) in size.iter_mut().enumerate() {
        *side = match (dims[axis], stated.map(|stated| stated[axis])) {
            (Some(dim), Some(stated)) if dim != stated => {
                return Err(WrongParameter::size(format!("differs from the dimensions: {described}")));
            }
            (Some(side), _) | (None, Some(side)) => side,
            (None, None) => {
                let reason = format!("must be HEIGHT,WIDTH, because the dimensions do not show it: {described}");
                return Err(WrongParameter::size(reason));
            }
        };
        if !(1..=MAX_SIDE).contains(side) {
            return Err(WrongParameter::preprocess(format!("needs sides of 1 to {MAX_SIDE} pixels: {described}")));
        }
    }
    Ok(size)
}

/// How an image fits an input whose longer side has this many pixels.
fn fit(stated: &Stated, longer: usize) -> Result<Fit, WrongParameter> {
    let default = match stated.preset {
        Preset::Stretch | Preset::Letterbox if stated.shorter_side.is_some() => {
            return Err(WrongParameter::shorter_side("is for the preprocessing torchvision and crop"));
        }
        Preset::Stretch => return Ok(Fit::Stretch),
        Preset::Letterbox => return Ok(Fit::Letterbox),
        // As for ResNet: 256 for 224.
        Preset::Torchvision => (longer * 256).div_ceil(SIDE),
        Preset::Crop => longer,
    };
    let shorter_side = stated.shorter_side.unwrap_or(default);
    if shorter_side < longer {
        return Err(WrongParameter::shorter_side(format!("must be at least {longer}, the longer side of the input")));
    }
    Ok(Fit::Crop { shorter_side })
}

fn levels(stated: &Stated) -> Levels {
    let Numbers { scale, mean, std } = stated.numbers;
    let in_order = |[red, green, blue]: [f32; 3]| match stated.color_order {
        ColorOrder::Rgb => [red, green, blue],
        ColorOrder::Bgr => [blue, green, red],
    };
    let (default_mean, default_std) = match stated.preset {
        Preset::Torchvision => (in_order([0.485, 0.456, 0.406]), in_order([0.229, 0.224, 0.225])),
        _ => ([0.0; 3], [1.0; 3]),
    };
    Levels::new(scale.unwrap_or(255.0), mean.unwrap_or(default_mean), std.unwrap_or(default_std))
}

/// Whether an input has the type and the dimensions of images, of any size.
pub fn seems_image(spec: &ModelSpec, input: &TensorSpec) -> bool {
    let is_three = |[first, _, last]: [Option<usize>; 3]| first == Some(3) || last == Some(3);
    matches!(input.data_type, DataType::Fp32 | DataType::Uint8)
        && Images::of(spec, input).is_some_and(|(_, dims)| is_three(dims))
}

/// The refusal of images for a model that does not take them.
pub fn takes_no_images(spec: &ModelSpec) -> InferError {
    let describe = |input: &TensorSpec| {
        let shape = input.announced_shape(spec.batches());
        format!("'{}' {} {shape:?}", input.name, input.data_type)
    };
    let inputs: Vec<_> = spec.inputs().iter().map(describe).collect();
    InferError::new(
        ErrorKind::Unsupported,
        format_args!(
            "model '{}' does not take images: its inputs are {}, but it needs one required input, FP32 [3,224,224] or \
             UINT8 [224,224,3]",
            spec.name(),
            inputs.join(", ")
        ),
    )
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
            input.recipe.jpeg_decode
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
