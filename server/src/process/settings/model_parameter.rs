//! A parameter of models, `KEY=VALUE`, as `parameters` in `config.pbtxt` has it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A parameter for the models whose configuration does not have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelParameter {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// The text is not a parameter.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not a parameter: use KEY=VALUE, such as image_preprocess=letterbox")]
pub struct NotAParameter(String);

impl FromStr for ModelParameter {
    type Err = NotAParameter;

    fn from_str(text: &str) -> Result<Self, NotAParameter> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok(Self { key: key.trim().to_owned(), value: value.trim().to_owned() })
            }
            _ => Err(NotAParameter(text.to_owned())),
        }
    }
}

impl fmt::Display for ModelParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl TryFrom<String> for ModelParameter {
    type Error = NotAParameter;

    fn try_from(text: String) -> Result<Self, NotAParameter> {
        text.parse()
    }
}

impl From<ModelParameter> for String {
    fn from(parameter: ModelParameter) -> Self {
        parameter.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_a_key_and_a_value() {
        let parameter: ModelParameter = "image_mean= 0.5,0.4=x".parse().unwrap();
        assert_eq!((parameter.key.as_str(), parameter.value.as_str()), ("image_mean", "0.5,0.4=x"));
        for wrong in ["", "image_mean", "=1"] {
            assert!(wrong.parse::<ModelParameter>().is_err(), "{wrong:?}");
        }
    }
}
