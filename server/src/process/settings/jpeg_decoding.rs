//! How JPEGs are decoded.

use quintet_preprocess::JpegDecode;
use serde::{Deserialize, Serialize};

/// How JPEGs are decoded for models that do not say how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum JpegDecoding {
    /// Every pixel, as Pillow does
    Exact,
    /// At a reduced size where the resize throws the rest away
    Scaled,
}

impl From<JpegDecoding> for JpegDecode {
    fn from(decoding: JpegDecoding) -> Self {
        match decoding {
            JpegDecoding::Exact => Self::Exact,
            JpegDecoding::Scaled => Self::Scaled,
        }
    }
}
