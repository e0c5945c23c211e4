//! What is sent to a model: photographs, random numbers, zeros or files; and the lengths of dynamic dimensions.

use std::{fmt, path::PathBuf, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the data of a model's inputs comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", from = "String")]
#[schemars(with = "String")]
pub enum Data {
    /// Photographs, as the model's image input takes them.
    #[default]
    Photos,
    /// Random elements: floating from 0 to 1, integers from 0 to 99, BYTES of 16 letters.
    Random,
    /// Zeros; BYTES without content.
    Zero,
    /// Files of a folder, one for each input: NAME.npy, or raw elements in NAME.bin or NAME.
    Folder(PathBuf),
}

impl From<String> for Data {
    fn from(text: String) -> Self {
        match text.as_str() {
            "photos" => Self::Photos,
            "random" => Self::Random,
            "zero" => Self::Zero,
            _ => Self::Folder(text.into()),
        }
    }
}

impl From<Data> for String {
    fn from(data: Data) -> Self {
        data.to_string()
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Photos => f.write_str("photos"),
            Self::Random => f.write_str("random"),
            Self::Zero => f.write_str("zero"),
            Self::Folder(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The shape of an input with dynamic dimensions, as perf_analyzer's `--shape` has it: `ids:1,77`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
#[schemars(with = "String")]
pub struct InputShape {
    /// The input.
    pub name: String,
    /// Its dimensions, with or without that of the batch.
    pub dims: Vec<i64>,
}

/// Why a shape is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the shape of an input: write NAME:1,3,224,224 with dimensions of at least 1")]
pub struct ShapeError(String);

impl FromStr for InputShape {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, ShapeError> {
        let malformed = || ShapeError(text.to_owned());
        // The names of inputs may have a colon.
        let (name, dims) = text.rsplit_once(':').filter(|(name, _)| !name.is_empty()).ok_or_else(malformed)?;
        let dim = |text: &str| text.trim().parse::<i64>().ok().filter(|&dim| dim > 0);
        let dims: Option<Vec<i64>> = dims.split(',').map(dim).collect();
        Ok(Self { name: name.to_owned(), dims: dims.ok_or_else(malformed)? })
    }
}

impl TryFrom<String> for InputShape {
    type Error = ShapeError;

    fn try_from(text: String) -> Result<Self, ShapeError> {
        text.parse()
    }
}

impl fmt::Display for InputShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<_> = self.dims.iter().map(ToString::to_string).collect();
        write!(f, "{}:{}", self.name, dims.join(","))
    }
}

impl From<InputShape> for String {
    fn from(shape: InputShape) -> Self {
        shape.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shapes_are_those_of_perf_analyzer() {
        let shape: InputShape = "input_ids:0:1,3,224,224".parse().unwrap();
        assert_eq!((shape.name.as_str(), &shape.dims[..]), ("input_ids:0", &[1, 3, 224, 224][..]));
        for bad in ["x", ":1", "x:", "x:0", "x:-1", "x:1,,2", "x:1.5", "x:99999999999999999999"] {
            assert!(bad.parse::<InputShape>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn shapes_in_a_report_parse_back(text in "[a-z:/]{1,9}:([0-9]{1,4},){0,3}[0-9]{1,20}|.*") {
            if let Ok(shape) = text.parse::<InputShape>() {
                prop_assert!(shape.dims.iter().all(|&dim| dim > 0));
                prop_assert_eq!(shape.to_string().parse(), Ok(shape));
            }
        }

        #[test]
        fn every_text_names_data(text in ".+") {
            prop_assert_eq!(Data::from(text.clone()).to_string(), text);
        }
    }
}
