//! How an image becomes the input of a model: size, fit, interpolation, channels, levels.

use crate::input::SIDE;

/// How an image fits the size of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The shorter side is resized to this many pixels and the centre is cropped, as torchvision's `Resize` and
    /// `CenterCrop` do. No side of the input is longer.
    Crop {
        /// Pixels of the shorter side before cropping.
        shorter_side: usize,
    },
    /// Width and height are resized to those of the input, whatever the aspect.
    Stretch,
    /// The whole image as large as it fits, in the centre of grey, as YOLO's `LetterBox` does.
    Letterbox,
}

/// How pixels are resampled, antialiased as Pillow does (except for the nearest ones).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// A triangle.
    Bilinear,
    /// A cubic with a = -0.5.
    Bicubic,
    /// Lanczos with 3 lobes.
    Lanczos,
}

/// The order of a tensor's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[3, height, width]`
    Chw,
    /// `[height, width, 3]`
    Hwc,
}

/// The order of a tensor's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red, as OpenCV reads images.
    Bgr,
}

impl ColorOrder {
    /// The index in RGB of each channel.
    pub(crate) fn indices(self) -> [usize; 3] {
        match self {
            Self::Rgb => [0, 1, 2],
            Self::Bgr => [2, 1, 0],
        }
    }
}

/// How a JPEG is decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JpegDecode {
    /// Every pixel, as Pillow does.
    #[default]
    Exact,
    /// At a reduced size if the resize throws the rest away: from fewer coefficients of each block, which takes less time.
    Scaled,
}

/// How an image becomes the pixels of a model's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Height of the input in pixels, at least 1.
    pub height: usize,
    /// Width of the input in pixels, at least 1.
    pub width: usize,
    /// How the image fits it.
    pub fit: Fit,
    /// How pixels are resampled.
    pub interpolation: Interpolation,
    /// The order of dimensions.
    pub layout: Layout,
    /// The order of channels.
    pub color_order: ColorOrder,
    /// How a JPEG is decoded.
    pub jpeg_decode: JpegDecode,
}

impl Recipe {
    /// What torchvision does for ResNet, to `[224, 224, 3]`.
    pub const TORCHVISION: Self = Self {
        height: SIDE,
        width: SIDE,
        fit: Fit::Crop { shorter_side: 256 },
        interpolation: Interpolation::Bilinear,
        layout: Layout::Hwc,
        color_order: ColorOrder::Rgb,
        jpeg_decode: JpegDecode::Exact,
    };

    /// Elements of the input of one image.
    pub fn elements(&self) -> usize {
        3 * self.height * self.width
    }

    /// Pixels of the resized image for each pixel of an image of this width and height, both oriented: on the axis with
    /// more of them.
    pub(crate) fn scale(&self, [width, height]: [usize; 2]) -> f64 {
        let (width, height) = (width as f64, height as f64);
        let (x, y) = (self.width as f64 / width, self.height as f64 / height);
        match self.fit {
            Fit::Crop { shorter_side } => shorter_side as f64 / width.min(height),
            Fit::Stretch => x.max(y),
            Fit::Letterbox => x.min(y),
        }
    }
}

/// The number that stands for each level, 0 to 255, of each channel, in the order of the channels of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct Levels(pub(crate) [[f32; 256]; 3]);

impl Levels {
    /// ImageNet's mean and standard deviation of levels between 0 and 1, as torchvision normalises.
    pub const IMAGENET: Self = Self::new(255.0, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

    /// (level / `scale` - `mean`) / `std` for each channel.
    pub const fn new(scale: f32, mean: [f32; 3], std: [f32; 3]) -> Self {
        let mut table = [[0.0; 256]; 3];
        let mut channel = 0;
        while channel < 3 {
            let mut level = 0;
            while level < 256 {
                table[channel][level] = (level as f32 / scale - mean[channel]) / std[channel];
                level += 1;
            }
            channel += 1;
        }
        Self(table)
    }
}
