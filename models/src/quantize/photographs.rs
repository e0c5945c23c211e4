//! The photographs of a calibration: which of them are held back, and the views of each.

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
};

use quintet_preprocess::{DEFAULT_MAX_PIXELS, Fit, Recipe};

use super::error::QuantizeError;
use crate::{arch::IMAGE_SIDE, reference::normalise};

/// An image as FP32 `[3,224,224]`, normalised.
pub(super) type Image = Vec<f32>;

/// The photographs that come with the program.
const OWN: [(&str, &[u8]); 3] = [
    ("astronaut.jpg", include_bytes!("../../../photos/astronaut.jpg")),
    ("coffee.jpg", include_bytes!("../../../photos/coffee.jpg")),
    ("rocket.jpg", include_bytes!("../../../photos/rocket.jpg")),
];

/// One photograph of this many is held back, so a calibration needs as many.
const HELD_BACK: usize = 3;

/// Up to this number of photographs, each has ten views instead of one.
const FEW: usize = 64;

/// Side of the square from which the views are cropped, as torchvision resizes for ResNet.
const SQUARE_SIDE: usize = 256;

/// The photographs of a calibration, in the order of their names.
#[derive(Debug)]
pub(crate) struct Photographs(Vec<Photograph>);

#[derive(Debug)]
enum Photograph {
    Own(&'static str, &'static [u8]),
    File(PathBuf),
}

impl Photographs {
    /// The three that come with the program.
    pub(crate) fn own() -> Self {
        Self(OWN.map(|(name, encoded)| Photograph::Own(name, encoded)).into())
    }

    /// The files of a folder, except hidden ones.
    ///
    /// # Errors
    /// When the folder cannot be read, or holds too few photographs.
    pub(crate) fn in_folder(path: &Path) -> Result<Self, QuantizeError> {
        let at = |source| QuantizeError::Io { path: path.into(), source };
        let mut files = Vec::new();
        for entry in fs::read_dir(path).map_err(at)? {
            let entry = entry.map_err(at)?;
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            if !is_hidden && entry.path().is_file() {
                files.push(entry.path());
            }
        }
        if files.len() < HELD_BACK {
            return Err(QuantizeError::TooFew { path: path.into(), needed: HELD_BACK, found: files.len() });
        }
        files.sort();
        Ok(Self(files.into_iter().map(Photograph::File).collect()))
    }

    /// The number of photographs to calibrate on, and of those that are held back.
    pub(crate) fn counts(&self) -> [usize; 2] {
        let held_back = self.0.len() / HELD_BACK;
        [self.0.len() - held_back, held_back]
    }

    /// The number of views of each photograph.
    pub(crate) fn views(&self) -> usize {
        if self.0.len() <= FEW { 10 } else { 1 }
    }

    /// The views to calibrate on.
    pub(super) fn for_calibration(&self) -> impl Iterator<Item = Result<Image, QuantizeError>> {
        self.images(false)
    }

    /// The views of every third photograph.
    pub(super) fn held_back(&self) -> impl Iterator<Item = Result<Image, QuantizeError>> {
        self.images(true)
    }

    fn images(&self, held_back: bool) -> impl Iterator<Item = Result<Image, QuantizeError>> {
        let is_held_back = |index: usize| index % HELD_BACK == HELD_BACK - 1;
        let chosen = self.0.iter().enumerate().filter(move |(index, _)| is_held_back(*index) == held_back);
        chosen.flat_map(|(_, photograph)| match photograph.square() {
            Ok(square) => (0..self.views()).map(|view| Ok(crop(&square, view))).collect(),
            Err(error) => vec![Err(error)],
        })
    }
}

impl Photograph {
    /// The centre as `[256,256,3]` pixels.
    fn square(&self) -> Result<Vec<u8>, QuantizeError> {
        const SQUARE: Recipe = Recipe {
            height: SQUARE_SIDE,
            width: SQUARE_SIDE,
            fit: Fit::Crop { shorter_side: SQUARE_SIDE },
            ..Recipe::TORCHVISION
        };
        let (name, encoded) = match self {
            Self::Own(name, encoded) => ((*name).to_owned(), Cow::Borrowed(*encoded)),
            Self::File(path) => {
                let read = fs::read(path).map_err(|source| QuantizeError::Io { path: path.clone(), source })?;
                (path.display().to_string(), Cow::Owned(read))
            }
        };
        let mut pixels = vec![0; SQUARE.elements()];
        let decoded = SQUARE.to_u8(&encoded, DEFAULT_MAX_PIXELS, &mut pixels);
        decoded.map_err(|source| QuantizeError::Image { name, source })?;
        Ok(pixels)
    }
}

/// A view of a square: the centre, then the corners, then the same five mirrored (torchvision's `TenCrop`).
fn crop(square: &[u8], view: usize) -> Image {
    const END: usize = SQUARE_SIDE - IMAGE_SIDE;
    const CORNERS: [(usize, usize); 5] = [(END / 2, END / 2), (0, 0), (0, END), (END, 0), (END, END)];
    let (top, left) = CORNERS[view % CORNERS.len()];
    let is_mirrored = view >= CORNERS.len();
    let mut pixels = Vec::with_capacity(3 * IMAGE_SIDE * IMAGE_SIDE);
    for row in square.chunks_exact(3 * SQUARE_SIDE).skip(top).take(IMAGE_SIDE) {
        let row = &row[3 * left..3 * (left + IMAGE_SIDE)];
        if is_mirrored {
            pixels.extend(row.chunks_exact(3).rev().flatten());
        } else {
            pixels.extend_from_slice(row);
        }
    }
    normalise(&pixels)
}

#[cfg(test)]
mod tests {
    use quintet_preprocess::to_tensor;

    use super::*;

    #[test]
    fn the_first_view_is_what_the_server_prepares() {
        let own = Photographs::own();
        let view = own.for_calibration().next().unwrap().unwrap();
        let mut expected = vec![0.0; view.len()];
        to_tensor(OWN[0].1, DEFAULT_MAX_PIXELS, &mut expected).unwrap();
        // Cropping before and after resizing rounds the position alike.
        let largest = view.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-5, "{largest}");
    }

    #[test]
    fn views_are_different_and_photographs_are_on_one_side_only() {
        let own = Photographs::own();
        let [calibration, held_back] = [own.for_calibration().collect::<Vec<_>>(), own.held_back().collect()]
            .map(|images| images.into_iter().map(|image| image.unwrap()).collect::<Vec<_>>());
        assert_eq!((own.counts(), calibration.len(), held_back.len()), ([2, 1], 20, 10));
        let all: Vec<_> = calibration.iter().chain(&held_back).collect();
        for (index, image) in all.iter().enumerate() {
            assert!(!all[..index].contains(image), "view {index}");
        }
    }

    #[test]
    fn a_folder_with_too_few_images_or_another_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let message = || match Photographs::in_folder(folder.path()) {
            Ok(photographs) => photographs.held_back().find_map(Result::err).map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        assert!(message().unwrap().contains("needs at least 3 photographs"), "{message:?}", message = message());
        for (name, encoded) in OWN {
            fs::write(folder.path().join(name), encoded).unwrap();
        }
        fs::write(folder.path().join(".hidden"), "no image").unwrap();
        assert_eq!(message(), None);
        fs::write(folder.path().join("readme.md"), "no image").unwrap();
        assert!(message().unwrap().contains("readme.md: "), "{message:?}", message = message());
        let missing = Photographs::in_folder(&folder.path().join("missing")).unwrap_err().to_string();
        assert!(missing.contains("missing: "), "{missing}");
    }
}
