//! The parameters in `config.pbtxt` that say how images become the input of a model.

use crate::recipe::{ColorOrder, Interpolation, JpegDecode, Layout};

/// The parameter that makes a model take encoded images.
pub const PREPROCESS: &str = "image_preprocess";
/// The parameter that names the input of images of a model that needs other inputs, too.
pub const INPUT: &str = "image_input";
const SIZE: &str = "image_size";
const SHORTER_SIDE: &str = "image_shorter_side";
const INTERPOLATION: &str = "image_interpolation";
const SCALE: &str = "image_scale";
const MEAN: &str = "image_mean";
const STD: &str = "image_std";
const LAYOUT: &str = "image_layout";
const COLOR_ORDER: &str = "image_color_order";
const JPEG_DECODE: &str = "image_jpeg_decode";

/// All of them.
pub const PARAMETERS: [&str; 11] =
    [PREPROCESS, INPUT, SIZE, SHORTER_SIDE, INTERPOLATION, SCALE, MEAN, STD, LAYOUT, COLOR_ORDER, JPEG_DECODE];

/// A parameter that cannot be followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("field 'parameters[\"{name}\"]' {reason}")]
pub struct WrongParameter {
    name: &'static str,
    reason: String,
}

impl WrongParameter {
    fn new(name: &'static str, reason: impl Into<String>) -> Self {
        Self { name, reason: reason.into() }
    }

    /// [`PREPROCESS`] of a model that takes no images.
    pub fn preprocess(reason: impl Into<String>) -> Self {
        Self::new(PREPROCESS, reason)
    }

    /// [`INPUT`] of a model without such an input.
    pub fn input(reason: impl Into<String>) -> Self {
        Self::new(INPUT, reason)
    }

    pub(crate) fn size(reason: impl Into<String>) -> Self {
        Self::new(SIZE, reason)
    }

    pub(crate) fn shorter_side(reason: impl Into<String>) -> Self {
        Self::new(SHORTER_SIDE, reason)
    }

    pub(crate) fn layout(reason: impl Into<String>) -> Self {
        Self::new(LAYOUT, reason)
    }
}

/// How an image is prepared if the other parameters say nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preset {
    /// Resize the shorter side, crop the centre, normalise by ImageNet's mean and standard deviation.
    Torchvision,
    /// Resize the shorter side, crop the centre.
    Crop,
    /// Resize both sides.
    Stretch,
    /// Resize the whole image, with grey around it.
    Letterbox,
}

/// The numbers that levels become: (level / scale - mean) / std.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Numbers {
    pub(crate) scale: Option<f32>,
    pub(crate) mean: Option<[f32; 3]>,
    pub(crate) std: Option<[f32; 3]>,
}

impl Numbers {
    /// The refusal of numbers for an input that takes levels.
    ///
    /// # Errors
    /// If any is set.
    pub(crate) fn refuse(&self, reason: &str) -> Result<(), WrongParameter> {
        let set = [(SCALE, self.scale.is_some()), (MEAN, self.mean.is_some()), (STD, self.std.is_some())];
        set.iter().find(|(_, set)| *set).map_or(Ok(()), |(name, _)| Err(WrongParameter::new(name, reason)))
    }
}

/// How the parameters of a model say that images are prepared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stated {
    pub(crate) preset: Preset,
    /// Height and width.
    pub(crate) size: Option<[usize; 2]>,
    pub(crate) shorter_side: Option<usize>,
    pub(crate) interpolation: Interpolation,
    pub(crate) numbers: Numbers,
    pub(crate) layout: Option<Layout>,
    pub(crate) color_order: ColorOrder,
    pub(crate) jpeg_decode: Option<JpegDecode>,
}

impl Stated {
    /// How JPEGs are decoded, if a parameter says it.
    pub fn jpeg_decode(&self) -> Option<JpegDecode> {
        self.jpeg_decode
    }

    /// What the parameters of a configuration say, each by its name; `None` if they say nothing about images.
    ///
    /// # Errors
    /// When one has a value that it does not take, or [`PREPROCESS`] is missing beside others.
    pub fn read<'a>(parameter: impl Fn(&str) -> Option<&'a str>) -> Result<Option<Self>, WrongParameter> {
        let value = |name: &str| parameter(name).map(str::trim);
        let Some(preset) = value(PREPROCESS) else {
            let other = PARAMETERS.into_iter().find(|name| value(name).is_some());
            return other.map_or(Ok(None), |other| {
                Err(WrongParameter::new(
                    other,
                    format!("needs '{PREPROCESS}': torchvision, crop, stretch or letterbox"),
                ))
            });
        };
        let presets = [
            ("torchvision", Preset::Torchvision),
            ("crop", Preset::Crop),
            ("stretch", Preset::Stretch),
            ("letterbox", Preset::Letterbox),
        ];
        let interpolations = [
            ("nearest", Interpolation::Nearest),
            ("bilinear", Interpolation::Bilinear),
            ("bicubic", Interpolation::Bicubic),
            ("lanczos", Interpolation::Lanczos),
        ];
        let number = |name| value(name).map(|text| Ok(numbers::<1>(name, text)?[0])).transpose();
        let three = |name| value(name).map(|text| numbers::<3>(name, text)).transpose();
        let numbers = Numbers { scale: number(SCALE)?, mean: three(MEAN)?, std: three(STD)? };
        let zero = [(SCALE, numbers.scale == Some(0.0)), (STD, numbers.std.is_some_and(|std| std.contains(&0.0)))];
        if let Some((name, _)) = zero.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(WrongParameter::new(name, "must not be 0: levels are divided by it"));
        }
        let chosen_layout = value(LAYOUT)
            .map(|text| choice(LAYOUT, text, &[("NCHW", Layout::Chw), ("NHWC", Layout::Hwc)]))
            .transpose()?;
        let colors = [("RGB", ColorOrder::Rgb), ("BGR", ColorOrder::Bgr)];
        let decodings = [("exact", JpegDecode::Exact), ("scaled", JpegDecode::Scaled)];
        Ok(Some(Self {
            preset: choice(PREPROCESS, preset, &presets)?,
            size: value(SIZE).map(size).transpose()?,
            shorter_side: value(SHORTER_SIDE).map(|text| side(SHORTER_SIDE, text)).transpose()?,
            interpolation: choice(INTERPOLATION, value(INTERPOLATION).unwrap_or("bilinear"), &interpolations)?,
            numbers,
            layout: chosen_layout,
            color_order: choice(COLOR_ORDER, value(COLOR_ORDER).unwrap_or("RGB"), &colors)?,
            jpeg_decode: value(JPEG_DECODE).map(|text| choice(JPEG_DECODE, text, &decodings)).transpose()?,
        }))
    }
}

fn choice<T: Copy>(name: &'static str, text: &str, choices: &[(&str, T)]) -> Result<T, WrongParameter> {
    let found = choices.iter().find(|(choice, _)| choice.eq_ignore_ascii_case(text));
    found.map(|(_, chosen)| *chosen).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
        WrongParameter::new(name, format!("takes {}, not '{text}'", names.join(", ")))
    })
}

/// The longest side of an input in pixels.
pub(crate) const MAX_SIDE: usize = 16_384;

fn side(name: &'static str, text: &str) -> Result<usize, WrongParameter> {
    let side = text.trim().parse().ok().filter(|side| (1..=MAX_SIDE).contains(side));
    side.ok_or_else(|| WrongParameter::new(name, format!("takes pixels between 1 and {MAX_SIDE}, not '{text}'")))
}

/// `224`, or `HEIGHT,WIDTH`.
fn size(text: &str) -> Result<[usize; 2], WrongParameter> {
    let (height, width) = text.split_once(',').unwrap_or((text, text));
    Ok([side(SIZE, height)?, side(SIZE, width)?])
}

/// `N` numbers, separated by commas, or one for all.
fn numbers<const N: usize>(name: &'static str, text: &str) -> Result<[f32; N], WrongParameter> {
    let read: Result<Vec<f32>, _> = text.split(',').map(|number| number.trim().parse()).collect();
    let read = read.ok().filter(|read| read.iter().all(|number| number.is_finite()));
    let found = match read.as_deref() {
        Some(&[number]) => Some([number; N]),
        Some(read) => <[f32; N]>::try_from(read).ok(),
        None => None,
    };
    found.ok_or_else(|| {
        let wanted = if N == 1 { "a number".to_owned() } else { format!("{N} numbers separated by commas") };
        WrongParameter::new(name, format!("takes {wanted}, not '{text}'"))
    })
}
