//! How images become the input of a model: from the input's dimensions and the model's parameters.

use std::sync::Arc;

use crate::{
    error::ImageError,
    input::SIDE,
    parameters::{MAX_SIDE, Numbers, Preset, Stated, WrongParameter},
    recipe::{ColorOrder, Fit, Interpolation, JpegDecode, Layout, Levels, Recipe},
};

/// How images become the input of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Preparation {
    recipe: Recipe,
    /// The numbers of an FP32 input; a UINT8 input takes the levels themselves.
    levels: Option<Arc<Levels>>,
}

/// What torchvision does for FP32 `[3,224,224]`.
impl Default for Preparation {
    fn default() -> Self {
        let recipe = Recipe { layout: Layout::Chw, ..Recipe::TORCHVISION };
        Self { recipe, levels: Some(Arc::new(Levels::IMAGENET)) }
    }
}

/// The dimensions of an image in a model's input, without the batch; `None` is a dynamic one.
pub type Dims = [Option<usize>; 3];

impl Preparation {
    /// What torchvision does, for FP32 `[3,224,224]` or, `in_levels`, UINT8 `[224,224,3]`. `None` for other dimensions.
    pub fn torchvision(dims: Dims, in_levels: bool) -> Option<Self> {
        let (layout, wanted) = match in_levels {
            false => (Layout::Chw, [3, SIDE, SIDE]),
            true => (Layout::Hwc, [SIDE, SIDE, 3]),
        };
        let fits = dims.iter().zip(wanted).all(|(have, want)| have.is_none_or(|have| have == want));
        let levels = (!in_levels).then(|| Arc::new(Levels::IMAGENET));
        fits.then_some(Self { recipe: Recipe { layout, ..Recipe::TORCHVISION }, levels })
    }

    /// What the parameters say, for an input of FP32 or, `in_levels`, UINT8. `described` is the input in errors.
    ///
    /// # Errors
    /// When the parameters do not fit the input.
    pub fn stated(stated: &Stated, dims: Dims, in_levels: bool, described: &str) -> Result<Self, WrongParameter> {
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
        let [height, width] = size(sides, stated.size, described)?;
        if in_levels {
            stated.numbers.refuse("is not for an input of UINT8, which takes the levels 0 to 255")?;
        }
        let recipe = Recipe {
            height,
            width,
            fit: fit(stated, height.max(width))?,
            interpolation: stated.interpolation,
            layout,
            color_order: stated.color_order,
            jpeg_decode: stated.jpeg_decode.unwrap_or_default(),
        };
        Ok(Self { recipe, levels: (!in_levels).then(|| Arc::new(levels(stated))) })
    }

    /// The same, with JPEGs decoded so.
    #[must_use]
    pub fn with_jpeg_decode(mut self, jpeg_decode: JpegDecode) -> Self {
        self.recipe.jpeg_decode = jpeg_decode;
        self
    }

    /// Size, fit and layout.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Whether the input takes levels, UINT8, and not numbers, FP32.
    pub fn in_levels(&self) -> bool {
        self.levels.is_none()
    }

    /// The dimensions of one image in the input.
    pub fn dims(&self) -> [usize; 3] {
        let Recipe { height, width, .. } = self.recipe;
        match self.recipe.layout {
            Layout::Chw => [3, height, width],
            Layout::Hwc => [height, width, 3],
        }
    }

    /// Bytes of one image in the input.
    pub fn image_bytes(&self) -> usize {
        self.recipe.elements() * if self.in_levels() { 1 } else { size_of::<f32>() }
    }

    /// Decodes and prepares an encoded image of at most `max_pixels` into `out`, of [`Self::image_bytes`], which are aligned
    /// for FP32.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn prepare(&self, encoded: &[u8], max_pixels: u64, out: &mut [u8]) -> Result<(), ImageError> {
        match &self.levels {
            Some(levels) => self.recipe.to_f32(levels, encoded, max_pixels, bytemuck::cast_slice_mut(out)),
            None => self.recipe.to_u8(encoded, max_pixels, out),
        }
    }

    /// What is done with an image, in words.
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
