//! The photographs to send: encoded, in base64 and as tensors.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use quintet_preprocess::{DEFAULT_MAX_PIXELS, Preparation};
use quintet_proto::elements;

use crate::{
    client::{placement::Placement, tensor},
    model::{
        encoding::{Encoding, Form, IMAGE_ELEMENTS},
        report::PhotographInfo,
    },
};

/// Most photographs to use.
const MAX_PHOTOGRAPHS: usize = 16;
/// Largest photograph file to read, in bytes.
const MAX_PHOTOGRAPH_BYTES: u64 = 16 << 20;
/// Number of times that each photograph is preprocessed to time it.
const PREPROCESS_REPEATS: usize = 5;

/// An encoded photograph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Photograph {
    /// File name.
    pub name: String,
    /// The file.
    pub bytes: Bytes,
}

/// Why the photographs cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// A file or folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The folder holds no photographs.
    #[error("no .jpg, .jpeg, .png or .webp file in {0}; give another folder to --images, or leave it out")]
    Empty(PathBuf),
    /// A file is too large.
    #[error("{0} is larger than {MAX_PHOTOGRAPH_BYTES} bytes")]
    TooLarge(PathBuf),
    /// A photograph cannot be preprocessed.
    #[error("cannot preprocess {name}: {reason}")]
    Preprocess {
        /// The photograph.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// The built-in photographs.
pub fn compiled_in() -> Vec<Photograph> {
    macro_rules! photographs {
        ($($name:literal),*) => {
            vec![$(Photograph {
                name: $name.to_owned(),
                bytes: Bytes::from_static(include_bytes!(concat!("../../../photos/", $name))),
            }),*]
        };
    }
    photographs!["astronaut.jpg", "coffee.jpg", "coffee-224.jpg", "rocket.jpg"]
}

/// The first 16 photographs of a folder, by name.
///
/// # Errors
/// When the folder or a file cannot be read, a file is over 16 MiB, or there is none.
pub fn from_folder(folder: &Path) -> Result<Vec<Photograph>, PayloadError> {
    let read_error = |path: &Path, source| PayloadError::Read { path: path.to_owned(), source };
    let is_photograph = |path: &PathBuf| {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png" | "webp"))
    };
    let entries = std::fs::read_dir(folder).map_err(|e| read_error(folder, e))?;
    let mut paths: Vec<PathBuf> =
        entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(is_photograph).collect();
    paths.sort();
    paths.truncate(MAX_PHOTOGRAPHS);
    let read = |path: &PathBuf| {
        if std::fs::metadata(path).map_err(|e| read_error(path, e))?.len() > MAX_PHOTOGRAPH_BYTES {
            return Err(PayloadError::TooLarge(path.clone()));
        }
        let bytes = std::fs::read(path).map_err(|e| read_error(path, e))?.into();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Photograph { name, bytes })
    };
    let photographs = paths.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    if photographs.is_empty() {
        return Err(PayloadError::Empty(folder.to_owned()));
    }
    Ok(photographs)
}

/// The photographs in every form, to be sliced into batches without copying.
pub struct Payload {
    photographs: Vec<PhotographInfo>,
    encoded: Vec<Bytes>,
    base64: Vec<String>,
    /// How the photographs become tensors; `None` if a test prepares them.
    preparation: Option<Preparation>,
    /// Bytes of one image in the tensor.
    image_bytes: usize,
    /// The photographs as FP32 images, repeated so that every batch from every start is a slice.
    tensor: Bytes,
    /// The same in the other tensor forms, made on first use.
    fp16: OnceLock<Bytes>,
    pixels: OnceLock<Bytes>,
    preprocess_times: Vec<Duration>,
    /// The photographs as the small JPEGs of [`Encoding::Jpeg224`]; empty unless they are sent.
    small: Vec<Bytes>,
    small_times: Vec<Duration>,
}

impl Payload {
    /// The photographs, prepared as the model takes them.
    ///
    /// # Errors
    /// [`PayloadError::Preprocess`], with the name of the photograph.
    pub fn prepared(
        photographs: &[Photograph],
        largest_batch: usize,
        preparation: &Preparation,
    ) -> Result<Self, PayloadError> {
        let prepare = |encoded: &[u8], image: &mut [f32]| {
            preparation.prepare(encoded, DEFAULT_MAX_PIXELS, bytemuck::cast_slice_mut(image))
        };
        let elements = preparation.dims().iter().product();
        let payload = Self::of(photographs, largest_batch, elements, prepare)?;
        Ok(Self { preparation: Some(preparation.clone()), ..payload })
    }

    /// Encodes and preprocesses the photographs for batches of up to `largest_batch` images.
    /// `preprocess` writes one encoded image as a normalised `[3, 224, 224]` tensor; it is timed.
    ///
    /// # Errors
    /// [`PayloadError::Preprocess`], with the name of the photograph.
    pub fn new<E: std::fmt::Display>(
        photographs: &[Photograph],
        largest_batch: usize,
        preprocess: impl FnMut(&[u8], &mut [f32]) -> Result<(), E>,
    ) -> Result<Self, PayloadError> {
        Self::of(photographs, largest_batch, IMAGE_ELEMENTS, preprocess)
    }

    /// The same for images of this many elements.
    fn of<E: std::fmt::Display>(
        photographs: &[Photograph],
        largest_batch: usize,
        image_elements: usize,
        mut preprocess: impl FnMut(&[u8], &mut [f32]) -> Result<(), E>,
    ) -> Result<Self, PayloadError> {
        let image_bytes = image_elements * size_of::<f32>();
        let mut elements = vec![0.0_f32; image_elements];
        let mut images = Vec::with_capacity(photographs.len());
        let mut preprocess_times = Vec::new();
        for photograph in photographs {
            for _ in 0..PREPROCESS_REPEATS {
                let start = Instant::now();
                preprocess(&photograph.bytes, &mut elements)
                    .map_err(|e| PayloadError::Preprocess { name: photograph.name.clone(), reason: e.to_string() })?;
                preprocess_times.push(start.elapsed());
            }
            images.push(elements.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        }
        let images_in_tensor = largest_batch + photographs.len().saturating_sub(1);
        let mut tensor = BytesMut::with_capacity(images_in_tensor * image_bytes);
        for image in images.iter().cycle().take(images_in_tensor) {
            tensor.extend_from_slice(image);
        }
        Ok(Self {
            photographs: photographs
                .iter()
                .map(|p| PhotographInfo { name: p.name.clone(), bytes: p.bytes.len() })
                .collect(),
            encoded: photographs.iter().map(|p| p.bytes.clone()).collect(),
            base64: photographs.iter().map(|p| base64_simd::STANDARD.encode_to_string(&p.bytes)).collect(),
            preparation: None,
            image_bytes,
            tensor: tensor.freeze(),
            fp16: OnceLock::new(),
            pixels: OnceLock::new(),
            preprocess_times,
            small: Vec::new(),
            small_times: Vec::new(),
        })
    }

    /// The same with the small JPEGs of [`Encoding::Jpeg224`], of which the model makes the same input.
    ///
    /// # Errors
    /// [`PayloadError::Preprocess`], with the name of the photograph.
    pub fn with_small(mut self) -> Result<Self, PayloadError> {
        let preparation = self.preparation.clone().unwrap_or_default();
        for (photograph, encoded) in self.photographs.iter().zip(&self.encoded) {
            let mut small = Vec::new();
            for _ in 0..PREPROCESS_REPEATS {
                let start = Instant::now();
                small = preparation
                    .recipe()
                    .to_jpeg(encoded, DEFAULT_MAX_PIXELS)
                    .map_err(|e| PayloadError::Preprocess { name: photograph.name.clone(), reason: e.to_string() })?;
                self.small_times.push(start.elapsed());
            }
            self.small.push(small.into());
        }
        Ok(self)
    }

    /// Number of different requests for a batch size: one for each photograph that a batch can begin with.
    pub fn variants(&self) -> usize {
        self.base64.len()
    }

    /// `batch` encoded photographs, beginning with the one at `first`; the small ones for [`Encoding::Jpeg224`].
    pub fn encoded(&self, encoding: Encoding, first: usize, batch: usize) -> Vec<Bytes> {
        let files = if encoding == Encoding::Jpeg224 { &self.small } else { &self.encoded };
        files.iter().cycle().skip(first).take(batch).cloned().collect()
    }

    /// `batch` photographs in base64, beginning with the one at `first`.
    pub fn base64(&self, first: usize, batch: usize) -> Vec<&str> {
        self.base64.iter().cycle().skip(first).take(batch).map(String::as_str).collect()
    }

    /// How the photographs become tensors, if that is known.
    pub fn preparation(&self) -> Option<&Preparation> {
        self.preparation.as_ref()
    }

    /// The same photographs as an FP32 tensor: a slice of one buffer.
    pub fn tensor(&self, first: usize, batch: usize) -> Bytes {
        self.tensor.slice(first * self.image_bytes..(first + batch) * self.image_bytes)
    }

    /// The same photographs in the tensor form of an encoding: a slice of one buffer, or BYTES of the encoded files. FP32 if
    /// the encoding has no form of its own.
    pub fn tensor_as(&self, encoding: Encoding, first: usize, batch: usize) -> Bytes {
        if encoding.form() == Form::File {
            return elements::encode(self.encoded(encoding, first, batch));
        }
        let Placement { offset, bytes } = self.placement(encoding, first, batch);
        self.tensors(encoding).slice(offset..offset + bytes)
    }

    /// The buffer of all photographs in the tensor form of an encoding; tensors are slices of it.
    pub fn tensors(&self, encoding: Encoding) -> &Bytes {
        match encoding {
            Encoding::Fp16 => self.fp16.get_or_init(|| tensor::to_fp16(&self.tensor)),
            Encoding::U8 => self.pixels.get_or_init(|| tensor::to_pixels(&self.tensor)),
            _ => &self.tensor,
        }
    }

    /// The placement of a tensor in that buffer.
    pub fn placement(&self, encoding: Encoding, first: usize, batch: usize) -> Placement {
        let image_bytes = match encoding {
            Encoding::Fp16 => self.image_bytes / 2,
            Encoding::U8 => self.image_bytes / 4,
            _ => self.image_bytes,
        };
        Placement { offset: first * image_bytes, bytes: batch * image_bytes }
    }

    /// The largest number of images in one request.
    pub fn largest_batch(&self) -> usize {
        self.tensor.len() / self.image_bytes + 1 - self.variants()
    }

    /// The photographs, for the report.
    pub fn photographs(&self) -> &[PhotographInfo] {
        &self.photographs
    }

    /// The times of preprocessing one image on this machine.
    pub fn preprocess_times(&self) -> &[Duration] {
        &self.preprocess_times
    }

    /// The times of making one small JPEG on this machine.
    pub fn small_times(&self) -> &[Duration] {
        &self.small_times
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::encoding::IMAGE_BYTES;

    fn photograph(name: &str, first: u8) -> Photograph {
        Photograph { name: name.into(), bytes: vec![first; 10].into() }
    }

    /// Fills the tensor with the file's first byte.
    fn fill(encoded: &[u8], out: &mut [f32]) -> Result<(), String> {
        out.fill(f32::from(encoded[0]));
        if encoded[0] == 0 { Err("not an image".into()) } else { Ok(()) }
    }

    #[test]
    fn tensor_and_base64_carry_the_same_photographs() {
        let photographs = [photograph("a", 1), photograph("b", 2), photograph("c", 3)];
        let payload = Payload::new(&photographs, 4, fill).unwrap();
        for first in 0..payload.variants() {
            for batch in 1..=4 {
                let tensor = payload.tensor(first, batch);
                assert_eq!(tensor.len(), batch * IMAGE_BYTES);
                let in_tensor: Vec<f32> = tensor
                    .chunks(IMAGE_BYTES)
                    .map(|image| f32::from_le_bytes(image[..4].try_into().unwrap()))
                    .collect();
                let in_base64: Vec<f32> = payload
                    .base64(first, batch)
                    .iter()
                    .map(|text| f32::from(base64_simd::STANDARD.decode_to_vec(text).unwrap()[0]))
                    .collect();
                assert_eq!(in_tensor, in_base64);
            }
        }
    }

    #[test]
    fn errors_name_the_photograph() {
        let error = Payload::new(&[photograph("ok.jpg", 1), photograph("bad.jpg", 0)], 1, fill).err().unwrap();
        assert_eq!(error.to_string(), "cannot preprocess bad.jpg: not an image");
    }

    #[test]
    fn a_folder_is_read_in_order_of_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.JPG", "a.png", "notes.txt"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let names: Vec<_> = from_folder(folder.path()).unwrap().into_iter().map(|p| p.name).collect();
        assert_eq!(names, ["a.png", "b.JPG"]);
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(from_folder(empty.path()), Err(PayloadError::Empty(_))));
        assert!(matches!(from_folder(&empty.path().join("none")), Err(PayloadError::Read { .. })));
    }
}
