//! A library with an execution provider, `NAME=PATH`.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

/// A library with an execution provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EpLibrary {
    /// The name to register it with; `tensorrt-rtx` and `openvino` are those of their providers.
    pub name: String,
    /// The library.
    pub path: PathBuf,
}

/// The text is not a library with its name.
#[derive(Debug, thiserror::Error)]
#[error(
    "'{0}' is not a library with its name: use NAME=PATH, such as openvino=/opt/libonnxruntime_providers_openvino_plugin.so"
)]
pub struct NotALibrary(String);

impl FromStr for EpLibrary {
    type Err = NotALibrary;

    fn from_str(text: &str) -> Result<Self, NotALibrary> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() && !text.contains('\0') => {
                Ok(Self { name: name.to_owned(), path: path.into() })
            }
            _ => Err(NotALibrary(text.to_owned())),
        }
    }
}

impl fmt::Display for EpLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.path.display())
    }
}

impl TryFrom<String> for EpLibrary {
    type Error = NotALibrary;

    fn try_from(text: String) -> Result<Self, NotALibrary> {
        text.parse()
    }
}

impl From<EpLibrary> for String {
    fn from(library: EpLibrary) -> Self {
        library.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_a_name_and_a_path() {
        let library: EpLibrary = "openvino=/opt/a=b.so".parse().unwrap();
        assert_eq!((library.name.as_str(), library.path.to_str()), ("openvino", Some("/opt/a=b.so")));
        assert_eq!(library.to_string(), "openvino=/opt/a=b.so");
        for wrong in ["", "openvino", "=/opt/a.so", "openvino=", "a\0b=c"] {
            assert!(wrong.parse::<EpLibrary>().is_err(), "{wrong:?}");
        }
    }
}
