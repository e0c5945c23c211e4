//! What is sent: FP32 rows for a model that answers FP32.

use std::{fmt, str::FromStr};

use anyhow::ensure;
use bytes::Bytes;
use serde::{Serialize, Serializer};

/// Name of the model's input.
pub(super) const INPUT: &str = "x";
/// Elements of one image, `[3, 224, 224]`.
const IMAGE_ELEMENTS: usize = 3 * 224 * 224;
/// Elements of the tiny request: 64 bytes.
const TINY_ELEMENTS: usize = 16;

/// How much a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 64 bytes.
    Tiny,
    /// So many images of 602,112 bytes.
    Images(u16),
}

impl Size {
    fn shape(self) -> [usize; 2] {
        match self {
            Self::Tiny => [1, TINY_ELEMENTS],
            Self::Images(count) => [count.into(), IMAGE_ELEMENTS],
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("tiny", _) => Ok(Self::Tiny),
            (_, Ok(count @ 1..=256)) => Ok(Self::Images(count)),
            _ => Err(format!("`{text}` is no payload; write tiny or a number of images up to 256")),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tiny => f.write_str("tiny"),
            Self::Images(count) => write!(f, "{count}"),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A request's tensor; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    size: Size,
    pub(super) tensor: Bytes,
    /// Bytes of the answer's tensor.
    pub(super) reply: usize,
}

impl Payload {
    /// A payload for a model that answers each row with its first `width` elements; all of them if it is `None`.
    pub(super) fn new(size: Size, width: Option<usize>) -> Self {
        let [rows, elements] = size.shape();
        let tensor = Bytes::from(1.0_f32.to_le_bytes().repeat(rows * elements));
        Self { size, tensor, reply: rows * width.map_or(elements, |width| width.min(elements)) * 4 }
    }

    pub(super) fn shape(&self) -> [usize; 2] {
        self.size.shape()
    }

    /// Whether an answer of so many bytes holds the tensor.
    ///
    /// # Errors
    /// When it is too small to.
    pub(super) fn check(&self, answer_bytes: usize) -> anyhow::Result<()> {
        let reply = self.reply;
        ensure!(answer_bytes >= reply, "the answer has {answer_bytes} bytes, but its tensor alone should have {reply}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_images() {
        let bytes = |text: &str, width| {
            let payload = Payload::new(text.parse().unwrap(), width);
            (payload.tensor.len(), payload.reply)
        };
        assert_eq!(bytes("tiny", None), (64, 64));
        assert_eq!(bytes("1", None), (602_112, 602_112));
        assert_eq!(bytes("32", Some(1000)), (19_267_584, 128_000));
        assert!("0".parse::<Size>().is_err() && "huge".parse::<Size>().is_err());
    }
}
