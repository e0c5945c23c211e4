//! The payloads of `floor`: FP32 tensors for KServe, or a photograph for the jpeg lane.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use serde::{Serialize, Serializer};

/// Elements of one image, `[3, 224, 224]`.
const IMAGE_ELEMENTS: usize = 3 * 224 * 224;
/// Elements of the tiny request: 64 bytes.
const TINY_ELEMENTS: usize = 16;

/// The size of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 64 bytes.
    Tiny,
    /// A number of images of 602,112 bytes.
    Images(u16),
    /// An encoded photograph.
    Photo,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("tiny", _) => Ok(Self::Tiny),
            ("photo", _) => Ok(Self::Photo),
            (_, Ok(count @ 1..=256)) => Ok(Self::Images(count)),
            _ => Err(format!("`{text}` is not a payload: use tiny, photo or a number of images from 1 to 256")),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tiny => f.write_str("tiny"),
            Self::Images(count) => write!(f, "{count}"),
            Self::Photo => f.write_str("photo"),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The model's input and its layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Rows of any width, named `x`.
    Rows,
    /// `[batch, 3, 224, 224]` with this name.
    Images(String),
}

impl Input {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Rows => "x",
            Self::Images(name) => name,
        }
    }

    fn shape(&self, size: Size) -> anyhow::Result<Vec<usize>> {
        Ok(match (size, self) {
            (Size::Tiny, Self::Rows) => vec![1, TINY_ELEMENTS],
            (Size::Tiny, Self::Images(name)) => {
                bail!("the input '{name}' takes only complete images: leave `tiny` out of --payload")
            }
            (Size::Images(count), Self::Rows) => vec![count.into(), IMAGE_ELEMENTS],
            (Size::Images(count), Self::Images(_)) => vec![count.into(), 3, 224, 224],
            (Size::Photo, _) => bail!("a photograph is not a tensor"),
        })
    }
}

/// The tensor of a request, or JSON with a photograph; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    /// The file of the photograph, if any.
    pub(super) photo: Option<PathBuf>,
    /// The name of the model's input.
    pub(super) input: String,
    pub(super) shape: Vec<usize>,
    pub(super) tensor: Bytes,
    /// Bytes of the tensor in the response.
    pub(super) reply: usize,
}

impl Payload {
    /// A payload for a model that returns at most `width` elements for each row or image; with `None`, as many as it
    /// receives.
    ///
    /// # Errors
    /// For a size that the input cannot have.
    pub(super) fn new(size: Size, input: &Input, width: Option<usize>) -> anyhow::Result<Self> {
        let shape = input.shape(size)?;
        let rows = shape.first().copied().unwrap_or(1);
        let elements = shape.iter().skip(1).product();
        let tensor = Bytes::from(1.0_f32.to_le_bytes().repeat(rows * elements));
        let reply = rows * width.map_or(elements, |width| width.min(elements)) * 4;
        Ok(Self { photo: None, input: input.name().to_owned(), shape, tensor, reply })
    }

    /// The jpeg lane's request for the embedding of this photograph. The size of the response is not known yet.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn photo(path: &Path) -> anyhow::Result<Self> {
        let photo = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let json = serde_json::json!({ "images": [base64_simd::STANDARD.encode_to_string(photo)] });
        let tensor = Bytes::from(json.to_string());
        Ok(Self { photo: Some(path.to_owned()), input: String::new(), shape: Vec::new(), tensor, reply: 0 })
    }

    /// The flag that gives this input to a program that runs the model in process.
    pub(super) fn in_process_flag(&self) -> String {
        match &self.photo {
            Some(path) => format!("--photo={}", path.display()),
            None => format!("--shape={}", self.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",")),
        }
    }

    /// Checks that a response of `answer_bytes` is large enough for the tensor.
    ///
    /// # Errors
    /// When it is too small.
    pub(super) fn check(&self, answer_bytes: usize) -> anyhow::Result<()> {
        let reply = self.reply;
        ensure!(
            answer_bytes >= reply,
            "the response has {answer_bytes} bytes, but its tensor alone should have {reply}"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_photograph_becomes_the_json_of_the_jpeg_lane() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jpg");
        std::fs::write(&path, [255, 216]).unwrap();
        let payload = Payload::photo(&path).unwrap();
        assert_eq!(&payload.tensor[..], br#"{"images":["/9g="]}"#);
        assert_eq!(payload.in_process_flag(), format!("--photo={}", path.display()));
        assert!(Payload::photo(&folder.path().join("b")).unwrap_err().to_string().starts_with("cannot read "));
    }

    #[test]
    fn sizes_match_the_shapes() {
        let bytes = |text: &str, width| {
            let payload = Payload::new(text.parse().unwrap(), &Input::Rows, width).unwrap();
            (payload.tensor.len(), payload.reply)
        };
        assert_eq!(bytes("tiny", None), (64, 64));
        assert_eq!(bytes("1", None), (602_112, 602_112));
        assert_eq!(bytes("32", Some(1000)), (19_267_584, 128_000));
        let images = Input::Images("image".into());
        let payload = Payload::new(Size::Images(8), &images, Some(1512)).unwrap();
        assert_eq!((&payload.shape[..], payload.reply), (&[8, 3, 224, 224][..], 8 * 1512 * 4));
        assert!(
            Payload::new(Size::Tiny, &images, None)
                .unwrap_err()
                .to_string()
                .contains("the input 'image' takes only complete images")
        );
        assert_eq!("photo".parse(), Ok(Size::Photo));
        assert!("0".parse::<Size>().is_err() && "huge".parse::<Size>().is_err());
    }
}
